"""What Open vSwitch adds to the things that can exist on a host, as values.

    OvsBridge  a switch; its local port is an interface of the host with the bridge's name
    OvsPort    an interface in a switch: a link that exists, or a tunnel that comes with the port
    OvsFlows   what a switch does with packets: some flows that come and go together
    TunnelRoute  where the userspace datapath sends tunnelled packets; lost when OVS restarts
    Offload    whether an interface may leave checksums to hardware
    SegmentedPort  a port that needs an ovs-vswitchd which segments TCP
    PortOffload  whether it leaves to ovs-vswitchd what that can do, and nothing else

Bridges and ports carry their owner in external_ids:netkit.  Flows carry a cookie (see `cookie`)
and belong to the owner of their bridge.  Source: ovs-vswitchd.conf.db(5), ovs-fields(7),
ovs-ofctl(8).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from netkit.model import HOST, IPAddress, IPInterface, IPNetwork, Key, Resource, inside

Datapath = Literal["system", "netdev"]
COOKIE = 0x4E << 56  # "N": flows without it are foreign
ANY_PACKETS = "any packets"  # in a key of PortOffload
ISOLATED = 4094  # a VLAN nothing else is in: NORMAL never leads into it or out of it
_PORTS = re.compile(r"\b(?:in_port=|output:)([^,\s()]+)")


def ports_in(flow: str) -> frozenset[str]:
    """Return the ports that a flow names, but for the bridge's own."""
    return frozenset(_PORTS.findall(flow)) - {"LOCAL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsBridge(Resource):
    """A switch of the Open vSwitch that serves this host.

    `secure`: without flows nothing passes; otherwise it learns and forwards by itself.
    `tunnel_address` is an address where tunnels of the userspace datapath end: it is on the local
    port, so that OVS knows it, but the host does not take it for one of its own.
    """

    mutable: ClassVar[frozenset[str]] = frozenset(
        {"secure", "mac", "mtu", "endpoint", "up", "protected"}
    )
    optional_fields: ClassVar[frozenset[str]] = frozenset({"owner", "mac", "mtu", "endpoint", "up"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 3
    name: str
    datapath: Datapath
    secure: bool = True
    mac: str | None = None
    mtu: int | None = None  # bytes, of the local port
    tunnel_address: IPInterface | None = None
    up: bool | None = True
    protected: bool = False  # the local port, as in OvsPort

    @property
    def key(self) -> Key:
        return ("ovsbridge", self.name)

    def describe(self) -> str:
        return f"Open vSwitch bridge {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort(Resource):
    """A port with one interface of the same name.  `kind` "" is a link of the host.

    One of kind "internal" comes with an interface of the host.  `tag` puts it into a VLAN; what is
    `protected` never talks to another protected port.  `bfd` probes the far end of a tunnel
    (RFC 5880, once a second).

    Observed as not `attached` is the port of a link that was deleted since the port was added,
    even if there is another of its name: ovs-vswitchd may go on with the deleted one, although its
    database shows the new one's index.  Only a port that is removed and added again is sure.
    """

    mutable: ClassVar[frozenset[str]] = frozenset(
        {"options", "tag", "protected", "bfd", "iface_id", "mac", "mtu", "up"}
    )
    optional_fields: ClassVar[frozenset[str]] = frozenset({"owner", "mac", "mtu", "up"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 4
    name: str
    bridge: str
    kind: str = ""  # "", internal, gre, vxlan, geneve: Interface.type
    options: tuple[tuple[str, str], ...] = ()  # sorted; Interface.options
    tag: int | None = None
    protected: bool = False
    bfd: bool = False
    iface_id: str = ""  # the logical port of OVN that it is
    mac: str | None = None  # of an interface of kind internal, as are `mtu` (bytes) and `up`
    mtu: int | None = None
    up: bool | None = None
    attached: bool = True
    link: str = field(default="", compare=False)  # the link resource that brings the interface

    @property
    def key(self) -> Key:
        return ("ovsport", self.name)

    def describe(self) -> str:
        return f"port {self.name} of Open vSwitch bridge {self.bridge}"

    @property
    def needs(self) -> tuple[Key, ...]:
        link: tuple[Key, ...] = ()
        if not self.kind:
            link = (("link", HOST, self.link or self.name),)
        return (("ovsbridge", self.bridge), *link, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsFlows(Resource):
    """Flows of one bridge, as ovs-ofctl(8) reads them but for the cookie; ports by their names.

    Observed are how many of them there are and which ports they name.  Limit: a flow that
    another tool edits in place, keeping our cookie and the ports, is not noticed.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"digest", "count", "ports"})
    unobservable_fields: ClassVar[frozenset[str]] = frozenset({"owner"})
    order: ClassVar[int] = 7  # when all ports are there
    bridge: str
    name: str = field(compare=False)  # whose flows, on this bridge
    flows: tuple[str, ...] = field(default=(), compare=False)  # not observed
    mark: str = ""  # 8 hex digits of the name; what follows is computed unless observed
    digest: str = ""  # 6 hex digits of the flows
    count: int = -1
    ports: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.mark:
            return
        text = "\n".join(self.flows)
        ports = frozenset(p for flow in self.flows for p in ports_in(flow))
        object.__setattr__(self, "mark", hashlib.sha256(self.name.encode()).hexdigest()[:8])
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest()[:6])
        object.__setattr__(self, "count", len(self.flows))
        object.__setattr__(self, "ports", ports)

    @property
    def key(self) -> Key:
        return ("ovsflows", self.bridge, self.mark)

    def describe(self) -> str:
        return f"flows of {self.name or self.mark} in Open vSwitch bridge {self.bridge}"

    @property
    def needs(self) -> tuple[Key, ...]:
        ports: list[Key] = [("ovsport", p) for p in sorted(self.ports)]
        return (("ovsbridge", self.bridge), *ports, *self.depends_on)

    @property
    def cookie(self) -> int:
        """`N`, 32 bits of the name, 24 bits of the flows' digest."""
        return COOKIE | int(self.mark, 16) << 24 | int(self.digest, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelRoute(Resource):
    """Tunnels to `dst` leave by the local port of `bridge`, to its neighbour `gateway`.

    Of the userspace datapath only.  It has no owner: networks with the same peers share
    it, and it goes with the bridge or the daemon.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"bridge", "gateway"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 6
    dst: IPNetwork
    bridge: str
    gateway: IPAddress

    @property
    def key(self) -> Key:
        return ("ovsroute", str(self.dst))

    def describe(self) -> str:
        return f"Open vSwitch route to {self.dst} via {self.gateway} on {self.bridge}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("ovsbridge", self.bridge), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload(Resource):
    """Whether `dev` may send packets whose checksums hardware is to fill in.

    The userspace datapath takes packets as they are: what comes out of a veth with checksums
    left to hardware is dropped by its final receiver.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"checksums"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 4
    dev: str
    checksums: bool
    ns: str = HOST
    via: str | None = field(default=None, compare=False)  # the host link whose peer is `dev`

    @property
    def key(self) -> Key:
        return ("offload", self.ns, self.dev)

    def describe(self) -> str:
        return (
            f"checksum offload {'on' if self.checksums else 'off'} of {self.dev}{inside(self.ns)}"
        )

    @property
    def needs(self) -> tuple[Key, ...]:
        return (
            ("link", HOST, self.via) if self.via else ("link", self.ns, self.dev),
            *self.depends_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOffload(Resource):
    """What `dev` leaves to ovs-vswitchd, which reads its packets at `port` (userspace datapath).

    Where ovs-vswitchd segments TCP, its checksums and TCP segments; of anything else nothing.
    `tunnels`: there may be tunnels beyond `dev`, in whose packets some versions miss checksums.
    `matched` is observed from both: ovs-vswitchd may be started again with another setting, and
    while they differ TCP does not pass.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"matched"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 5
    dev: str
    port: str
    ns: str = HOST
    via: str | None = field(default=None, compare=False)  # the host link whose peer is `dev`
    tunnels: bool = False
    matched: bool = True

    @property
    def key(self) -> Key:
        packets = ANY_PACKETS if self.tunnels else "no tunnels"
        return ("portoffload", self.ns, self.dev, self.port, packets)

    def describe(self) -> str:
        return f"offloads of {self.dev}{inside(self.ns)} as Open vSwitch has them at {self.port}"

    @property
    def needs(self) -> tuple[Key, ...]:
        # The local port of a bridge comes with the bridge.
        port = ("ovsbridge" if self.port == self.dev else "ovsport", self.port)
        link: tuple[Key, ...] = (("link", HOST, self.via),) if self.via else ()
        inner: tuple[Key, ...] = (("netns", self.ns),) if self.ns != HOST else ()
        return (port, *link, *inner, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedPort(Resource):
    """A port of a device that takes and gives TCP segments larger than a packet.

    An ovs-vswitchd that does not segment TCP drops those it is given.  Making one where it does not
    is refused, with what to do: ovs-vswitchd is its administrator's.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"segmenting"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 5
    port: str
    segmenting: bool = True

    @property
    def key(self) -> Key:
        return ("segmentedport", self.port)

    def describe(self) -> str:
        return f"TCP segmentation by Open vSwitch at port {self.port}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("ovsport", self.port), *self.depends_on)
