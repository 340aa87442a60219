"""Namespaces, links, addresses, routes, neighbours and settings of a host.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from netkit.model.base import HOST, IPAddress, IPInterface, IPNetwork, Key, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Netns(Resource):
    """A named network namespace: an nsfs mount at `path`.  Ours by where it lives.

    One that is not `mounted` is the remains of a namespace, a plain file.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"mounted"})
    unobservable_fields: ClassVar[frozenset[str]] = frozenset({"owner"})
    order: ClassVar[int] = 2
    path: str
    mounted: bool = True

    @property
    def key(self) -> Key:
        return ("netns", self.path)

    def describe(self) -> str:
        return f"network namespace {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl(Resource):
    """One kernel setting, e.g. net/ipv4/ip_forward = "1".

    Source: kernel Documentation/networking/ip-sysctl.rst.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"value"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 4
    name: str  # path below /proc/sys, with slashes
    value: str
    ns: str = HOST
    asked: bool = field(default=False, compare=False)  # by a user, whose fault a bad one is

    @property
    def key(self) -> Key:
        return ("sysctl", self.ns, self.name)

    def describe(self) -> str:
        return f"setting {self.name}={self.value}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (*_ns(self.ns), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The far end of a veth pair.  It is created in its namespace, with its name, and set up."""

    ns: str
    name: str
    mac: str | None = field(default=None, compare=False)  # at its creation; may change later
    leaves: bool = field(default=False, compare=False)  # others move it, and it is not missed
    left: bool = field(default=False, compare=False)  # they have: a missing pair is not made here

    def __str__(self) -> str:
        return f"{self.name}{inside(self.ns)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkInside:
    """A link in a namespace of another engine, as it was seen: no resource of netkit's."""

    name: str
    mark: str  # the owner of the host's end of its pair; "": there is none


# Fields of a Link that are flags of a bridge port: only a link with a master has them.
PORT_FLAGS = ("hairpin", "isolated", "locked", "learning", "flood", "mcast_flood", "bcast_flood",
              "neigh_suppress")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Resource):
    """A network interface.  Ours carries `owner` as its ifalias (IFLA_IFALIAS).

    A veth has a `peer`, whose end in the container is no Link of its own.  A link that hangs on
    another, as a macvlan does on a NIC, has a `parent`, and may be made in a container's `ns`.
    A tap stays when no process has it open, and takes and gives frames with a virtio_net_hdr.
    """

    mutable: ClassVar[frozenset[str]] = frozenset(
        {"mtu", "gso_max_size", "master", "up", "mac", "filtered", "snooping", *PORT_FLAGS}
    )
    optional_fields: ClassVar[frozenset[str]] = frozenset(
        {"mtu", "gso_max_size", "up", "mac", "owner", "peer", "filtered", "snooping", "kind",
         "parent", "options", *PORT_FLAGS}
    )  # fmt: skip
    unobservable_fields: ClassVar[frozenset[str]] = frozenset(
        {"peer", "gso_max_size", "filtered", "snooping", "locked", "bcast_flood", "neigh_suppress"}
    )
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 3
    name: str
    kind: str | None  # as in `ip link add type`: bridge, ..., or tap; a NIC has ""; None: any
    ns: str = HOST
    peer: Peer | None = None
    master: str | None = None
    mtu: int | None = None  # bytes; for a veth, of both ends; 0: they differ, in observations
    gso_max_size: int | None = None  # bytes of a frame of TSO; of a veth, as mtu, or a tap
    mac: str | None = None  # "02:42:..."
    up: bool | None = True  # likewise
    hairpin: bool | None = None  # bridge port flags, see bridge(8)
    isolated: bool | None = None
    locked: bool | None = None  # likewise: lets in only senders that an Fdb names; Linux 5.18
    learning: bool | None = None  # learns by which port a sender's frames came; the kernel: True
    flood: bool | None = None  # gets unicast frames to addresses in no table; the kernel: True
    mcast_flood: bool | None = None  # and multicast frames without known listeners; likewise
    bcast_flood: bool | None = None  # and broadcast frames; likewise
    neigh_suppress: bool | None = None  # the bridge answers ARP for it where it can; Linux 4.15
    filtered: bool | None = None  # a bridge whose frames iptables sees (IFLA_BR_NF_CALL_IPTABLES)
    snooping: bool | None = None  # a bridge that learns who listens to multicast; the kernel: True
    parent: str | None = None  # the link of the host that it hangs on: `ip link add link PARENT`
    options: tuple[tuple[str, str], ...] | None = None  # of its kind, by name: ("mode", "bridge")

    @property
    def key(self) -> Key:
        return ("link", self.ns, self.name)

    def describe(self) -> str:
        return f"{self.kind or 'interface'} {self.name}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        master: tuple[Key, ...] = (("link", self.ns, self.master),) if self.master else ()
        parent: tuple[Key, ...] = (("link", HOST, self.parent),) if self.parent else ()
        far = _ns(self.peer.ns) if self.peer else ()
        return (*master, *parent, *_ns(self.ns), *far, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addr(Resource):
    order: ClassVar[int] = 5
    dev: str
    address: IPInterface
    ns: str = HOST
    via: str | None = field(default=None, compare=False)  # the host link whose peer is `dev`

    @property
    def key(self) -> Key:
        return ("addr", self.ns, self.dev, str(self.address))

    def describe(self) -> str:
        return f"address {self.address} on {self.dev}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (
            ("link", HOST, self.via) if self.via else ("link", self.ns, self.dev),
            *self.depends_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedRoute(Resource):
    """The route to an address's subnet, which the kernel adds with the address.

    No driver yields one: it is in no desired state except where drift is looked for, since
    another tool can delete it and leave the address.  It goes with its address or link.
    """

    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 6
    dev: str
    address: IPInterface
    ns: str = HOST
    via: str | None = field(default=None, compare=False)  # as in Addr

    @property
    def key(self) -> Key:
        return ("connected", self.ns, self.dev, str(self.address))

    def describe(self) -> str:
        return f"connected route to {self.address.network} on {self.dev}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        link = ("link", HOST, self.via) if self.via else ("link", self.ns, self.dev)
        return (link, ("addr", self.ns, self.dev, str(self.address)), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Resource):
    """A route in the main table, marked as ours by its protocol number (RTPROT_NETKIT)."""

    mutable: ClassVar[frozenset[str]] = frozenset({"gateway", "dev"})
    order: ClassVar[int] = 6
    dst: IPNetwork
    dev: str
    ns: str = HOST
    gateway: IPAddress | None = None
    via: str | None = field(default=None, compare=False)  # as in Addr

    @property
    def key(self) -> Key:
        return ("route", self.ns, str(self.dst))

    def describe(self) -> str:
        return (
            f"route to {self.dst}{f' via {self.gateway}' if self.gateway else ''} on {self.dev}"
            f"{inside(self.ns)}"
        )

    @property
    def needs(self) -> tuple[Key, ...]:
        return (
            ("link", HOST, self.via) if self.via else ("link", self.ns, self.dev),
            *self.depends_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neigh(Resource):
    """A permanent neighbour entry (ARP or ND)."""

    mutable: ClassVar[frozenset[str]] = frozenset({"mac"})
    order: ClassVar[int] = 6
    dev: str
    address: IPAddress
    mac: str
    ns: str = HOST
    via: str | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        return ("neigh", self.ns, self.dev, str(self.address))

    def describe(self) -> str:
        return f"neighbour {self.address} at {self.mac} on {self.dev}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (
            ("link", HOST, self.via) if self.via else ("link", self.ns, self.dev),
            *self.depends_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fdb(Resource):
    """A MAC address that lives behind a bridge port: "static sticky" in bridge(8).

    No other port can take it over by sending from it.
    """

    order: ClassVar[int] = 5
    dev: str  # the port
    mac: str
    ns: str = HOST

    @property
    def key(self) -> Key:
        return ("fdb", self.ns, self.dev, self.mac)

    def describe(self) -> str:
        return f"MAC address {self.mac} behind port {self.dev}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("link", self.ns, self.dev), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeRedirect(Resource):
    """IPv4 frames from `mac` at a bridge port to the bridge's own address skip bridging.

    Where br_netfilter translates while bridging, an isolated port could not reach published ports.
    """

    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 6
    dev: str  # the port
    bridge: str
    mac: str
    ns: str = HOST

    @property
    def key(self) -> Key:
        return ("redirect", self.ns, self.dev, self.bridge, self.mac)

    def describe(self) -> str:
        return f"redirect from {self.mac} at port {self.dev} to {self.bridge}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("link", self.ns, self.dev), ("link", self.ns, self.bridge), *self.depends_on)


def inside(ns: str) -> str:
    """Return the end of a description: in which namespace; "" for the host's own."""
    return f" in {ns}" if ns != HOST else ""


def _ns(path: str) -> tuple[Key, ...]:
    return (("netns", path),) if path != HOST else ()
