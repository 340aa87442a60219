"""What those who carry data are sent: by which way frames go to each peer, and under which keys.

Events are whole values: each replaces what was said before of the same peer, index or network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from plugins.weave.identity import PeerId
from plugins.weave.step import Address, Event, Where

VXLAN_PORT: Final = 6784
"""UDP, of the kernel's VXLAN devices."""
VXLAN: Final = 8 + 14
"""Bytes of UDP's payload that VXLAN takes beside a packet: its header, Ethernet's (RFC 7348)."""
SLEEVE: Final = 16 + 16 + 4 + 10 + 14
"""The same of the sleeve: header, tag, network, virtio's header and Ethernet's."""


class Way(Enum):
    """How frames get to a peer."""

    FASTDP = "fastdp"  # by the kernel's VXLAN
    SLEEVE = "sleeve"  # by user space, from host to host
    RELAY = "relay"  # by user space and other peers: `Overlay.relay`
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPath(Event):
    """How frames go to a peer from now on.

    What has to go by user space, though the way is fastdp (networks that are encrypted), goes to
    `where`, too, as this says.
    """

    peer: PeerId
    number: int
    """Of the peer in this process: from 1 on, never another's."""
    way: Way
    reason: str
    """For people: "sleeve: no answer to VXLAN probes"."""
    where: Where | None
    """Where user space sends datagrams; None only with `Way.NONE`."""
    index: int = 0
    """In the header of these."""
    key: bytes = field(default=b"", repr=False)
    """AES-256-GCM; b"": they go in clear."""
    size: int
    """Bytes of UDP's payload that the path carries."""
    mtu: int
    """Of packets in containers that fit one datagram."""
    whole: bool = True
    """False: the path loses datagrams, so each segment of a frame is to be sealed by itself."""
    sources: tuple[str, ...] = ()
    """Addresses from which VXLAN frames are taken for this peer's, whatever `way` is."""


@dataclass(frozen=True, slots=True)
class PeerGone(Event):
    """There is no way to that peer any more."""

    peer: PeerId
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(Event):
    """Data under this index is to be opened and taken for that peer's."""

    index: int
    peer: PeerId
    number: int
    """As in `PeerPath`."""
    key: bytes = field(default=b"", repr=False)
    """AES-256-GCM; b"": it comes in clear, and only from `where`."""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class AcceptNoMore(Event):
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeVxlan(Event):
    """Please send a VXLAN datagram that must not be cut, once.

    Its inner frame has `data` at the end, filled with zeros before it, and reaches no container
    there.  The host that sees it come out of its VXLAN device calls `Overlay.saw_vxlan` with
    `data`.
    """

    to: Address
    vni: int
    mac: bytes
    """Inner source: of an endpoint of ours in that network, as others are dropped."""
    data: bytes
    size: int
    """Bytes of UDP's payload: VXLAN's header and the inner frame."""


@dataclass(frozen=True, slots=True)
class TableChanged(Event):
    """`Overlay.table` of that network is another one: hosts, or who has members."""

    network: bytes


@dataclass(frozen=True, slots=True)
class MembersChanged(Event):
    """Endpoints of other hosts, or names, on networks of this host may be other ones
    (`members`)."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A container, or an exposed host, at another peer."""

    peer: PeerId
    number: int
    """As in `PeerPath`."""
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Of one network of this host: who is elsewhere on it, and who gets broadcasts (once each)."""

    network: bytes
    vni: int
    encrypted: bool
    """All of it goes by user space."""
    remotes: tuple[Remote, ...]
    members: tuple[PeerId, ...]
    conflicts: tuple[str, ...]
    """For people: addresses that several say they have."""
