"""What the process has to do with an overlay's core: values that go to and fro, and what it calls.

A core is found by its name in the entry-point group `netkit.overlays`.  It decides; the process
has the clock, sockets, the disk and the kernel.  Of a `Step` first `persist` is written, then
datagrams are sent, then clients hear of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from netkit.errors import NetkitError
from netkit.overlay.verbs import Known, Network, Peers, Subnets, Text

Rows = Mapping[str, Mapping[bytes, bytes]]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user launched the overlay with."""

    overlay: str = "weave"
    nickname: Text = ""
    password: Text = ""
    peers: Peers = ()
    founder: bool = False  # it was launched without peers: the range is its own
    range: str = "10.32.0.0/12"
    trusted_subnets: Subnets = ()
    discovery: bool = True
    fastdp: bool = True
    mtu: int | None = None  # of the underlay, in bytes; None: it is found out
    host: str = "0.0.0.0"  # where the port is opened; "::" is IPv6
    port: int = 6783
    vxlan_port: int = 6784
    addresses: Subnets = ()  # where this host is reached, besides those of its devices


class Where(NamedTuple):
    host: str  # numeric
    port: int


@dataclass(frozen=True, slots=True)
class Change:
    """A row; `value` None: it is deleted."""

    table: str
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Send:
    datagram: bytes
    to: Where


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to a call that waited; `ticket` is that of its `Pending`."""

    ticket: int
    result: Any = None
    error: NetkitError | None = None


@dataclass(frozen=True, slots=True)
class Step:
    persist: Sequence[Change] = ()
    send: Sequence[Send] = ()
    settled: Sequence[Settled] = ()
    told: Sequence[dict[str, Any]] = ()  # for clients that subscribed


@dataclass(frozen=True, slots=True)
class Pending:
    """Of a call: its answer comes later."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Receiving:
    """What may come from a peer: the index is ours."""

    index: int
    key: bytes = field(repr=False)  # b"": in clear, and only from `address`
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a peer is reached, and what may come from it."""

    path: Literal["fastdp", "sleeve", "none"]
    why: str  # for people
    where: Where | None = None
    index: int = 0  # of the session, the peer's
    key: bytes = field(default=b"", repr=False)  # b"": in clear
    size: int = 1232  # bytes of UDP's payload that the path carries
    whole: bool = True  # False: it loses datagrams
    receiving: tuple[Receiving, ...] = ()
    sources: frozenset[IPv4Address] = frozenset()  # of VXLAN frames that are taken for its own


class Member(NamedTuple):
    """A container of another peer."""

    peer: bytes
    mac: bytes
    addresses: tuple[bytes, ...]  # packed


class Core(Protocol):
    """Nothing here waits, reads a clock or raises, but where that is said.

    `now`: seconds of CLOCK_BOOTTIME.
    """

    synced: frozenset[str]
    """Tables whose changes are on the disk before anything is sent."""

    @property
    def revision(self) -> int:
        """Another one whenever `reaches` or `members` may have changed."""
        ...

    def start(self, now: float) -> Step: ...
    def deadline(self) -> float: ...
    def tick(self, now: float) -> Step: ...
    def receive(self, datagram: bytes, source: Where, now: float) -> Step: ...

    def do(self, verb: Known, now: float) -> tuple[Any, Step]:
        """Its result, or `Pending`.  NetkitError: refused, nothing was changed."""
        ...

    def networks(self, networks: Sequence[Network], now: float) -> Step:
        """These are on this host."""
        ...

    def reaches(self, now: float) -> Mapping[bytes, Reach]:
        """By peer, of those with a session."""
        ...

    def members(self, vni: int) -> Sequence[Member]: ...
    def name(self, peer: bytes) -> str: ...

    def renew(self, peers: Sequence[bytes], indexes: Sequence[int], now: float) -> Step:
        """New keys: a worker that used those of these peers, or of these sessions, has died."""
        ...

    def indexes(self) -> frozenset[int]:
        """Of sessions: other datagrams of a session need not be handed in."""
        ...


class Make(Protocol):
    def __call__(
        self, *, settings: Settings, rows: Rows, machine: str, boot: bytes,
        addresses: Sequence[str], random: Callable[[int], bytes], now: float,
    ) -> Core:  # fmt: skip
        """`machine`: the content of machine-id(5); `boot`: another one whenever `now` may have
        begun anew.

        Raises:
            NetkitError: what is kept cannot be used; what to do.
        """
        ...


GROUP = "netkit.overlays"
