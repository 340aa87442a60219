"""What drivers and firewalls get and give: networks, endpoints, ports and policies as values."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses
from typing import Literal

from netkit.model import IPAddress, IPInterface, IPNetwork

ANYWHERE = IPv4Network("0.0.0.0/0")
ROUTER = "DefaultGatewayIPv4"  # auxiliary address: containers' gateway when it is not the host
IFACE_PREFIX = "eth"  # of interfaces in containers, unless a network's option is set


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One address range of a network.  `ip_range` narrows automatic allocation."""

    cidr: IPNetwork
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: tuple[tuple[str, IPAddress], ...] = ()  # reserved by name

    @property
    def router(self) -> IPAddress | None:
        """The gateway of containers for destinations off the subnet."""
        return dict(self.aux).get(ROUTER, self.gateway)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEndpoint:
    """A container on another host that the cluster reports."""

    address: IPv4Address
    mac: str
    peer: IPv4Address  # that host


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    id: str  # 64 hex digits
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    options: object = None  # what the driver's `parse` made of the user's options

    engine: str = "0"  # which netkit made it: the middle of every owner mark
    shared: bool = False  # of scope global: shared by the hosts of a cluster
    peers: tuple[IPv4Address, ...] = ()  # the other hosts it is on, sorted
    remote_endpoints: tuple[RemoteEndpoint, ...] = ()  # containers on them

    @property
    def owner(self) -> str:
        """The mark that everything of this network carries in the kernel."""
        return f"netkit:{self.engine}:{self.id[:12]}"

    @property
    def router(self) -> IPAddress | None:
        """The gateway for destinations off the network; None on an internal network."""
        routers = (s.router for s in self.subnets if s.router is not None)
        return None if self.internal else next(routers, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One access rule on an endpoint, as enforced: names are resolved to addresses.

    Evaluated in order of `priority` before everything else but the administrator's DOCKER-USER, for
    new and for established flows: what is dropped goes silent at once.  A drop is for packets to
    the endpoint; answers of the endpoint are not looked at.
    A `link` (docker run --link) is evaluated where Docker has it, between containers of one
    network only: it opens the ports between `sources` and the endpoint, both directions, where
    icc=false closes them.  With `mac`, the source is a neighbour on the endpoint's network, and
    a sender with its IP address alone does not match.
    """

    id: str  # 12 hex digits: which rule of the user's, or which link
    verdict: Literal["accept", "drop"]
    sources: tuple[IPNetwork, ...]  # never empty; the whole world is 0.0.0.0/0
    priority: int = 0
    proto: str = ""  # tcp, udp, sctp; "" is all, and then there are no ports
    first: int = 0  # destination ports; 0 and 0 are all
    last: int = 0
    published: bool = False  # the ports are the host's, as packets had them before translation
    link: bool = False
    mac: str = ""

    @property
    def networks(self) -> tuple[IPv4Network, ...]:
        """Its IPv4 sources: sorted, without those that others contain."""
        return tuple(collapse_addresses(s for s in self.sources if isinstance(s, IPv4Network)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One container's place on one network."""

    id: str  # 64 hex digits
    network: str  # network id
    addresses: tuple[IPInterface, ...]
    mac: str | None
    ns: str  # path of the namespace where the container finds its end
    ifname: str  # and its name there
    gateway: bool = False  # this endpoint carries the container's default route
    published: bool = False  # ports of this endpoint are published on the host
    has_accept_rules: bool = (
        False  # may be reached by neighbours that icc=false keeps apart from others
    )
    router: IPAddress | None = None  # where that default route leads
    access: tuple[Access, ...] = ()  # in force, for drivers whose wires the firewall does not see
    administered: bool = False  # its container may change interfaces: CAP_NET_ADMIN

    @property
    def ipv4(self) -> tuple[IPv4Address, ...]:
        """Its IPv4 addresses."""
        return tuple(a.ip for a in self.addresses if isinstance(a, IPv4Interface))

    @property
    def inside(self) -> IPv4Address | None:
        """The IPv4 address at which the host reaches it: one in its router's subnet, if it can."""
        near = (a for a in self.addresses if self.router is not None and self.router in a.network)
        found = next((a.ip for a in near if isinstance(a, IPv4Interface)), None)
        return found or next(iter(self.ipv4), None)

    def owner(self, net: Network) -> str:
        return f"{net.owner}:{self.id[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """One published port as it is in force."""

    proto: str
    container_port: int
    host_ip: str
    host_port: int


Mode = Literal["nat", "nat-unprotected", "routed", "internal", "isolated", "bridged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """How a network meets the rest of the host, in words a firewall understands.

    nat: the world reaches published ports only.  nat-unprotected: also container addresses.
    routed: published ports at container addresses, nothing is translated.
    internal: only the host itself.  isolated: not even the host, which has no address.
    bridged: the segment is not ours: only rules of the user's about containers are enforced.
    """

    link: str  # the host's interface on the network
    mode: Mode = "nat"
    icc: bool = True  # containers reach each other
    masquerade: bool = True
    source: IPAddress | None = None  # translate to this address instead of masquerading
    binding: str = "0.0.0.0"  # where ports are published by default
    trusted: tuple[str, ...] = ()  # host interfaces that may route to published container ports
    around: bool = False  # subnets of other networks may be inside of this one's
    siblings: str = ""  # beginning of the names of bridges whose subnets may be inside of this one

    @property
    def translates(self) -> bool:
        return self.mode in {"nat", "nat-unprotected"}

    @property
    def forwards(self) -> bool:
        """The host routes for the containers."""
        return self.translates or self.mode == "routed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment that a network shares with hosts that are not ours."""

    link: str  # the host's interface on it
    probe: float  # seconds to ask whether an address is free; 0: do not ask


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayPorts:
    """The ends of an overlay on one host for one network: ports of the network's bridge.

    Frames to containers of other hosts leave by one of the two: by which, the overlay's process
    (netkit.overlay) writes into the forwarding tables.
    """

    vni: int  # number of the network on the wire, RFC 7348
    bridge: str
    tap: str  # to hosts that are reached through user space
    vxlan: str | None = None  # to hosts that are reached by the kernel; None: nothing goes in clear
    mtu: int = 1400  # bytes, of containers
    host_mac: str = ""  # the bridge's address
    host_addresses: tuple[IPInterface, ...] = ()  # of this host, where it is on the network
    port: int = 6784  # UDP, of VXLAN
