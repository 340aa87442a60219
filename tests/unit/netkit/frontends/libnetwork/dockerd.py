"""A dockerd for tests: the calls that 20.10 was recorded to make, in its order, to the handlers."""

from __future__ import annotations

import itertools
import json
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from netkit.frontends.libnetwork import frontend
from netkit.ipam.pools import DEFAULT_POOLS
from netkit.network.config import NetworkConfig
from netkit.testing.kernel import NETNS
from tests.unit.netkit.network.test_controller import IP, Bench

TOKENS = (f"{n:064x}" for n in itertools.count(1 << 64))
KEY = "/var/run/docker/netns/0123456789ab"


def id_of(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


class Calls(Bench):
    """What dockerd calls on one host."""

    clock = 1000
    occupied: tuple[IPv4Network, ...] = ()

    def begin(self) -> None:
        """Make the front end, of a netkitd that has just started."""
        self.front = frontend.build(
            self.database,
            self.net,
            pools=DEFAULT_POOLS,
            occupied=lambda: self.occupied,
            token=lambda: next(TOKENS),
            now=lambda: self.clock,
        )

    def ipam(self, method: str, **fields: Any) -> dict[str, Any]:
        return self.call("", f"/IpamDriver.{method}", fields)

    def driver(self, method: str, driver: str = "bridge", **fields: Any) -> dict[str, Any]:
        return self.call(driver, f"/NetworkDriver.{method}", fields)

    def call(self, driver: str, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        answer = self.front.plugin.call(driver, path, json.dumps(fields).encode())
        found = json.loads(answer.body)
        assert answer.status == (500 if not driver and "Err" in found else 200)
        return found

    # what dockerd does for one command

    def network_create(
        self, name: str, *, driver: str = "bridge", subnet: str = "", ip_range: str = "",
        gateway: str = "", internal: bool = False, ipam: bool = True, **options: str,
    ) -> dict[str, Any]:  # fmt: skip
        """The answer to CreateNetwork; `options` have "__" for a dot in their names."""
        given = {k.replace("__", "."): v for k, v in options.items()}
        opts: dict[str, Any] = {
            "com.docker.network.enable_ipv6": False, "com.docker.network.generic": given
        }  # fmt: skip
        if internal:
            opts["com.docker.network.internal"] = True
        data = {"AddressSpace": "null", "Pool": "0.0.0.0/0"}
        if ipam:
            pool = self.ipam(
                "RequestPool", AddressSpace="netkit-local", Pool=subnet, SubPool=ip_range,
                Options={}, V6=False,
            )  # fmt: skip
            if "Err" in pool:
                return pool
            self.pool = pool["PoolID"]
            kind = {"RequestAddressType": "com.docker.network.gateway"}
            at = self.ipam("RequestAddress", PoolID=self.pool, Address=gateway, Options=kind)
            data = {"AddressSpace": "netkit-local", "Pool": pool["Pool"], "Gateway": at["Address"]}
        return self.driver(
            "CreateNetwork", driver, NetworkID=id_of(name), Options=opts, IPv4Data=[data],
            IPv6Data=[],
        )  # fmt: skip

    def network_rm(self, name: str, gateway: str = "", driver: str = "bridge") -> None:
        if gateway:
            self.ipam("ReleaseAddress", PoolID=self.pool, Address=gateway)
            self.ipam("ReleasePool", PoolID=self.pool)
        assert self.driver("DeleteNetwork", driver, NetworkID=id_of(name)) == {}

    def create(self, net: str, name: str, address: str = "", mac: str = "") -> dict[str, Any]:
        interface = {"Address": address, "AddressIPv6": "", "MacAddress": mac}
        return self.driver(
            "CreateEndpoint", NetworkID=id_of(net), EndpointID=id_of(name), Interface=interface,
            Options={},
        )  # fmt: skip

    def join(self, net: str, name: str) -> dict[str, Any]:
        return self.driver(
            "Join", NetworkID=id_of(net), EndpointID=id_of(name), SandboxKey=KEY, Options={}
        )

    def of_endpoint(self, method: str, net: str, name: str, **more: Any) -> dict[str, Any]:
        return self.driver(method, NetworkID=id_of(net), EndpointID=id_of(name), **more)

    def publish(self, net: str, name: str, *ports: tuple[int, int]) -> dict[str, Any]:
        portmap = [
            {"Proto": 6, "IP": "", "Port": inside, "HostIP": "", "HostPort": host,
             "HostPortEnd": host}
            for inside, host in ports
        ]  # fmt: skip
        return self.of_endpoint(
            "ProgramExternalConnectivity", net, name,
            Options={"com.docker.network.portmap": portmap},
        )  # fmt: skip

    def run(self, net: str, name: str, *ports: tuple[int, int], ip: str = "") -> str:
        """`docker run`; the container's address with prefix length."""
        got = self.ipam("RequestAddress", PoolID=self.pool, Address=ip, Options=None)
        address = str(got["Address"])
        self.create(net, name, address)
        self.join(net, name)
        assert self.publish(net, name, *ports) == {}
        assert self.of_endpoint("EndpointOperInfo", net, name) == {"Value": {}}
        return address

    def stop(self, net: str, name: str, address: str) -> None:
        for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
            assert self.of_endpoint(method, net, name) == {}
        self.release(address)

    def release(self, address: str) -> None:
        text = address.partition("/")[0]
        assert self.ipam("ReleaseAddress", PoolID=self.pool, Address=text) == {}

    def reserved(self) -> int:
        """Count the addresses that containers have, or may have next."""
        rows = self.database.rows(
            "SELECT count(*) AS n FROM addresses WHERE kind IN ('lease', 'static')"
        )
        return int(rows[0]["n"])

    def sandbox(self, name: str) -> str:
        """The id of the sandbox of an endpoint."""
        row = self.front.tables.endpoint(id_of(name))
        assert row is not None
        return row.sandbox

    def docker_rows(self) -> list[str]:
        """What is stored for dockerd."""
        names = ("networks", "endpoints", "pools", "leases")
        return [
            f"{name} {tuple(row)}"
            for name in names
            for row in self.database.rows(f"SELECT * FROM docker_{name}")
        ]


class Host(Calls):
    """One host with netkit as dockerd's plugin."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, NetworkConfig(ip=IP))
        self.net.start()
        self.begin()

    def restarted(self) -> None:
        """netkitd was killed with everything in its memory, and started again."""
        self.killed()
        self.begin()
        self.net.restore(self.front.live())
        self.front.recover()


__all__ = ["KEY", "NETNS", "Calls", "Host", "id_of"]
