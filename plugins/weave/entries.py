"""The decisions that a ledger is made of, as they are signed and sent.

Bounds are such that an entry with its signatures fits one message, and one record.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from plugins.weave import prefixes
from plugins.weave.crypto import KEY, SIGNATURE, Crypto, digest
from plugins.weave.identity import PEER_ID, PeerId, PeerIdField
from plugins.weave.prefixes import Prefix

COUNCIL: Final = 5  # members at most
_TRANSFER: Final = b"netkit weave transfer 1\0"
_RECLAIM: Final = b"netkit weave reclaim 1\0"
_ACCEPT: Final = b"netkit weave accept 1\0"
HASH: Final = 32

SignatureField = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE, max_length=SIGNATURE)]
HashField = Annotated[bytes, msgspec.Meta(max_length=HASH)]
IdField = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
PrefixField = Annotated[bytes, msgspec.Meta(min_length=5, max_length=17)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_encode = msgspec.msgpack.Encoder().encode


class Value(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of the wire: a msgpack array."""


class Realm(Value, frozen=True):
    """What addresses are unique in.  It is its creator's at first: for the range, and for the
    subnets of networks outside of it, that is the founder, so that all peers of a ledger mean the
    same by a network and a subnet.  `version` is the number of an entry: who inherits from the
    creator what it had at that time inherits the realm."""

    network: IdField
    prefix: PrefixField
    creator: PeerIdField
    version: Number = 0

    @property
    def id(self) -> bytes:
        return _realm_id(self)

    @property
    def range(self) -> Prefix:
        return prefixes.decode(self.prefix)


@lru_cache(4096)
def _realm_id(realm: Realm) -> bytes:
    return digest(16, b"netkit weave realm 1\0", _encode(realm))


class Member(Value, frozen=True):
    """Of the council: its key for signatures."""

    peer: PeerIdField
    key: Annotated[bytes, msgspec.Meta(min_length=KEY, max_length=KEY)]


class Genesis(Value, frozen=True):
    """How a ledger begins: its founder owns the range, and is the council."""

    realm: Realm
    founder: Member

    @property
    def id(self) -> bytes:
        return digest(16, b"netkit weave ledger 1\0", _encode(self))


class Transfer(Value, frozen=True, tag=1):
    """`giver` gives `prefix`; `epoch` is the ownership it gives from, so that it is used once."""

    realm: Realm
    prefix: PrefixField
    giver: PeerIdField
    taker: PeerIdField
    epoch: Number
    signature: bytes = b""

    def signed(self, ledger: bytes) -> bytes:
        return _TRANSFER + ledger + _encode(msgspec.structs.replace(self, signature=b""))


class Reason(IntEnum):
    """Why a peer loses what it owns."""

    EXPIRED = 0  # its lease ended long ago
    REMOVED = 1  # somebody ran rmpeer
    LEFT = 2  # it says so itself


class Reclaim(Value, frozen=True, tag=2):
    """All that `peer` came to own up to entry `after` goes to `heir`; signed by `by`."""

    peer: PeerIdField
    heir: PeerIdField
    by: PeerIdField
    after: Number
    reason: Annotated[int, msgspec.Meta(ge=0, le=2)]
    signature: bytes = b""

    def signed(self, ledger: bytes) -> bytes:
        return _RECLAIM + ledger + _encode(msgspec.structs.replace(self, signature=b""))


class Register(Value, frozen=True, tag=4):
    """Nothing but that there is this realm: so that it can be inherited."""

    realm: Realm


class Council(Value, frozen=True, tag=3):
    """Who decides from the next entry on."""

    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=COUNCIL)]


Operation = Transfer | Reclaim | Council | Register


class Entry(Value, frozen=True):
    ledger: IdField
    number: Number  # 1 is the first
    generation: Number  # how often the council was replaced by force
    previous: HashField
    operation: Operation
    checkpoint: HashField = b""

    @property
    def hash(self) -> bytes:
        return digest(HASH, _encode(self))


class Ballot(Value, frozen=True, order=True):
    round: Number
    peer: PeerIdField


NO_BALLOT: Final = Ballot(0, PeerId(bytes(PEER_ID)))


class Vote(Value, frozen=True):
    peer: PeerIdField
    signature: SignatureField


class Decided(Value, frozen=True, tag=1):
    """An entry, and the votes that made it valid."""

    entry: Entry
    ballot: Ballot
    votes: Annotated[tuple[Vote, ...], msgspec.Meta(min_length=1, max_length=COUNCIL)]


def vote_text(entry: Entry, ballot: Ballot) -> bytes:
    """What a member signs when it accepts."""
    return _ACCEPT + _encode((entry.ledger, entry.number, ballot, entry.hash))


def majority(members: int) -> int:
    return members // 2 + 1


def valid(decided: Decided, members: tuple[Member, ...], crypto: Crypto) -> bool:
    """Whether a majority of `members` voted for it."""
    keys = {member.peer: member.key for member in members}
    said = vote_text(decided.entry, decided.ballot)
    voters = {
        vote.peer for vote in decided.votes
        if vote.peer in keys and crypto.verify(keys[vote.peer], said, vote.signature)
    }  # fmt: skip
    return len(voters) >= majority(len(members))
