"""Who a peer is: two key pairs that it made once, and the name that follows from them.

A peer's id is a hash of its public keys, so nobody can be given, guess or take another's: whoever
answers to an id holds its keys.  The file they are kept in knows the machine it was made on, so
that a copy of it on a second machine (a cloned disk, a template) is noticed before two peers answer
to one id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NewType

import msgspec

from netkit.errors import Conflict, StoreError
from plugins.weave.crypto import KEY, MAC, Crypto, Random, digest, mac, same

PEER_ID = 16  # bytes
SHORT = 12  # characters of a peer's id that people are shown
VERSION = 1  # of the document below
# machine-id(5): it is not to be shown to others; a keyed hash of it may be.
_MACHINE = b"netkit weave: machine"
_STATE = b"netkit weave: state"

PeerId = NewType("PeerId", bytes)
PeerIdField = Annotated[PeerId, msgspec.Meta(min_length=PEER_ID, max_length=PEER_ID)]
KeyField = Annotated[bytes, msgspec.Meta(min_length=KEY, max_length=KEY)]


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Of one peer: Ed25519 for what it signs, X25519 for its sessions."""

    signing: bytes
    exchange: bytes

    @property
    def peer(self) -> PeerId:
        return PeerId(digest(PEER_ID, self.signing, self.exchange))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Our own keys."""

    signing: bytes = field(repr=False)  # private
    exchange: bytes = field(repr=False)  # private
    public: PublicKeys

    @property
    def peer(self) -> PeerId:
        return self.public.peer


def short(peer: PeerId) -> str:
    """For people: the first characters of the id in hexadecimal."""
    return peer.hex()[:SHORT]


def make(crypto: Crypto, random: Random) -> Identity:
    """A peer that there was not before."""
    return _identity(crypto, random(KEY), random(KEY))


def _identity(crypto: Crypto, signing: bytes, exchange: bytes) -> Identity:
    public = PublicKeys(crypto.signing_public(signing), crypto.exchange_public(exchange))
    return Identity(signing=signing, exchange=exchange, public=public)


class _Document(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=VERSION)]
    machine: Annotated[bytes, msgspec.Meta(max_length=MAC)]
    signing: KeyField
    exchange: KeyField


def dump(identity: Identity, machine: str) -> bytes:
    """The content of the file that an identity is kept in; secret.

    `machine`: what distinguishes machines, such as the content of /etc/machine-id; "" if there is
    no such thing.
    """
    document = _Document(VERSION, _machine(machine), identity.signing, identity.exchange)
    body = msgspec.msgpack.encode(document)
    return mac(_STATE, body) + body


def load(data: bytes, machine: str, crypto: Crypto) -> Identity:
    """What `dump` made.  StoreError: it is damaged; Conflict: it was made on another machine.

    Where either time no machine is known, a copy is not noticed.
    """
    checksum, body = data[:MAC], data[MAC:]
    try:
        if not same(checksum, mac(_STATE, body)):
            raise StoreError(_DAMAGED)
        document = msgspec.msgpack.decode(body, type=_Document)
    except msgspec.MsgspecError:
        raise StoreError(_DAMAGED) from None
    here = _machine(machine)
    if here and document.machine and not same(here, document.machine):
        raise Conflict(
            "the weave state of this host was made on another machine: two peers with one key"
            " would take each other's place; `netkit weave reset` makes this one a new peer"
        )
    return _identity(crypto, document.signing, document.exchange)


_DAMAGED = (
    "the weave identity of this host cannot be read: it is damaged or of a newer netkit;"
    " `netkit weave reset` makes this host a new peer"
)


def _machine(machine: str) -> bytes:
    text = machine.strip()
    return mac(_MACHINE, text.encode()) if text else b""
