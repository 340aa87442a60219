"""A model's world made real: networks, containers without programs, neighbours on a LAN.

outside (a namespace with all neighbours) --- lan0 | the lab's host | bridges | containers
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType

from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.live import look
from netkit.driver import Firewall, ifname
from netkit.kernel import netns
from netkit.network.access import AccessRule
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.reconcile.converge import Kernel, ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.spec import (
    EndpointRecord,
    EndpointSpec,
    LinkedPorts,
    NetworkSpec,
    PortSpec,
    Sandbox,
    SubnetSpec,
)
from netkit.store import Database
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.host import Host as HostDriver
from plugins.lan import Lan
from plugins.none import Null
from runtime.network.known_networks import known_networks
from tests.netns.conftest import Lab
from tests.netns.home_ports import HomePorts
from tests.reach.model import Box, Net, World
from tests.reach.probe import Service

LAYOUTS = (Iptables.layout, Nftables.layout)
LAN = IPv4Address("198.51.100.1")
OPTION = "com.docker.network.bridge."


@dataclass
class Town:
    lab: Lab
    world: World
    firewall: Firewall
    kernel: Kernel
    database: Database
    ports: HomePorts
    worker: ReconcileQueue
    random: Callable[[int], int]  # makes ids
    bridged: Mapping[str, NetworkSpec]  # networks on br0, which has lan0
    net: Controller = field(init=False)

    @property
    def outside(self) -> str:
        return f"{self.lab.home}-far"

    def ns(self, who: str) -> str:
        if who == "host":
            return self.lab.home
        return self.lab.ns(who) if who in self.world.boxes else self.outside

    def start(self, live: Sequence[str] = ()) -> None:
        """Start the networks from the rows of the database, as a new daemon does."""
        drivers = {"bridge": Bridge(), "host": HostDriver(), "null": Null(), "lan": Lan()}
        self.net = Controller(
            self.database,
            self.worker,
            drivers,
            self.firewall,
            engine="0",
            ports=self.ports,
            settings=NetworkConfig(),
            random=self.random,
        )
        self.net.restore({sandbox(self, n).id: sandbox(self, n) for n in live})

    def restart(self) -> None:
        self.ports = HomePorts(self.lab.home)
        self.start(live=tuple(self.world.boxes))

    def build(self) -> None:
        for n in self.world.nets.values():
            self.net.create(self.bridged.get(n.name) or spec_of(n))
        for box in self.world.boxes.values():
            self._open(box)
        for r in self.world.rules:
            self.net.add_access_rule(
                AccessRule(
                    verdict=r.verdict,
                    target=sandbox(self, r.box).id,
                    sources=tuple(str(n) for n in (r.source, *r.more)),
                    proto=r.proto,
                    first=r.first,
                    last=r.last,
                    published=r.published,
                )
            )

    def _open(self, box: Box) -> None:
        ports = [
            PortSpec(
                proto=p.proto,
                container_port=p.inside,
                host_ip=str(p.ip),
                host_first=p.outside,
                host_last=p.outside,
            )
            for p in self.world.ports
            if p.box == box.name
        ]
        wants = [
            EndpointSpec(
                network=self.net.find(net).id,
                ip=str(address),
                opens=tuple(
                    LinkedPorts(sandbox=sandbox(self, k.child).id, ports=((k.proto, k.port),))
                    for k in self.world.links
                    if (k.parent, k.net) == (box.name, net)
                ),
                gw_priority=1 if net == box.default else 0,
            )
            for net, address in box.homes.items()
        ]
        self.net.open(sandbox(self, box.name), wants, ports)

    def facts(self) -> Facts:
        boxes = {sandbox(self, n).id: self.lab.ns(n) for n in self.world.boxes}
        return look(
            self.lab.home,
            known_networks(self.net),
            self.net.endpoints(),
            boxes.__getitem__,
            self.net.rule_origins(),
            LAYOUTS,
        )

    def bridge(self, who: str) -> str:
        """Return the host's interface on the first network of a container."""
        network = next(iter(self.world.boxes[who].homes))
        return ifname("br-", self.net.find(network).id)

    def port(self, who: str) -> str:
        """Return the host's end of the first veth pair of a container."""
        return ifname("veth", self._endpoint(who).id)

    def hardware(self, who: str) -> str:
        """Return the MAC address of a container on its first network."""
        return self._endpoint(who).mac

    def _endpoint(self, who: str) -> EndpointRecord:
        network = self.net.find(next(iter(self.world.boxes[who].homes))).id
        return self.net.endpoints(sandbox=sandbox(self, who).id, network=network)[0]

    def send_datagram(self, who: str, port: int, payload: bytes) -> None:
        """Send a datagram from the host."""
        address = next(iter(self.world.boxes[who].homes.values()))
        with netns.inside(self.lab.home):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.sendto(payload, (str(address), port))

    def mac(self, link: str) -> str:
        """Return the MAC address of an interface of the host."""
        return str(json.loads(self.lab.run("ip", "-j", "link", "show", link))[0]["address"])

    def places(self) -> dict[str, tuple[str, str]]:
        """Return where probes start: namespace, and source address where there is a choice."""
        out = {who: (self.ns(who), "") for who in ("host", *self.world.boxes)}
        return out | {str(a): (self.outside, str(a)) for a in self.world.outside}

    def services(self, ports: Sequence[tuple[str, int]], own: int) -> Iterator[Service]:
        """`ports` at every address of containers and neighbours, `own` of the host's."""
        for box in self.world.boxes.values():
            for address in box.homes.values():
                for proto, port in ports:
                    yield Service(who=box.name, ns=self.ns(box.name), address=address,
                                  port=port, proto=proto)  # fmt: skip
        for address, name in self.world.outside.items():
            for proto, port in ports:
                yield Service(who=name, ns=self.outside, address=address, port=port, proto=proto)
        for address in (*self.world.host, IPv4Address("127.0.0.1")):
            for proto in ("tcp", "udp"):
                yield Service(who="host", ns=self.lab.home, address=address, port=own, proto=proto)


def sandbox(town: Town, name: str) -> Sandbox:
    return Sandbox(id=name.encode().hex().ljust(64, "0"), name=name, ns=town.lab.ns(name))


def spec_of(n: Net) -> NetworkSpec:
    options = {f"{OPTION}enable_icc": str(n.icc).lower()}
    if n.mode != "internal":
        options[f"{OPTION}gateway_mode_ipv4"] = n.mode
    return NetworkSpec(
        name=n.name,
        subnets=(SubnetSpec(subnet=str(n.cidr), gateway=str(n.gateway)),),
        internal=n.closed,
        options=options,
    )


@contextmanager
def town(
    lab: Lab,
    world: World,
    firewall: Firewall,
    kernel: Kernel,
    folder: Path,
    *,
    filtered: bool,
    random: Callable[[int], int] = secrets.randbits,
    bridged: Mapping[str, NetworkSpec] = MappingProxyType({}),
) -> Iterator[Town]:
    """The world built; removed at the end, however it ends."""
    knob = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    far = f"{lab.home}-far"
    netns.create(far)
    database = Database(folder / "db")
    try:
        with netns.inside(lab.home):
            if knob.exists():
                knob.write_text("1" if filtered else "0")
        _lan(lab, world, far, bridged)
        with ReconcileQueue(kernel, ownership("0", lab.folder)) as worker:
            t = Town(lab, world, firewall, kernel, database, HomePorts(lab.home), worker, random,
                     bridged)  # fmt: skip
            t.start()
            try:
                t.build()
                yield t
            finally:
                for e in t.net.endpoints():
                    t.net.close(e.sandbox)
    finally:
        database.close()
        netns.remove(far)


def _lan(lab: Lab, world: World, far: str, bridged: Collection[str]) -> None:
    """Give neighbours a route to every network of ours."""
    peer = ("type", "veth", "peer", "name", "lan0", "netns", far)
    lab.run("ip", "link", "add", "lan0", *peer)
    if bridged:
        lab.run("ip", "link", "add", "br0", "type", "bridge")
        lab.run("ip", "link", "set", "lan0", "master", "br0")
        lab.run("ip", "link", "set", "br0", "up")
    lab.run("ip", "addr", "add", f"{LAN}/24", "dev", "br0" if bridged else "lan0")
    lab.run("ip", "link", "set", "lan0", "up")
    lab.run("ip", "link", "set", "lan0", "up", at=far)
    for address in world.outside:
        lab.run("ip", "addr", "add", f"{address}/24", "dev", "lan0", at=far)
    for n in world.nets.values():
        if n.name not in bridged:
            lab.run("ip", "route", "add", str(n.cidr), "via", str(LAN), at=far)
