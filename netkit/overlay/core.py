"""What the process has to do with an overlay's core: values that go to and fro, and what it calls.

A core is found by its name in the entry-point group `netkit.overlays`.  It decides; the process
has the clock, sockets, the disk and the kernel.  Of a `Step` first `persist` is written, then
datagrams are sent, then clients are sent the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from netkit.errors import NetkitError
from netkit.overlay.verbs import Known, Network, Peers, Subnets, Text

GROUP = "netkit.overlays"
Rows = Mapping[str, Mapping[bytes, bytes]]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user launched the overlay with."""

    launch: str  # another one each time: `peers` are connected to once
    overlay: str = "weave"
    nickname: Text = ""
    password: Text = ""
    peers: Peers = ()
    resume: bool = False  # `peers` come on top of those that were connected to before
    founder: bool = False  # the range is its own: it was launched without peers
    range: Text = "10.32.0.0/12"
    trusted_subnets: Subnets = ()
    discovery: bool = True
    fastdp: bool = True
    mtu: int = 9000  # bytes of the longest packets that are tried on any path
    host: Text = "0.0.0.0"  # where the port is opened; "::" is IPv6
    port: int = 6783
    addresses: Subnets = ()  # where this host is reached, before those of its devices

    def __repr__(self) -> str:
        return f"Settings(overlay={self.overlay!r}, nickname={self.nickname!r}, ...)"


class Where(NamedTuple):
    host: str  # numeric
    port: int


class Change(Protocol):
    """A row; `value` None: it is deleted."""

    @property
    def table(self) -> str: ...
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Send:
    datagram: bytes
    to: Where
    whole: bool = False  # its size is tried: the core wants to know where the kernel refuses it


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to a call that waited; `ticket` is that of its `Pending`."""

    ticket: int | str
    result: Any = None
    error: NetkitError | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A VXLAN datagram that must not be cut: does the kernel's way work, and for that size?"""

    to: str  # the peer's host
    vni: int
    mac: bytes  # inner source, of an endpoint here
    source: str  # its IPv4 address
    data: bytes  # at the end of the inner frame
    size: int  # bytes of UDP's payload


@dataclass(frozen=True, slots=True)
class Step:
    persist: Sequence[Change] = ()
    send: Sequence[Send] = ()
    settled: Sequence[Settled] = ()
    notifications: Sequence[dict[str, Any]] = ()  # for clients that subscribed
    probes: Sequence[Probe] = ()
    relayed: Sequence[bytes] = ()  # datagrams of data that came by way of other peers
    over: bool = False  # this peer is no more: end, and delete what it kept

    def __bool__(self) -> bool:
        """Whether there is something to do."""
        sends = self.persist or self.send or self.probes or self.relayed
        return bool(sends or self.settled or self.notifications or self.over)


@dataclass(frozen=True, slots=True)
class Pending:
    """Of a call: its answer comes later, or with the step."""

    ticket: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a peer is reached."""

    number: int  # of the peer in this process
    path: Literal["fastdp", "sleeve", "relay", "none"]
    why: str  # for people
    where: Where | None = None
    index: int = 0  # of the session, the peer's
    key: bytes = field(default=b"", repr=False)  # b"": in clear
    size: int = 1232  # bytes of UDP's payload that the path carries
    whole: bool = True  # False: it loses datagrams
    sources: frozenset[IPv4Address] = frozenset()  # of VXLAN frames that are taken for its own


@dataclass(frozen=True, slots=True)
class Receiving:
    """What may come by user space; the index is ours."""

    index: int
    number: int  # of the peer
    key: bytes = field(default=b"", repr=False)  # b"": in clear, and only from `address`
    address: str = ""


class Remote(NamedTuple):
    """A container of another peer."""

    peer: bytes
    mac: str
    addresses: tuple[str, ...]


class Core(Protocol):
    """One thread uses it; nothing here waits or reads a clock.  `now`: seconds of CLOCK_BOOTTIME,
    which never go back."""

    synced: frozenset[str]
    """Tables whose changes are on the disk before anything is sent."""

    lengths: Mapping[int, int]
    """Bytes of datagrams, by their first byte; those of other types bear one of `indexes` in bytes
    4 to 7."""

    @property
    def revision(self) -> int:
        """Another one whenever anything of the following may have changed."""
        ...

    def reaches(self) -> Mapping[bytes, Reach]:
        """By peer."""
        ...

    def receiving(self) -> Mapping[int, Receiving]:
        """By index: data that is taken."""
        ...

    def indexes(self) -> frozenset[int]:
        """Of all sessions, and of those that are asked for: nothing comes under another one.  The
        same object until they change."""
        ...

    def networks(self) -> Sequence[Network]:
        """Of this host."""
        ...

    def remotes(self, network: Network) -> tuple[Sequence[Remote], Sequence[bytes]]:
        """Containers elsewhere, and who gets broadcasts."""
        ...

    def start(self, now: float) -> Step: ...
    def deadline(self) -> float: ...
    def tick(self, now: float) -> Step: ...

    def receive(self, datagram: bytes, source: Where, now: float) -> Step:
        """From any sender; never raises."""
        ...

    def do(self, verb: Known, now: float) -> tuple[Any, Step]:
        """Its result, or `Pending`.  NetkitError: refused, nothing was changed."""
        ...

    def relay(self, number: int, datagram: bytes, now: float) -> Step:
        """Have other peers pass on data."""
        ...

    def observed(self, index: int, source: Where, now: float) -> Step:
        """Authentic data under this index of ours comes from there now."""
        ...

    def lossy(self, number: int, lossy: bool, now: float) -> Step:
        """Whether what that peer sends gets lost on its way here."""
        ...

    def saw_vxlan(self, data: bytes, size: int, now: float) -> Step:
        """A `Probe` of another peer, perhaps, came out of a VXLAN device."""
        ...

    def too_large(self, to: Where, size: int, now: float) -> Step:
        """The kernel did not send a datagram of that size: the device is too small."""
        ...

    def renew(self, numbers: Sequence[int], now: float) -> Step:
        """New keys with these peers: a worker that used the present ones has died."""
        ...

    def no_fastdp(self, why: str, now: float) -> Step:
        """Why the kernel's VXLAN cannot be used on this host; "": it can."""
        ...


class Make(Protocol):
    def __call__(
        self, *, settings: Settings, rows: Rows, machine: str, boot: bytes,
        addresses: Sequence[str], software: str, random: Callable[[int], bytes], now: float,
    ) -> Core:  # fmt: skip
        """`machine`: the content of machine-id(5); `boot`: another one whenever `now` may have
        begun anew; `addresses`: of this host's devices.

        Raises:
            NetkitError: what is kept, or asked for, cannot be used; what to do.
        """
        ...
