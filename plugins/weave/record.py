"""One signed statement of a peer, which all other peers keep a copy of.

A record is `body || signature`: the body is a msgpack array (origin, version, kind, key, value,
digest), the signature is Ed25519 (64 bytes) over CONTEXT and the body, by the origin.  Nobody
else can make one; those who pass it on pass on the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from plugins.weave import limits
from plugins.weave.crypto import SIGNATURE, digest
from plugins.weave.identity import PeerId, PeerIdField
from plugins.weave.wire import WireError

CONTEXT: Final = b"netkit weave record 1\0"
DIGEST: Final = 16

_EPOCH_SHIFT: Final = 40
_RUN_SHIFT: Final = 28
_RUNS: Final = 1 << 12

Place = tuple[int, bytes]
"""(kind, key): where a record of an origin lives; a newer one of the same place replaces it."""


class Kind(IntEnum):
    """What a record is about.  Kinds that a peer does not know are kept and passed on."""

    HOST = 1
    LINKS = 2
    ENDPOINT = 3
    NETWORK = 4
    SPACE = 5
    NAME = 6
    LEASE = 7
    REMOVED = 8
    SUSPECT = 9
    FORGOTTEN = 10


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What is signed."""

    origin: PeerIdField
    version: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    kind: Annotated[int, msgspec.Meta(ge=0, le=255)]
    key: Annotated[bytes, msgspec.Meta(max_length=limits.KEY)]
    value: Annotated[bytes, msgspec.Meta(max_length=limits.VALUE)] | None
    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST, max_length=DIGEST)]


class Record(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A record, parsed.  `value` None: whatever was at this place is deleted.

    `version` orders all records of an origin (see `version`).  `digest` is `set_digest` of the
    origin's live records after this one.  `item` stands for the record in that digest and in
    manifests: the version and eight bytes of a hash of place and value, so that two records of one
    version, which only a faulty origin makes, are distinguished.
    """

    origin: PeerId
    version: int
    place: Place
    value: bytes | None
    digest: bytes
    item: bytes
    blob: bytes

    @property
    def kind(self) -> int:
        return self.place[0]

    @property
    def key(self) -> bytes:
        return self.place[1]

    @property
    def epoch(self) -> int:
        """How often the origin has started, or found that it had lost memory."""
        return self.version >> _EPOCH_SHIFT

    @property
    def body(self) -> bytes:
        return self.blob[:-SIGNATURE]

    @property
    def signature(self) -> bytes:
        return self.blob[-SIGNATURE:]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Body)


def first_version(epoch: int, run: int) -> int:
    """The lowest version of an epoch: 23 bits epoch, 12 bits `run`, 28 bits count.

    `run` is random, so that two lives of one peer, begun from copies of one disk, hardly ever
    sign two records with one version.
    """
    return epoch << _EPOCH_SHIFT | run % _RUNS << _RUN_SHIFT | 1


def item_of(version: int, kind: int, key: bytes, value: bytes | None) -> bytes:
    """16 bytes that sort as versions do."""
    content = (bytes((kind, len(key))), key, b"" if value is None else b"\1" + value)
    return version.to_bytes(8, "big") + digest(8, *content)


def set_digest(items: Iterable[bytes]) -> bytes:
    """Of a set of items.  A hash over all of them in order, not a sum: sums can be met by other
    sets, which would let those who pass records on leave out what was deleted or changed."""
    return digest(DIGEST, b"".join(sorted(items)))


def encode(body: Body) -> bytes:
    """The bytes that are signed, without CONTEXT."""
    return _ENCODER.encode(body)


def assemble(body: Body, blob: bytes) -> Record:
    """A record, of its bytes and what is in them."""
    return Record(
        origin=body.origin, version=body.version, place=(body.kind, body.key), value=body.value,
        digest=body.digest, item=item_of(body.version, body.kind, body.key, body.value),
        blob=blob,
    )  # fmt: skip


def parse(blob: bytes) -> Body:
    """The body of a record; the signature is not checked.

    Raises:
        WireError: it is none, or too large.
    """
    if len(blob) > limits.RECORD:
        raise WireError(f"a record of {len(blob)} bytes, more than {limits.RECORD}")
    try:
        return _DECODER.decode(blob[:-SIGNATURE])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no record: {error}") from None


def decode(blob: bytes) -> Record:
    """As `parse`, the whole record."""
    return assemble(parse(blob), blob)
