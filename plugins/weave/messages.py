"""What neighbours say to each other inside their sessions: msgpack arrays that begin with a tag.

Messages are small (`limits.MESSAGE`), each is of use by itself, and none has to arrive: what was
lost is found to differ when the neighbours next compare.  `decode` raises WireError for all that is
no message, or is larger than it may be.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from plugins.weave import limits
from plugins.weave.identity import PeerIdField
from plugins.weave.record import DIGEST
from plugins.weave.statements import AddressField, Count
from plugins.weave.wire import MAX_SEALED, WireError

FANOUT: Final = 16
"""Children of a node in the tree of digests (`tree`)."""
ITEM: Final = 16
PAGE: Final = 60
"""Items of a manifest in one message."""
DATAGRAM: Final = MAX_SEALED
"""Bytes of a datagram that is relayed: a sealed message."""

Nonce = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Hash = Annotated[bytes, msgspec.Meta(min_length=DIGEST, max_length=DIGEST)]
Hashes = Annotated[bytes, msgspec.Meta(min_length=DIGEST * FANOUT, max_length=DIGEST * FANOUT)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=FANOUT)]
Items = Annotated[bytes, msgspec.Meta(max_length=ITEM * PAGE)]
Page = Annotated[int, msgspec.Meta(ge=0, lt=limits.RECORDS // PAGE + 1)]


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class Hello(_Message, frozen=True, tag=0):
    """The first message of a session."""

    seen: AddressField | None
    """Where the sender sees the receiver."""


class Ping(_Message, frozen=True, tag=1):
    nonce: Nonce
    root: Hash
    """Digest of all records of the sender (`tree.Tree.root`)."""
    keep: bool
    """Whether the sender wants the session for itself."""


class Ack(_Message, frozen=True, tag=2):
    """The answer to a Ping."""

    nonce: Nonce
    root: Hash
    keep: bool


class PingRequest(_Message, frozen=True, tag=3):
    """Please find out whether `target` answers."""

    nonce: Nonce
    target: PeerIdField


class Reached(_Message, frozen=True, tag=4):
    """The answer to a PingRequest, if it does."""

    nonce: Nonce


class Compare(_Message, frozen=True, tag=5):
    """Our digests differ: these are the sender's on the level below the root."""

    groups: Hashes


class Groups(_Message, frozen=True, tag=6):
    """Digests of buckets in groups that differ, with the groups' indices."""

    groups: Annotated[tuple[tuple[Index, Hashes], ...], msgspec.Meta(max_length=4)]


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the sender has of one origin."""

    origin: PeerIdField
    version: Count
    digest: Hash
    """Of the set that it has."""


class Heads(_Message, frozen=True, tag=7):
    """All origins of some buckets that the sender has records of."""

    buckets: Annotated[bytes, msgspec.Meta(max_length=256)]
    heads: Annotated[tuple[Head, ...], msgspec.Meta(max_length=64)]


class Wanted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    origin: PeerIdField
    since: Count
    """Records of later versions; with `manifest`, the list of all live ones instead."""
    manifest: bool


class Pull(_Message, frozen=True, tag=8):
    """A request for records."""

    wanted: Annotated[tuple[Wanted, ...], msgspec.Meta(max_length=40)]


class Push(_Message, frozen=True, tag=9):
    """Records."""

    records: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=limits.RECORD)], ...],
        msgspec.Meta(max_length=16),
    ]


class Manifest(_Message, frozen=True, tag=10):
    """One page of the list of live items of an origin as of a version."""

    origin: PeerIdField
    version: Count
    page: Page
    pages: Annotated[int, msgspec.Meta(ge=1, le=limits.RECORDS // PAGE + 1)]
    items: Items


class Pick(_Message, frozen=True, tag=11):
    """A request for single records, by their items."""

    origin: PeerIdField
    items: Items


class Relay(_Message, frozen=True, tag=12):
    """A datagram between two peers that cannot reach each other; it is sealed between them."""

    source: PeerIdField
    target: PeerIdField
    hops: Annotated[int, msgspec.Meta(ge=1, le=limits.HOPS)]
    """That it may still take, this one included."""
    datagram: Annotated[bytes, msgspec.Meta(max_length=DATAGRAM)]


Message = (
    Hello | Ping | Ack | PingRequest | Reached | Compare | Groups | Heads | Pull | Push | Manifest
    | Pick | Relay
)  # fmt: skip

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Raises WireError."""
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no message: {error}") from None
