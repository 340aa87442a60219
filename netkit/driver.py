"""Define the interfaces of network drivers and firewalls.

This file and `netkit.model` are all their authors read; docs/drivers.md has a sample.  A driver is
found through the entry-point group `netkit.drivers`, a firewall through
`netkit.firewall`.  Neither does I/O: they yield the resources that should exist; netkit creates,
checks, repairs and removes them.

    user options --parse--> Network.options
    Network            --Driver.network---> resources      \\
    Network, Endpoint  --Driver.endpoint--> resources       > one desired state
    Network --Driver.policy--> Policy --Firewall.*--> rules /
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses
from typing import ClassVar, Literal, Protocol, runtime_checkable

from netkit.model import Addr, IPAddress, IPInterface, IPNetwork, Resource, Route
from netkit.model.layout import FirewallLayout

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
class Known:
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
    known: tuple[Known, ...] = ()  # containers on them

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

    Evaluated in order of `rank` before everything else but the administrator's DOCKER-USER, for
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
    rank: int = 0
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
    linked: bool = False  # may be reached by neighbours that icc=false keeps apart from others
    router: IPAddress | None = None  # where that default route leads
    access: tuple[Access, ...] = ()  # in force, for drivers whose wires the firewall does not see

    @property
    def inside(self) -> IPv4Address | None:
        """Its IPv4 address, as rules name it."""
        return next((a.ip for a in self.addresses if isinstance(a, IPv4Interface)), None)

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
class Policy:
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


@runtime_checkable
class OnSegment(Protocol):
    """A driver whose networks share a segment with foreign hosts: addresses are probed there."""

    def segment(self, net: Network) -> Segment: ...


class Driver(Protocol):
    """How one kind of network looks on a host.  All methods are pure.

    The class is the entry point: it is called without arguments, once a daemon.  A method gets
    all it may use as arguments and answers the same whenever it is asked: netkit compares what it
    yields with the host at each create, connect, disconnect, remove, check, repair and start.  It
    raises InvalidSpec (the caller's fault, HTTP 400) or NotSupported (501), nothing else.

    What else a driver may have is in the protocols below: HostAware, OnSegment, Founded,
    Exclusive, Spanning.
    """

    name: ClassVar[str]  # of `--driver NAME`: as in the entry point
    # All names that `parse` reads: a name near one of these is refused as a misspelling, any
    # other has no effect and is warned of (netkit.network.driver_options).  A mapping has for
    # each its purpose and default, for `net create --help`.
    options: ClassVar[Collection[str]]
    addresses: ClassVar[bool]  # does netkit's IPAM give out addresses here?  Else there are none
    publishes: ClassVar[bool]  # do published ports make sense here?  Else `-p` is an error

    def parse(self, options: Mapping[str, str]) -> object:
        """Read user options, as `-o KEY=VALUE` gives them, into a value with ==: Network.options.

        InvalidSpec names the bad option and the valid values.  There may be others besides,
        which have no effect.  Called again with the stored options at each start of the daemon.
        """
        ...

    def policy(self, net: Network) -> Policy | None:
        """Return what the firewall is to enforce; None for no rules at all.

        Without a policy no rule is made: no masquerading, no published ports, no `netkit fw`.
        May be asked before the network has subnets.  InvalidSpec for a combination of options
        that cannot be, such as one with --internal.
        """
        ...

    def network(self, net: Network) -> Iterable[Resource]:
        """List what the host needs for this network to exist, without any container on it.

        Each has the owner `net.owner`, and is removed with the network; or no owner, and then it
        must exist already: it is never made, changed or removed.  The order does not matter,
        `Resource.needs` does.  A link name of a driver's choice is unique per network: `ifname`.
        """
        ...

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        """List what is needed for one container to be on it, on both ends of the wire.

        Each has the owner `ep.owner(net)`, and is removed with the endpoint, unless it is of the
        network as well.  The namespace `ep.ns` exists; the link that the container uses is made
        in it with the name `ep.ifname` and the address `ep.mac`.  `addressed` has the rest.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is true of all networks of a driver; the defaults are true of most drivers'."""

    single_instance: bool = False  # one network of it exists, predefined; users create none
    needs_host_namespace: bool = False  # its containers, and no others, are in the host's namespace
    exclusive: bool = False  # a container on it is on no other network
    openvswitch: bool = False  # its bridges, ports and flows are in Open vSwitch's database


@runtime_checkable
class Distinctive(Protocol):
    """A driver with traits that differ from the defaults."""

    traits: ClassVar[Traits]


def traits_of(driver: object) -> Traits:
    """Return the traits that a driver declares, else the defaults."""
    return driver.traits if isinstance(driver, Distinctive) else Traits()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Facts of the host that a driver may depend on."""

    openvswitch: bool = False  # the kernel has the datapath of Open vSwitch


@runtime_checkable
class HostAware(Protocol):
    """A driver that adapts to the host."""

    def on(self, host: HostFacts) -> Driver: ...


@runtime_checkable
class Spanning(Protocol):
    """A driver whose networks can be on all hosts of a cluster, by `peers` and `known`."""

    def check_span(self, net: Network) -> None:
        """InvalidSpec if an option does not go with that."""
        ...


@runtime_checkable
class Exclusive(Protocol):
    """A driver whose networks own more than their link exclusively."""

    def claims(self, net: Network) -> Iterable[str]:
        """What, for people: "gre tunnels to 192.0.2.1 with key 5".  Before there are subnets."""
        ...


@runtime_checkable
class Founded(Protocol):
    """A driver whose networks share resources on the host."""

    def setup(self, owner: str) -> Iterable[Resource]:
        """Resources that all its networks need.  They stay without any, until the next start."""
        ...


class Firewall(Protocol):
    """Render policies as rules.  All methods are pure."""

    layout: ClassVar[FirewallLayout]  # its chains and sets, for code that reads them back

    def owns_chain(self, name: str) -> str | None:
        """Return the id prefix of the endpoint that this iptables chain is for, if any."""
        ...

    def setup(self, owner: str) -> Iterable[Resource]:
        """Resources needed before any network: chains and the jumps to them."""
        ...

    def network(self, net: Network, policy: Policy) -> Iterable[Resource]: ...

    def endpoint(
        self,
        net: Network,
        policy: Policy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterable[Resource]: ...


class NoFirewall:
    """`--iptables=false`: no rules at all, hence no published ports from outside either."""

    layout: ClassVar[FirewallLayout] = FirewallLayout()

    def owns_chain(self, name: str) -> str | None:
        return None

    def setup(self, owner: str) -> Iterable[Resource]:
        return ()

    def network(self, net: Network, policy: Policy) -> Iterable[Resource]:
        return ()

    def endpoint(
        self,
        net: Network,
        policy: Policy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterable[Resource]:
        return ()


def addressed(
    net: Network, ep: Endpoint, via: str | None, router: IPAddress | None
) -> Iterator[Resource]:
    """Yield addresses and routes of a container's end of a pair whose host end is `via`.

    Its addresses, and its default route by `router`, if there is one and the endpoint carries it.
    Without `via` its end is a link of its own, which the driver made in `ep.ns`.
    """
    owner = ep.owner(net)
    addresses = [
        Addr(dev=ep.ifname, address=a, ns=ep.ns, via=via, owner=owner) for a in ep.addresses
    ]
    yield from addresses
    if ep.gateway and router is not None:
        yield Route(
            dst=ANYWHERE,
            dev=ep.ifname,
            ns=ep.ns,
            gateway=router,
            via=via,
            owner=owner,
            after=tuple(a.key for a in addresses),
        )


def ifname(prefix: str, id: str) -> str:
    """A link name of ours: fits IFNAMSIZ (15 characters), and shows its purpose and owner."""
    return f"{prefix}{id}"[:15]


def local_mac(*words: str) -> str:
    """A stable, locally administered unicast MAC address from the words (RFC 7042, 2.1)."""
    raw = bytearray(hashlib.sha256("\0".join(words).encode()).digest()[:6])
    raw[0] = (raw[0] & 0xFE) | 0x02
    return raw.hex(":")


__all__ = [
    "ANYWHERE", "ROUTER", "Access", "Distinctive", "Driver", "Endpoint", "Exclusive",
    "Firewall", "Founded", "HostAware", "HostFacts", "Known", "Mode", "Network", "NoFirewall",
    "OnSegment", "Policy", "PortMapping", "Segment", "Spanning", "Subnet", "Traits",
    "addressed", "ifname", "local_mac", "traits_of",
]  # fmt: skip
