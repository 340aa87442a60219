"""The state of a host that decides where a packet goes, at one moment.  Values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

from netkit.diagnose.explain.ruleset import RuleSet
from netkit.driver import OverlayPorts
from netkit.model.layout import FirewallLayout, PortSecurity

LOOPBACK = IPv4Network("127.0.0.0/8")
MULTICAST = IPv4Network("224.0.0.0/4")
EVERYBODY = IPv4Address("255.255.255.255")
LO = "lo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Settings are those in force: `all` and the interface's own, combined as the kernel does."""

    name: str
    addresses: tuple[IPv4Interface, ...] = ()
    bridge: bool = False
    master: str = ""  # the bridge it is a port of
    isolated: bool = False  # as a port: not to other isolated ports
    hairpin: bool = False  # as a port: back where it came from
    redirected: bool = False  # as a port: IPv4 to the bridge's own address is not bridged
    filtered: bool = False  # as a bridge: br_netfilter shows its frames to iptables
    up: bool = True
    forwarding: bool = False
    route_localnet: bool = False
    rp_filter: int = 0  # 0 no, 1 strict, 2 loose: ip-sysctl.rst
    accept_local: bool = False
    proxy_arp_pvlan: bool = False  # answers ARP for one neighbour to another: RFC 3069


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One route.  Without `dev` there is no way: blackhole, unreachable, prohibit."""

    dst: IPv4Network
    dev: str = ""
    gateway: IPv4Address | None = None
    source: IPv4Address | None = None
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNetwork:
    """A network of ours, as a look at the host needs it."""

    id: str  # 64 hex digits
    name: str
    openvswitch: bool = False  # no Linux bridge switches its frames
    icc: bool = True  # containers reach each other
    port_security: PortSecurity | None = None  # as its driver has it
    overlay: OverlayPorts | None = None  # to other hosts, where its driver has an overlay


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A container on a network: `port` is the host's end of its wire, on `bridge`."""

    network: str
    address: IPv4Interface
    ifname: str
    port: str
    bridge: str
    id: str = ""  # of the endpoint
    mac: str = ""  # that it has now


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """An endpoint on a network of Open vSwitch, whose flows are not looked at here."""

    id: str
    network: str  # its name
    address: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`elsewhere`: by interface, its endpoints on networks of Open vSwitch."""

    name: str
    id: str = ""
    places: tuple[Place, ...] = ()
    elsewhere: Mapping[str, Switched] = field(default_factory=dict)
    routes: tuple[Path, ...] = ()  # its own, in its namespace
    on_host: bool = False  # it has the host's namespace: its addresses are the host's

    def has(self, address: IPv4Address) -> bool:
        return any(p.address.ip == address for p in self.places)

    def place(self, ifname: str) -> Place | None:
        return next((p for p in self.places if p.ifname == ifname), None)


class ContainerPlace(NamedTuple):
    """A container, and one of its places."""

    container: Container
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published port in force: what people typed, for advice in words."""

    container: str
    proto: str
    container_port: int
    host_ip: str
    host_port: int
    address: IPv4Address | None = None  # of the container, on the network it is published on


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a bridge port accepts: frames from these addresses, as text.

    Where there are `addresses`, no DHCP either; None are any.
    """

    macs: frozenset[str]
    addresses: frozenset[str] | None = None

    def stops(self, mac: str, address: str, *, dhcp: bool) -> str:
        """Return the address for which a frame is not accepted; "" if it is."""
        if mac and mac not in self.macs:
            return mac
        mine = self.addresses is None or (address in self.addresses and not dhcp)
        return "" if mine else address


@dataclass(frozen=True, kw_only=True)
class Facts:
    interfaces: Mapping[str, Interface]
    routes: tuple[Path, ...]
    rules: RuleSet = field(default_factory=RuleSet)
    containers: Mapping[str, Container] = field(default_factory=dict)  # by name
    networks: Mapping[str, str] = field(default_factory=dict)  # names by the first 12 digits of id
    ports: tuple[Published, ...] = ()
    layouts: tuple[FirewallLayout, ...] = ()  # of our firewalls: what their chains are for
    access: Mapping[str, str] = field(default_factory=dict)  # ids of access rules by digest of ours
    policy_routing: bool = False  # there are `ip rule`s other than the kernel's own three
    guards: Mapping[str, Guard] = field(default_factory=dict)  # by bridge port
    overlays: frozenset[str] = frozenset()  # bridges of networks that are on other hosts, too
    # Addresses of interfaces that the table `local` does not have: packets to them are routed, as
    # those for the end of tunnels in ovs-vswitchd are.
    routed: frozenset[IPv4Address] = frozenset()
    layer2: str = ""  # other rules on frames (ebtables, nft bridge) that are not evaluated here

    @cached_property
    def local(self) -> dict[IPv4Address, Interface]:
        own = ((a.ip, i) for i in self.interfaces.values() for a in i.addresses)
        return {address: i for address, i in own if address not in self.routed}

    @cached_property
    def broadcasts(self) -> frozenset[IPv4Address]:
        nets = (a.network for i in self.interfaces.values() for a in i.addresses)
        return frozenset(n.broadcast_address for n in nets if n.prefixlen < 31)

    def is_local(self, address: IPv4Address) -> bool:
        return address in LOOPBACK or address in self.local

    def address_type(self, address: IPv4Address) -> str:
        """As `addrtype` and `fib ... type` know it."""
        if self.is_local(address):
            return "local"
        if address == EVERYBODY or address in self.broadcasts:
            return "broadcast"
        return "multicast" if address in MULTICAST else "unicast"

    def route(self, dst: IPv4Address) -> Path | None:
        """From the main table; an address of the host itself is reached through lo."""
        if self.is_local(dst):
            return Path(dst=IPv4Network(dst), dev=LO, source=dst)
        return best(self.routes, dst)

    def source(self, path: Path, dst: IPv4Address) -> IPv4Address | None:
        """Return the host's source address towards `dst` by this route."""
        if path.source:
            return path.source
        near = path.gateway or dst
        interface = self.interfaces.get(path.dev)
        own = interface.addresses if interface else ()
        fit = next((a.ip for a in own if near in a.network), None)
        return fit or next((a.ip for a in own), None)

    def container(self, ref: str) -> Container | None:
        """By name, or by the beginning of one id only."""
        if ref in self.containers:
            return self.containers[ref]
        found = [c for c in self.containers.values() if ref and c.id.startswith(ref)]
        return found[0] if len(found) == 1 else None

    def owner_of(self, address: IPv4Address) -> ContainerPlace | None:
        return next((p for p in self.places if p.place.address.ip == address), None)

    def neighbour(self, bridge: str, address: IPv4Address) -> ContainerPlace | None:
        """Return the container that answers ARP for this address on this bridge."""
        return self._neighbours.get((bridge, address))

    def switched(self, address: IPv4Address) -> str:
        """The one container that has this address on a network of Open vSwitch; "" if not one."""
        found = {
            c.name
            for c in self.containers.values()
            for e in c.elsewhere.values()
            if e.address == address
        }
        return found.pop() if len(found) == 1 else ""

    def strangers(self, bridge: str) -> list[str]:
        """Ports of a bridge behind which there is no container of ours."""
        return self._strangers.get(bridge, [])

    @cached_property
    def places(self) -> list[ContainerPlace]:
        return [ContainerPlace(c, p) for c in self.containers.values() for p in c.places]

    @cached_property
    def _neighbours(self) -> dict[tuple[str, IPv4Address], ContainerPlace]:
        return {(p.place.bridge, p.place.address.ip): p for p in self.places}

    @cached_property
    def _strangers(self) -> dict[str, list[str]]:
        ours, out = {p.place.port for p in self.places}, dict[str, list[str]]()
        for i in self.interfaces.values():
            if i.master and i.name not in ours:
                out.setdefault(i.master, []).append(i.name)
        return out


def best(paths: Iterable[Path], dst: IPv4Address) -> Path | None:
    """The longest prefix, then the lowest metric."""
    fit = [p for p in paths if dst in p.dst]
    return min(fit, key=lambda p: (-p.dst.prefixlen, p.metric), default=None)
