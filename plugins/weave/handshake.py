"""What two peers send each other in a handshake, and what they agree on.

The Noise messages of `plugins.weave.noise` carry a `Hello` of either side; XX's first message,
which is sealed for no key in particular, carries none.  The prologue binds the pattern and the
initiator's index, the payload everything else.  Neither clock nor counter is in it: a first message
that another host sends again leads to a session that is never confirmed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec

from plugins.weave.crypto import Crypto, Random
from plugins.weave.identity import Identity, KeyField, PublicKeys
from plugins.weave.noise import KeyPair, NoiseHandshake
from plugins.weave.wire import MAX_INDEX, NOISE, Codec, Pattern, WireError

OLDEST, NEWEST = 1, 1  # versions of all that is within a session
INSTANCE = 8  # bytes; drawn when a process starts
_PROLOGUE = struct.Struct("!14sBI")
_LENGTH = struct.Struct("!H")
LONGEST_HELLO = 160  # bytes; fits into each of the messages

_Version = Annotated[int, msgspec.Meta(ge=0, le=255)]
_U32 = Annotated[int, msgspec.Meta(ge=0, le=MAX_INDEX)]


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Fields that a newer version adds behind these are skipped."""

    oldest: _Version
    newest: _Version
    index: _U32  # of the sender, for what is sent to it
    signing: KeyField  # Ed25519; its records are signed with it
    instance: Annotated[bytes, msgspec.Meta(min_length=INSTANCE, max_length=INSTANCE)]
    features: _U32  # bits that this layer only passes on
    sealed: bool  # the sender demands that data be sealed between the two


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Our side of every handshake of this process."""

    crypto: Crypto
    random: Random
    us: Identity
    psk: bytes
    instance: bytes
    features: int = 0

    def hello(self, index: int, *, sealed: bool) -> Hello:
        return Hello(
            oldest=OLDEST,
            newest=NEWEST,
            index=index,
            signing=self.us.public.signing,
            instance=self.instance,
            features=self.features,
            sealed=sealed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Of a complete handshake; from Noise's keys, `sending` and `receiving`, others are derived."""

    keys: PublicKeys
    hello: Hello  # theirs
    said: bool  # what we said of sealing data
    sending: bytes
    receiving: bytes

    @property
    def version(self) -> int:
        """The newest one both speak; 0: there is none."""
        common = min(NEWEST, self.hello.newest)
        return common if common >= max(OLDEST, self.hello.oldest) else 0


class _Side:
    """What both sides do."""

    def __init__(
        self, party: Party, pattern: Pattern, initiator: bool, index: int, remote: bytes
    ) -> None:
        self._party = party
        self.pattern = pattern
        self._said = True
        static = KeyPair(party.us.exchange, party.us.public.exchange)
        ephemeral = party.random(32)
        self._noise = NoiseHandshake(
            party.crypto,
            pattern,
            initiator=initiator,
            prologue=_PROLOGUE.pack(b"netkit weave 1", pattern, index),
            static=static,
            ephemeral=KeyPair(ephemeral, party.crypto.exchange_public(ephemeral)),
            psk=party.psk,
            remote=remote,
        )

    def _write(self, hello: Hello | None) -> bytes:
        body = _CODEC.encode(hello) if hello else b""
        self._said = hello.sealed if hello else True
        payload = _LENGTH.pack(len(body)) + body
        return self._noise.write(payload.ljust(self._noise.room(NOISE), b"\0"))

    def _read(self, message: bytes) -> bytes:
        """The encoded Hello of a message, "" where there is none."""
        payload = self._noise.read(message)
        (length,) = _LENGTH.unpack_from(payload)
        body, rest = payload[2 : 2 + length], payload[2 + length :]
        if len(body) != length or any(rest):
            raise WireError("a handshake's payload of another length than it says")
        return body

    def _agreed(self, hello: Hello) -> Agreed:
        sending, receiving = self._noise.split()
        keys = PublicKeys(hello.signing, self._noise.remote)
        return Agreed(keys=keys, hello=hello, said=self._said, sending=sending, receiving=receiving)


class Opening(_Side):
    """The initiator's side.  With the other's keys the pattern is IK, without them XX."""

    def __init__(
        self, party: Party, index: int, remote: PublicKeys | None, *, sealed: bool
    ) -> None:
        pattern = Pattern.IK if remote else Pattern.XX
        super().__init__(party, pattern, True, index, remote.exchange if remote else b"")
        self._hello = party.hello(index, sealed=sealed)
        self._remote = remote
        self.first = self._write(self._hello if remote else None)

    def second(self, message: bytes) -> tuple[Agreed, bytes]:
        """Of the answer: what is agreed on, and the third message, "" where there is none.

        WireError: it is not the answer of who was asked; the right one may still come.
        """
        hello = _CODEC.decode(self._read(message))
        if self._remote and hello.signing != self._remote.signing:
            raise WireError("a peer whose signing key is not the one known")
        third = self._write(self._hello) if self.pattern == Pattern.XX else b""
        return self._agreed(hello), third


class Answering(_Side):
    """The responder's side: read the first, write the second; of XX read the third.

    WireError of the constructor: no answer is to be sent.
    """

    def __init__(self, party: Party, pattern: Pattern, index: int, message: bytes) -> None:
        super().__init__(party, pattern, False, index, b"")
        body = self._read(message)
        self._theirs = _CODEC.decode(body) if pattern == Pattern.IK else None
        if pattern == Pattern.XX and body:
            raise WireError("a hello that is sealed for no key")
        if self._theirs and self._theirs.index != index:
            raise WireError("an index in the hello that is not the datagram's")

    @property
    def keys(self) -> PublicKeys | None:
        """Whose first message it is; None: XX, where the third one says."""
        return PublicKeys(self._theirs.signing, self._noise.remote) if self._theirs else None

    @property
    def hello(self) -> Hello | None:
        """Theirs, of IK; until it is confirmed it may be one of long ago."""
        return self._theirs

    def second(self, index: int, *, sealed: bool) -> bytes:
        """The answer, with the index at which we want the rest."""
        return self._write(self._party.hello(index, sealed=sealed))

    def agreed(self, third: bytes = b"") -> Agreed:
        """After the second message of IK, or with the third of XX.

        WireError: it is not from who sent the first; the right one may still come.
        """
        return self._agreed(self._theirs or _CODEC.decode(self._read(third)))


_CODEC: Codec[Hello] = Codec(Hello, longest=LONGEST_HELLO)
