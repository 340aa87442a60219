"""A LAN made of namespaces: a segment, a host that netkit runs on, a router, a foreign neighbour.

nk-..-lan:  seg (a bridge)
             |-- nk-..        eth0   10.211.55.3   the host
             |-- nk-..-gw     eth0   10.211.55.1   the router
             |-- nk-..-other  eth0   10.211.55.50  a machine of another owner
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from netkit.driver import Endpoint, Network, Subnet, derive_mac
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.model import Netns, Resource, state
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Plan
from plugins.lan import Lan

SUBNET = Subnet(
    cidr=IPv4Network("10.211.55.0/24"),
    gateway=IPv4Address("10.211.55.1"),
    ip_range=IPv4Network("10.211.55.128/26"),
)
ROUTER, OTHER, HOST = "10.211.55.1", "10.211.55.50", "10.211.55.3"


@dataclass
class LanBox:
    name: str
    handovers: Path

    @property
    def home(self) -> str:
        return self.at("")

    @property
    def folder(self) -> str:
        return f"/run/{self.name}"

    def at(self, which: str) -> str:
        return f"/run/netns/{self.name}{'-' if which else ''}{which}"

    def host(self) -> Host:
        return Host(self.home, namespaces=self.folder, variant="nft", handovers=str(self.handovers))

    def tried(self, *argv: str, at: str = "") -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--net={at or self.home}", *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def run(self, line: str, at: str = "") -> str:
        done = self.tried(*line.split(), at=at)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def pings(self, target: str, at: str = "", seconds: int = 4) -> bool:
        """Return whether one ping is answered within `seconds`.

        By default ARP has time to ask again: it asks once a second, and a ping just after one in
        vain may wait nearly that long.
        """
        return self.tried("busybox", "ping", "-c1", f"-W{seconds}", target, at=at).returncode == 0

    def make(self, *resources: Resource) -> Plan:
        desired = state(resources)
        return converge(Change.of(desired), self.host(), ownership("0", self.folder))

    def drop(self, *resources: Resource) -> Plan:
        change = Change.of({}, state(resources))
        return converge(change, self.host(), ownership("0", self.folder))

    def addressing(self, dev: str) -> tuple[list[str], list[str]]:
        """Return addresses of a link and routes through it, as ip shows them, without its name."""
        addresses = self.run(f"ip -4 -o addr show dev {dev}").splitlines()
        words = [" ".join(a.split()[3:]).replace(f"{dev}\\", "NIC") for a in addresses]
        routes = self.run("ip -4 route show table all").splitlines()
        through = [r.strip() for r in routes if f" dev {dev} " in f"{r} "]
        named = sorted(r.replace(f"dev {dev}", "NIC") for r in through)
        return words, named


@contextmanager
def lan_box(handovers: Path) -> Iterator[LanBox]:
    box = LanBox(f"nk-{secrets.token_hex(3)}", handovers)
    with ExitStack() as undo:
        for which in ("lan", "", "gw", "other"):
            netns.create(box.at(which))
            undo.callback(netns.remove, box.at(which))
        undo.callback(_remove_containers, box)
        segment = box.at("lan")
        box.run("ip link add seg type bridge", at=segment)
        box.run("ip link set seg up", at=segment)
        for which, address in (("", HOST), ("gw", ROUTER), ("other", OTHER)):
            port = f"to-{which or 'host'}"
            box.run(
                f"ip link add {port} type veth peer name eth0 netns {Path(box.at(which)).name}",
                at=segment,
            )
            box.run(f"ip link set {port} master seg up", at=segment)
            box.run(f"ip addr add {address}/24 brd + dev eth0", at=box.at(which))
            box.run("ip link set eth0 up", at=box.at(which))
        box.run(f"ip route add default via {ROUTER}")
        yield box


def _remove_containers(box: LanBox) -> None:
    for path in netns.inside_folder(box.folder):
        netns.remove(path)
    if Path(box.folder).exists():
        Path(box.folder).rmdir()


def lan0(**options: str) -> Network:
    given = {k.replace("__", "."): v for k, v in (options or {"parent": "eth0"}).items()}
    return Network(
        id="aaaaaaaaaaaa" + "0" * 52,
        name="lan0",
        driver="lan",
        subnets=(SUBNET,),
        options=Lan().parse(given),
        engine="0",
    )


def container(box: LanBox, net: Network, n: int) -> list[Resource]:
    """Return the resources of the n-th container, at 10.211.55.(128 + n)."""
    ep = endpoint(box, net, n)
    return [Netns(path=ep.ns, owner=ep.owner(net)), *Lan().endpoint(net, ep)]


def endpoint(box: LanBox, net: Network, n: int) -> Endpoint:
    address = IPv4Interface(f"10.211.55.{128 + n}/24")
    return Endpoint(
        id=f"{n:064x}"[::-1],
        network=net.id,
        addresses=(address,),
        mac=derive_mac(net.id, str(address)),
        ns=f"{box.folder}/c{n}",
        ifname="eth0",
        gateway=True,
        router=IPv4Address(ROUTER),
    )
