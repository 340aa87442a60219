"""Hosts on one underlay, with weave networks whose tables are fed by hand.

h1 eth0 192.0.2.1 --+
h2 eth0 192.0.2.2 --+-- bridge wire, in a namespace of its own
...
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_interface, ip_network
from pathlib import Path

from netkit.driver import Endpoint, Network, Subnet
from netkit.kernel import netns
from netkit.kernel.host import Host as Kernel
from netkit.model import Addr, Link, Netns, Peer, Resource, state
from netkit.overlay.fabric import Fabric, Member, NetworkTable, Reach, Table
from netkit.overlay.fabric import Path as Way
from netkit.reconcile.converge import Change, converge, ownership
from plugins.weave.driver import Weave, bridge_name, host_mac, tap_name, vni_of, vxlan_name

CIDR = ip_network("10.32.0.0/16")
DRIVER = Weave()


@dataclass
class WeaveHost:
    number: int
    home: str
    folder: str
    kernel: Kernel
    fabric: Fabric
    networks: dict[str, Network] = field(default_factory=dict)
    local: list[tuple[str, Member]] = field(default_factory=list)  # on which network

    @property
    def ip(self) -> IPv4Address:
        return IPv4Address(f"192.0.2.{self.number}")

    @property
    def peer(self) -> str:
        return f"h{self.number}"

    def ns(self, container: str) -> str:
        return f"{self.folder}/{container}"

    def make(self, *resources: Resource) -> None:
        converge(Change.of(state(resources)), self.kernel, ownership("0", self.folder))

    def join(self, name: str, **options: str) -> Network:
        """Make a network here; hosts agree on it by its name."""
        net = Network(
            id=secrets.token_hex(32), name=name, driver="weave",
            subnets=(Subnet(cidr=CIDR, gateway=CIDR[self.number]),),
            options=DRIVER.parse(options),
        )  # fmt: skip
        self.networks[name] = net
        self.make(*DRIVER.network(net))
        if options.get("expose"):
            own = Member(mac=host_mac(net), addresses=(CIDR[self.number],), peer=self.peer)
            self.local.append((name, own))
        return net

    def run(self, name: str, container: str, address: str = "", mac: str = "") -> Member:
        """Start a container on a network; its number is the last of its name."""
        number = int(container[1:])
        address = address or f"10.32.{self.number}.{number}"
        mac = mac or f"02:42:0a:20:{self.number:02x}:{number:02x}"
        net = self.networks[name]
        ep = Endpoint(
            id=secrets.token_hex(32), network=net.id, addresses=(ip_interface(f"{address}/16"),),
            mac=mac, ns=self.ns(container), ifname="eth0",
        )  # fmt: skip
        space = Netns(path=ep.ns, owner=f"netkit:0:{ep.id[:12]}")
        self.make(space, *DRIVER.endpoint(net, ep))
        member = Member(mac=mac, addresses=(IPv4Address(address),), peer=self.peer)
        self.local.append((name, member))
        return member

    def sh(self, *argv: str, at: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program in the host's namespace, or in a container's."""
        place = self.ns(at) if at else self.home
        return subprocess.run(
            ["nsenter", f"--net={place}", *argv], capture_output=True, text=True, timeout=60
        )

    def did(self, *argv: str, at: str = "") -> str:
        done = self.sh(*argv, at=at)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def pings(self, container: str, address: str, *more: str, seconds: int = 4) -> bool:
        """Return whether one ping is answered within `seconds`.

        By default ARP has time to ask again: it asks once a second, and a ping just after one in
        vain may wait nearly that long.
        """
        argv = ("busybox", "ping", "-c", "1", "-W", str(seconds), *more, address)
        return self.sh(*argv, at=container).returncode == 0

    def links(self, name: str) -> tuple[str, str, str]:
        """Names of the bridge, the TAP and the VXLAN device."""
        net = self.networks[name]
        return bridge_name(net), tap_name(net), vxlan_name(net) or ""


@dataclass
class Town:
    name: str
    hosts: list[WeaveHost]

    @property
    def wire(self) -> str:
        return f"/run/netns/{self.name}-wire"

    def table(self, host: WeaveHost, ways: dict[str, Way] | None = None) -> Table:
        """What `host` is to know of the others: with each by fastdp, unless `ways` says else."""
        ways = ways or {}
        nets = []
        for name, net in host.networks.items():
            members = tuple(m for h in self.hosts if h is not host for n, m in h.local if n == name)
            bridge, tap, vxlan = bridge_name(net), tap_name(net), vxlan_name(net)
            nets.append(NetworkTable(
                vni=vni_of(net), bridge=bridge, tap=tap, vxlan=vxlan, members=members
            ))  # fmt: skip
        peers = {
            h.peer: Reach(path=ways.get(h.peer, "fastdp"), address=h.ip, sources=frozenset({h.ip}))
            for h in self.hosts if h is not host
        }  # fmt: skip
        return Table(networks=tuple(nets), peers=peers)

    def tell(self) -> None:
        """Give every host its table."""
        for host in self.hosts:
            outcome = host.fabric.apply(self.table(host))
            assert (outcome.problems, outcome.no_fastdp) == ((), "")


@contextmanager
def town(size: int) -> Iterator[Town]:
    name = f"nk-{secrets.token_hex(3)}"
    made = Town(name, [])
    with ExitStack() as stack:
        stack.callback(_clear, name, size)
        netns.create(made.wire)
        wires = Kernel(made.wire)
        stack.callback(wires.close)
        _apply(wires, Link(name="wire", kind="bridge"))
        for n in range(1, size + 1):
            home, folder = f"/run/netns/{name}-h{n}", f"/run/{name}-h{n}"
            netns.create(home)
            port = Link(name=f"u{n}", kind="veth", peer=Peer(ns=home, name="eth0"), master="wire")
            _apply(wires, port)
            kernel, fabric = Kernel(home, namespaces=folder), Fabric(home)
            stack.callback(kernel.close)
            stack.callback(fabric.close)
            host = WeaveHost(n, home, folder, kernel, fabric)
            _apply(kernel, Addr(dev="eth0", address=ip_interface(f"192.0.2.{n}/24")))
            made.hosts.append(host)
        yield made


def _apply(kernel: Kernel, *resources: Resource) -> None:
    ours = [replace(r, owner="netkit:0:town") for r in resources]
    converge(Change.of(state(ours)), kernel, ownership("0", "/run/nowhere"))


def _clear(name: str, size: int) -> None:
    for n in range(1, size + 1):
        folder = Path(f"/run/{name}-h{n}")
        for path in (*netns.inside_folder(str(folder)), f"/run/netns/{name}-h{n}"):
            netns.remove(path)
        if folder.exists():
            folder.rmdir()
    netns.remove(f"/run/netns/{name}-wire")
