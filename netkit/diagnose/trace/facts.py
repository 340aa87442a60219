"""The state on a packet's way on one host, as values, and the interface that reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal, Protocol

from netkit.diagnose.explain.facts import Facts
from netkit.driver import OverlayPorts
from netkit.model.ovn import LogicalPath

HOST = "host"  # the key of the host's own namespace; those of containers are their ids
ANY = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """`carrier`: the other end of the wire is up, too.  `peer` is the host's end of a veth."""

    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 1500  # bytes
    up: bool = True
    carrier: bool = True
    forwards: bool = True  # as a bridge port: in state forwarding
    peer: str = ""
    hooked: str = ""  # what may stop packets here and is not evaluated: XDP, tc; "" nothing
    vni: int = 0  # of a VXLAN device


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A socket that receives from any peer: listening (TCP), or bound and unconnected."""

    proto: str  # tcp, udp
    address: IPv4Address  # 0.0.0.0: all
    port: int
    nic: str = ""  # bound to this interface only

    def takes(self, proto: str, address: IPv4Address, port: int, nic: str) -> bool:
        fits = self.address in {ANY, address} and self.nic in {"", nic}
        return (self.proto, self.port) == (proto, port) and fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One network namespace."""

    key: str
    name: str  # "container web", "the host"
    facts: Facts
    nics: Mapping[str, Nic] = field(default_factory=dict)
    neighbours: Mapping[tuple[str, IPv4Address], str] = field(default_factory=dict)  # MACs in use
    fdb: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (bridge, MAC) -> port
    # of VXLAN devices: (device, MAC or ALL) -> hosts
    tunnels: Mapping[tuple[str, str], tuple[IPv4Address, ...]] = field(default_factory=dict)
    sockets: tuple[Socket, ...] = ()
    ignores_echo: bool = False  # net.ipv4.icmp_echo_ignore_all
    path: str = ""  # of its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running container on a network, as stored by the engine."""

    space: str
    container: str
    network: str
    address: IPv4Address
    mac: str = ""
    ifname: str = ""
    icc: bool = True  # the network lets its containers talk to each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The kernel's answer to a route lookup.  Without `dev` there is none, because of `why`."""

    dev: str = ""
    gateway: IPv4Address | None = None
    source: IPv4Address | None = None
    prefix: str = ""
    local: bool = False
    why: str = ""

    def __str__(self) -> str:
        if not self.dev:
            return self.why
        via = f" via {self.gateway}" if self.gateway else ""
        own = f", source {self.source}" if self.source else ""
        return f"{self.prefix or 'local'}{via} dev {self.dev}{own}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchPort:
    """A port of Open vSwitch.  `state` is that of BFD; "" where nothing watches the tunnel."""

    name: str
    bridge: str
    number: int  # as OpenFlow counts; 65534 is the bridge itself
    kind: str = ""  # system, internal, tap; gre, vxlan, geneve
    remote: IPv4Address | None = None
    local: IPv4Address | None = None
    key: int = 0
    any_key: bool = False  # flows set the key, and look at it (key=flow)
    state: str = ""
    diagnostic: str = ""
    beginning: bool = False  # it has not been up yet, and may come up any moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a switch puts a packet: a port's name, or the tunnel to `remote` with `key`."""

    port: str = ""
    remote: IPv4Address | None = None
    key: int = 0
    option: int = 0  # of Geneve, OVN's: logical ports in and out, 16 bits each
    # Of a tunnel of a datapath in user space: where it is sent from, and by which next hop.
    source: IPv4Address | None = None
    gateway: IPv4Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The outcome of ofproto/trace."""

    outputs: tuple[Output, ...]
    rules: tuple[str, ...]  # the flow entries that matched, in order
    notes: tuple[str, ...] = ()  # the switch's own remarks: learned port, flooding ...
    unknown: tuple[str, ...] = ()  # actions that are not followed
    actions: str = ""  # verbatim
    answer: str = ""  # to an ARP request, by the switch itself: a MAC address
    logical: Registers | None = None  # of OVN
    tracked: bool = False  # connection tracking was asked, and the packet taken as its first


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Numbers of a logical switch and its ports, as the last table had them; 0: not known."""

    switch: int
    source: int
    target: int
    flows: tuple[tuple[int, int], ...] = ()  # (cookie, priority) of what matched, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one frame, for a switch.  `proto` arp: a broadcast request for `dst`."""

    proto: str
    src: IPv4Address
    dst: IPv4Address
    mac_src: str
    mac_dst: str
    sport: int = 0
    dport: int = 0
    tunnel: int = 0  # the key of the tunnel that it came by, where that is looked at
    option: int = 0  # of Geneve
    answer: bool = False  # of a connection that connection tracking may know


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """netkit's firewall: its driver, `none` if it writes no rules; steps that a repair takes."""

    driver: str = ""
    drift: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayNetwork:
    """A network of this host that goes over an overlay's process."""

    name: str
    ports: OverlayPorts


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where an address of an overlay's network is, as its process has it."""

    me: str  # id of this host in the overlay
    peer: str = ""  # id of the host where it is; "": nowhere, and then `why`
    name: str = ""  # of that host
    addresses: frozenset[IPv4Address] = frozenset()  # that may be sent from
    mac: str = ""
    way: str = "none"  # fastdp, sleeve, relay, none
    reason: str = ""  # for that way
    host: str = ""  # address of that host on the underlay; "" by relay
    port: int = 0  # UDP
    hop: str = ""  # by relay: the host that passes it on
    sealed: bool = False
    why: str = ""  # frames do not get there


Admission = Literal["admitted", "dropped", "unchecked", "unknown"]


class Observer(Protocol):
    """The state that a walk reads.  KernelError where it cannot be read."""

    def space(self, key: str) -> Space: ...

    def route(self, key: str, dst: IPv4Address, src: IPv4Address | None = None) -> Way: ...

    def endpoints(self) -> Sequence[Endpoint]: ...

    def switch_ports(self) -> Iterable[SwitchPort]: ...

    def pipeline(self, bridge: str, port: int, header: Header) -> Pipeline: ...

    def logical(self, registers: Registers) -> LogicalPath: ...

    def firewall(self) -> Wall: ...

    def overlays(self) -> Sequence[OverlayNetwork]: ...

    def located(self, vni: int, *, mac: str = "", address: IPv4Address | None = None) -> Located:
        """By `mac`, if it is given.  NotFound: the overlay's process does not run."""
        ...

    def admits(self, host: IPv4Address, vni: int, mac: str, address: IPv4Address) -> Admission:
        """Whether what comes from another host by VXLAN may be from those addresses; `unchecked`
        if nothing checks it, `unknown` if another tool has changed the check."""
        ...
