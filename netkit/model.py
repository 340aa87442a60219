"""What can exist on a host, as immutable values.  Imports nothing of ours but errors.

Every resource answers two questions: `key`, what makes it *that* thing, and
`needs`, which keys must exist first.  All other fields are what we want of it.

* In the fields a type lists as `lenient`, None means "no opinion": never compared.
  In those it lists as `opaque`, an observation may leave None: "could not see".
* `marked` types carry their owner in the kernel (ifalias, comment).  For the others an
  observation tells what it can infer, or None; their owner is never a difference.
* `via` and `after` order steps, and are no part of what a thing is.
* With `adopt`, one that exists already and is not ours will do as it is, unless it is
  another kind of thing; we never change or remove it.
* A resource without an owner is a requirement: it must exist, and is not ours to change.
* `policy` types are the firewall's; another tool's change of them is put right.
* `shared` types (a sysctl) always exist and belong to nobody: we may set, never delete.
* `describe` is what errors, logs and plans call it; no user ever sees a repr.
* `phase` orders steps that do not need each other: policy comes before wires, and
  steps of one kernel family stay together so that they can be one transaction.

Network namespaces are named by the absolute path of their file ("" is the host's own,
that is, the one the daemon runs in).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from itertools import pairwise
from typing import ClassVar

from netkit.errors import Conflict

HOST = ""
Key = tuple[str, ...]
IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    mutable: ClassVar[frozenset[str]] = frozenset()  # can change in place
    lenient: ClassVar[frozenset[str]] = frozenset({"owner"})
    opaque: ClassVar[frozenset[str]] = frozenset()
    marked: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    policy: ClassVar[bool] = False  # part of the firewall: kept right against other tools
    phase: ClassVar[int] = 5
    owner: str | None = None
    after: tuple[Key, ...] = field(default=(), compare=False)
    adopt: bool = field(default=False, compare=False)

    @property
    def key(self) -> Key:
        raise NotImplementedError

    @property
    def needs(self) -> tuple[Key, ...]:
        return self.after

    def describe(self) -> str:
        """Name it for people, in the field's terms: "address 172.17.0.1/16 on docker0"."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.describe()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Resource):
    """A firewall chain of ours, e.g. filter/DOCKER.  Deleting it deletes only an empty chain."""

    opaque: ClassVar[frozenset[str]] = frozenset({"owner"})
    policy: ClassVar[bool] = True
    phase: ClassVar[int] = 0
    table: str  # filter, nat, raw, mangle
    name: str
    family: int = 4  # 4 or 6

    @property
    def key(self) -> Key:
        return ("chain", str(self.family), self.table, self.name)

    def describe(self) -> str:
        return iptables(self.family, self.table, f"-N {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Resource):
    """One firewall rule of ours in a chain that may hold others' rules too.

    `args` is what follows `-A CHAIN` in iptables syntax, without the comment: the kernel
    adapter adds `-m comment --comment "<owner> <digest>"` (and the rank, unless 0), by which
    the rule is known again, however the kernel spells its arguments.  The `label` at the end of
    it is for people: a rule that has another, or none, is the same.
    Our rules stand in order of `rank`; negative ranks at the head of the chain, others at
    its tail.  Foreign rules are never moved or removed.  One of ours that somebody moved, doubled
    or overtook at the head is not `placed`.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"placed"})
    opaque: ClassVar[frozenset[str]] = frozenset({"args"})  # iptables may be unable to list it
    marked: ClassVar[bool] = True
    policy: ClassVar[bool] = True
    phase: ClassVar[int] = 1
    table: str
    chain: str
    args: tuple[str, ...] = field(compare=False)  # observed: as the kernel spells them
    rank: int = 0
    family: int = 4
    digest: str = ""  # 16 hex digits that name this rule; computed unless observed
    placed: bool = True
    origin: str = field(default="", compare=False)  # id of the user's rule that it stands for
    label: str = field(default="", compare=False)  # names for the administrator, in the comment
    _key: Key = field(init=False, repr=False, compare=False)  # asked for often, of thousands

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", self._digest())
        place = (str(self.family), self.table, self.chain)
        object.__setattr__(self, "_key", ("rule", *place, self.digest))

    def _digest(self) -> str:
        text = "\0".join((str(self.family), self.table, self.chain, str(self.rank), *self.args))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def key(self) -> Key:
        return self._key

    def describe(self) -> str:
        return iptables(self.family, self.table, f"-A {self.chain} {' '.join(self.args)}")

    @property
    def needs(self) -> tuple[Key, ...]:
        family = str(self.family)
        chain, target, found = ("chain", family, self.table, self.chain), self.target, self.after
        if target is not None:
            found = (("chain", family, self.table, target), *found)
        if "--match-set" in self.args:
            named = (name for flag, name in pairwise(self.args) if flag == "--match-set")
            found = (*(("ipset", family, name) for name in named), *found)
        return (chain, *found)

    @property
    def target(self) -> str | None:
        """What follows -j or -g: a chain, or something that needs none."""
        for flag in ("-j", "-g"):
            if flag in self.args:
                return self.args[self.args.index(flag) + 1]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray(Resource):
    """A rule without a mark of ours that has no place where it stands; only ever removed.

    It stands in a chain of ours alone, or is a copy of a rule of ours that lost its comment.
    """

    marked: ClassVar[bool] = True
    policy: ClassVar[bool] = True
    phase: ClassVar[int] = 1
    table: str
    chain: str
    number: str  # tells it from the other rules of the chain
    text: str = field(compare=False)  # as the tool prints it, without handle and counters
    family: int = 4

    @property
    def key(self) -> Key:
        return ("stray", str(self.family), self.table, self.chain, self.number)

    def describe(self) -> str:
        return f"rule without netkit's mark in {self.table} {self.chain}: {self.text}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("chain", str(self.family), self.table, self.chain), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Netns(Resource):
    """A named network namespace: an nsfs mount at `path`.  Ours by where it lives.

    One that is not `mounted` is the remains of a namespace, a plain file.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"mounted"})
    opaque: ClassVar[frozenset[str]] = frozenset({"owner"})
    phase: ClassVar[int] = 2
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
    shared: ClassVar[bool] = True
    phase: ClassVar[int] = 4
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
        return (*_ns(self.ns), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The far end of a veth pair.  It is born in its namespace, with its name, and set up."""

    ns: str
    name: str
    mac: str | None = field(default=None, compare=False)  # what it is born with; may change later

    def __str__(self) -> str:
        return f"{self.name}{inside(self.ns)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Resource):
    """A network interface.  Ours carries `owner` as its ifalias (IFLA_IFALIAS)."""

    mutable: ClassVar[frozenset[str]] = frozenset(
        {"mtu", "master", "up", "mac", "hairpin", "isolated", "locked", "filtered"}
    )
    lenient: ClassVar[frozenset[str]] = frozenset(
        {"mtu", "up", "mac", "owner", "peer", "hairpin", "isolated", "locked", "filtered"}
    )
    opaque: ClassVar[frozenset[str]] = frozenset({"peer", "locked", "filtered"})
    marked: ClassVar[bool] = True
    phase: ClassVar[int] = 3
    name: str
    kind: str  # bridge, veth, ... as in `ip link add type`
    ns: str = HOST
    peer: Peer | None = None
    master: str | None = None
    mtu: int | None = None  # bytes; for a veth, of both ends
    mac: str | None = None  # "02:42:..."
    up: bool | None = True  # likewise
    hairpin: bool | None = None  # bridge port flags, see bridge(8)
    isolated: bool | None = None
    locked: bool | None = None  # likewise: lets in only senders that an Fdb names; Linux 5.18
    filtered: bool | None = None  # a bridge whose frames iptables sees (IFLA_BR_NF_CALL_IPTABLES)

    @property
    def key(self) -> Key:
        return ("link", self.ns, self.name)

    def describe(self) -> str:
        return f"{self.kind or 'interface'} {self.name}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        master: tuple[Key, ...] = (("link", self.ns, self.master),) if self.master else ()
        far = _ns(self.peer.ns) if self.peer else ()
        return (*master, *_ns(self.ns), *far, *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addr(Resource):
    phase: ClassVar[int] = 5
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
        return (("link", HOST, self.via) if self.via else ("link", self.ns, self.dev), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Resource):
    """A route in the main table, marked as ours by its protocol number (RTPROT_NETKIT)."""

    mutable: ClassVar[frozenset[str]] = frozenset({"gateway", "dev"})
    phase: ClassVar[int] = 6
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
        return (("link", HOST, self.via) if self.via else ("link", self.ns, self.dev), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neigh(Resource):
    """A permanent neighbour entry (ARP or ND)."""

    mutable: ClassVar[frozenset[str]] = frozenset({"mac"})
    phase: ClassVar[int] = 6
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
        return (("link", HOST, self.via) if self.via else ("link", self.ns, self.dev), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fdb(Resource):
    """A MAC address that lives behind a bridge port: "static sticky" in bridge(8).

    No other port can take it over, whoever sends from it there.
    """

    phase: ClassVar[int] = 5
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
        return (("link", self.ns, self.dev), *self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeRedirect(Resource):
    """IPv4 frames from `mac` at a bridge port to the bridge's own address skip bridging.

    Where br_netfilter translates while bridging, an isolated port could not reach published ports.
    """

    phase: ClassVar[int] = 6
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
        return (("link", self.ns, self.dev), ("link", self.ns, self.bridge), *self.after)


State = Mapping[Key, Resource]


def iptables(family: int, table: str, words: str) -> str:
    return f"{'iptables' if family == 4 else 'ip6tables'} -t {table} {words}"


def inside(ns: str) -> str:
    """Where a thing is, to end its description with; nothing on the host itself."""
    return f" in {ns}" if ns != HOST else ""


def _ns(path: str) -> tuple[Key, ...]:
    return (("netns", path),) if path != HOST else ()


def state(resources: Iterable[Resource]) -> State:
    """Index resources by key; saying the same thing twice is fine, contradiction is not.

    Raises Conflict naming the key and both wishes.
    """
    out: dict[Key, Resource] = {}
    for r in resources:
        said = out.setdefault(r.key, r)
        if said is not r and (changed(said, r) or changed(r, said)):
            raise Conflict(f"{r} is wanted in two ways: {differences(said, r)}")
    return out


def changed(want: Resource, have: Resource) -> frozenset[str]:
    """Names of the fields of `want` that `have` does not satisfy."""
    if want == have:
        return frozenset()
    if type(want) is not type(have):
        return frozenset({"type"})
    return frozenset(
        name
        for name in _compared(type(want))  # type: ignore[arg-type]
        if (wish := getattr(want, name)) != (seen := getattr(have, name))
        and not (wish is None and name in want.lenient)
        and not (seen is None and name in want.opaque)
    )


def differences(want: Resource, have: Resource) -> str:
    """In which fields `have` does not satisfy `want`, for people: "mtu 1500, not 1400"."""
    names = sorted(changed(want, have) | changed(have, want))
    if "type" in names:
        return f"{have}, not {want}"
    shown = ((n, _value(getattr(have, n)), _value(getattr(want, n))) for n in names)
    return ", ".join(f"{name} {there}, not {here}" for name, there, here in shown if there != here)


def _value(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        return " ".join(map(str, value)) or "none"
    return {None: "none", True: "on", False: "off"}.get(value, str(value))  # type: ignore[call-overload, no-any-return]


@cache
def _compared(kind: type[Resource]) -> tuple[str, ...]:
    names = [f.name for f in fields(kind) if f.compare]
    return tuple(n for n in names if n != "owner" or kind.marked)
