"""Who reaches whom, packet by packet: the rules of plugins.firewall in a namespace of their own.

far --- lan0 | host (the lab) | one: web 172.18.0.2, mate 172.18.0.3
198.51.100.9 | 198.51.100.1   | two: other 172.19.0.2
                              | in:  inner (internal)
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.converge import ownership
from netkit.driver import PortMapping
from netkit.kernel import netns
from netkit.kernel.worker import Worker
from netkit.networks import Networks
from netkit.ports import HostPorts
from netkit.settings import Settings
from netkit.spec import EndpointSpec, NetworkSpec, PortSpec, Sandbox
from netkit.store import Database
from plugins.bridge import Bridge
from plugins.firewall import Iptables
from plugins.host import Host as HostDriver
from plugins.none import Null

from .conftest import Lab

pytestmark = pytest.mark.root
FAR, LAN = "198.51.100.9", "198.51.100.1"
ICC = "com.docker.network.bridge.enable_icc"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
SHORT = 0.4  # seconds after which a packet is taken for dropped


class LabPorts(HostPorts):
    """Binds in the lab's namespace, where its daemon would live."""

    home = ""

    def reserve(
        self, holder: str, specs: Sequence[PortSpec], target: str
    ) -> tuple[PortMapping, ...]:
        with netns.inside(self.home):
            return super().reserve(holder, specs, target)


@dataclass
class Town:
    lab: Lab
    net: Networks
    listeners: list[socket.socket]

    def ns(self, who: str) -> str:
        """Of the neighbour: not below the folder of netkit, which would sweep it."""
        return {"host": self.lab.home, "far": f"{self.lab.home}-far"}.get(who, self.lab.ns(who))

    def serve(self, who: str, port: int, ip: str = "0.0.0.0") -> None:
        """Tell everybody who comes by which address he is seen."""
        with netns.inside(self.ns(who)):
            s = socket.create_server((ip, port))
        self.listeners.append(s)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    peer, address = s.accept()
                    with peer:
                        peer.sendall(f"{who} {address[0]}".encode())

        threading.Thread(target=answer, daemon=True).start()

    def ask(self, who: str, ip: str, port: int) -> str:
        """ "<server> <client's address as it saw it>", or "" if nobody answers."""
        with netns.inside(self.ns(who)):
            try:
                with socket.create_connection((ip, port), SHORT) as s:
                    return s.recv(99).decode()
            except OSError:
                return ""

    def open(self, name: str, network: str, *ports: PortSpec) -> str:
        box = Sandbox(id=name.encode().hex().ljust(64, "0"), name=name, ns=self.ns(name))
        want = EndpointSpec(network=self.net.find(network).id)
        (record,) = self.net.open(box, [want], ports)
        return record.address.split("/")[0]

    def names(self) -> set[str]:
        return {line.split(":")[1].strip().split("@")[0]
                for line in self.lab.run("ip", "-o", "link").splitlines()}  # fmt: skip


def tcp(inside: int, host: int, ip: str = "") -> PortSpec:
    return PortSpec(proto="tcp", container_port=inside, host_ip=ip, host_first=host, host_last=host)


@pytest.fixture
def far(lab: Lab) -> Iterator[str]:
    path = f"{lab.home}-far"
    netns.create(path)
    yield path
    netns.remove(path)


@pytest.fixture(params=["nft", "legacy", "nft, bridges filtered"])
def town(
    request: pytest.FixtureRequest, lab: Lab, far: str, tmp_path: Path
) -> Iterator[Town]:
    seen = "1" if "filtered" in request.param else "0"
    knob = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    with netns.inside(lab.home):
        if not knob.exists() and seen == "1":
            pytest.skip("no br_netfilter here")
        if knob.exists():
            knob.write_text(seen)
    peer = ("type", "veth", "peer", "name", "lan0", "netns", far)
    lab.run("ip", "link", "add", "lan0", *peer)
    lab.run("ip", "addr", "add", f"{LAN}/24", "dev", "lan0")
    lab.run("ip", "link", "set", "lan0", "up")
    lab.run("ip", "addr", "add", f"{FAR}/24", "dev", "lan0", at=far)
    lab.run("ip", "link", "set", "lan0", "up", at=far)
    for cidr in ("172.16.0.0/12", "127.0.0.0/8"):  # a neighbour who knows too much
        table = ("table", "100") if cidr.startswith("127") else ()
        lab.run("ip", "route", "add", cidr, "via", LAN, *table, at=far)
    variant = "legacy" if request.param == "legacy" else "nft"
    host, database, ports = lab.host(variant), Database(tmp_path / "db"), LabPorts()
    ports.home = lab.home
    with Worker(host, ownership("0", lab.folder)) as worker:
        drivers = {"bridge": Bridge(), "host": HostDriver(), "null": Null()}
        net = Networks(database, worker, drivers, Iptables(), engine="0", ports=ports,
                       settings=Settings())  # fmt: skip
        net.start()
        t = Town(lab, net, [])
        yield t
        for s in t.listeners:
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
        for e in net.endpoints():
            net.close(e.sandbox)
    database.close()


def test_the_matrix_of_access(town: Town) -> None:
    for name in ("one", "two"):
        town.net.create(NetworkSpec(name=name))
    web = town.open("web", "one", tcp(80, 8080), tcp(81, 8181, "127.0.0.1"), tcp(82, 8282, LAN))
    town.open("mate", "one")
    town.open("other", "two")
    for port in (80, 81, 82, 99):
        town.serve("web", port)
    town.serve("host", 7777, "127.0.0.1")
    town.serve("far", 80)
    bridge = "172.18.0.1"
    answers = {
        ("host", web, 80): f"web {bridge}",
        ("host", web, 99): f"web {bridge}",
        ("host", "127.0.0.1", 8080): f"web {bridge}",
        ("host", LAN, 8080): f"web {bridge}",
        ("host", "127.0.0.1", 8181): f"web {bridge}",
        ("host", LAN, 8282): f"web {bridge}",
        ("mate", web, 80): "web 172.18.0.3",
        ("mate", web, 99): "web 172.18.0.3",
        ("mate", bridge, 8080): f"web {bridge}",
        ("mate", LAN, 8080): f"web {bridge}",
        ("mate", LAN, 8282): f"web {bridge}",
        ("web", LAN, 8080): f"web {bridge}",  # itself, the long way
        ("other", LAN, 8080): f"web {bridge}",
        ("far", LAN, 8080): f"web {FAR}",
        ("far", LAN, 8282): f"web {FAR}",
        ("web", FAR, 80): f"far {LAN}",
        ("other", FAR, 80): f"far {LAN}",
        # and who must not
        ("other", web, 80): "",
        ("other", web, 99): "",
        ("far", web, 80): "",
        ("far", web, 99): "",
        ("far", LAN, 8181): "",
        ("host", LAN, 8181): "",
        ("host", "127.0.0.1", 8282): "",
        ("mate", bridge, 8181): "",
        ("mate", bridge, 7777): "",
    }
    got = {(who, ip, port): town.ask(who, ip, port) for who, ip, port in answers}
    assert got == answers


def test_loopback_of_the_host_is_out_of_reach_however_one_tries(town: Town) -> None:
    """With route_localnet on our bridge, only the guard in raw stands between."""
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(81, 8181, "127.0.0.1"), tcp(80, 8080))
    town.serve("web", 80)
    town.serve("web", 81)
    town.serve("host", 7777, "127.0.0.1")
    for who, gateway in (("web", "172.18.0.1"), ("far", LAN)):
        dev = "eth0" if who == "web" else "lan0"
        at = town.ns(who)
        for name in ("all", dev):
            town.lab.run("sysctl", "-qw", f"net.ipv4.conf.{name}.route_localnet=1", at=at)
        town.lab.run("ip", "rule", "add", "pref", "1", "lookup", "local", at=at)
        town.lab.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo", at=at)
        town.lab.run("ip", "route", "add", "127.0.0.1/32", "via", gateway, "dev", dev, at=at)
        for port in (7777, 8181, 8080):
            assert town.ask(who, "127.0.0.1", port) == "", (who, port)
    guards = town.lab.run(
        "iptables-legacy" if _legacy(town) else "iptables-nft", "-t", "raw", "-vxnL", "PREROUTING"
    )
    dropped = [int(line.split()[0]) for line in guards.splitlines() if "DROP" in line]
    assert max(dropped) > 0  # packets did come, and were dropped here


def test_internal_networks_reach_nobody_else(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.net.create(NetworkSpec(name="in", internal=True))
    web = town.open("web", "one", tcp(80, 8080))
    inner = town.open("inner", "in")
    town.open("inner2", "in")
    for who in ("web", "inner", "far"):
        town.serve(who, 80)
    at = town.ns("inner")
    town.lab.run("ip", "route", "add", "default", "via", "172.19.0.1", at=at)  # by its own means
    assert town.ask("inner2", inner, 80) == "inner 172.19.0.3"
    assert town.ask("host", inner, 80) == "inner 172.19.0.1"
    for who, ip, port in (
        ("inner", FAR, 80), ("inner", web, 80), ("inner", LAN, 8080),
        ("web", inner, 80), ("far", inner, 80),
    ):  # fmt: skip
        assert town.ask(who, ip, port) == "", (who, ip, port)


def test_without_icc_only_published_ports_of_neighbours_are_reached(
    town: Town, request: pytest.FixtureRequest
) -> None:
    town.net.create(NetworkSpec(name="one", options={ICC: "false"}))
    web = town.open("web", "one", tcp(80, 8080))
    town.open("mate", "one")
    town.serve("web", 80)
    town.serve("far", 80)
    assert town.ask("mate", web, 80) == ""
    at = town.ns("mate")
    town.lab.run("ip", "route", "add", f"{web}/32", "via", "172.18.0.1", at=at)
    assert town.ask("mate", web, 80) == ""  # nor by a detour
    assert town.ask("mate", FAR, 80) == f"far {LAN}"
    assert town.ask("far", LAN, 8080) == f"web {FAR}"
    if "filtered" not in request.node.name:  # there, translated frames stay on the bridge
        assert town.ask("mate", LAN, 8080) == "web 172.18.0.1"


def test_a_routed_network_opens_its_ports_at_the_container(town: Town) -> None:
    town.net.create(NetworkSpec(name="one", options={MODE: "routed"}))
    web = town.open("web", "one", tcp(80, 8080))
    town.serve("web", 80)
    town.serve("web", 99)
    assert town.ask("far", web, 80) == f"web {FAR}"
    assert town.ask("far", web, 99) == ""
    assert town.ask("far", LAN, 8080) == ""


def test_trusted_interfaces_and_unprotected_networks(town: Town) -> None:
    town.net.create(NetworkSpec(name="one", options={TRUSTED: "lan0"}))
    town.net.create(NetworkSpec(name="two", options={MODE: "nat-unprotected"}))
    one = town.open("web", "one", tcp(80, 8080))
    two = town.open("open", "two", tcp(80, 8081))
    for who in ("web", "open"):
        town.serve(who, 80)
        town.serve(who, 99)
    assert [town.ask("far", ip, p) for ip in (one, two) for p in (80, 99)] == [
        f"web {FAR}", "", f"open {FAR}", f"open {FAR}",
    ]  # fmt: skip
    assert town.ask("far", LAN, 8081) == f"open {FAR}"


def test_all_of_it_goes_again_and_docker_user_is_the_administrators(town: Town) -> None:
    tool = "iptables-legacy" if _legacy(town) else "iptables-nft"
    town.lab.run(tool, "-A", "DOCKER-USER", "-s", "203.0.113.5", "-j", "DROP")
    before = (town.lab.run(f"{tool}-save").splitlines(), town.names())
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(80, 8080), tcp(81, 8181, "127.0.0.1"))
    forward = [line for line in town.lab.run(tool, "-S", "FORWARD").splitlines() if "-A" in line]
    assert ["DOCKER-USER" in forward[0], "DOCKER-FORWARD" in forward[1]] == [True, True]
    assert "-P FORWARD ACCEPT" in town.lab.run(tool, "-S", "FORWARD")
    for e in town.net.endpoints():
        town.net.close(e.sandbox)
    town.net.remove("one")
    after = (town.lab.run(f"{tool}-save").splitlines(), town.names())

    def plain(lines: list[str]) -> list[str]:
        return [line.split(" [")[0] for line in lines if not line.startswith("#")]

    assert (plain(after[0]), after[1]) == (plain(before[0]), before[1])


def _legacy(town: Town) -> bool:
    return town.net._parts.converger._kernel.variant == "legacy"  # type: ignore[attr-defined]
