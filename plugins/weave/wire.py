"""Datagrams of the overlay's one UDP port (6783), read and made.  Big-endian; all of them bounded.

    1, 2, 3  handshake   type 1 | pattern 1 | 0 2 | index 4 | Noise message 280 | mac1 16 | mac2 16
    4        cookie      type 1 | 0 3 | index 4 | salt 16 | sealed cookie 32
    5        control     type 1 | flags 1 | 0 2 | index 4 | counter 8 | sealed
    6        data        as 5, under other keys
    7        probe       as 5, under the keys of 5; padded to the size that is probed for

`index` is one that the receiver chose for the session; in a handshake's first message, which has no
receiver's yet, it is the sender's.  The 16 bytes before what is sealed are its associated data, and
the counter is the nonce.  Every handshake message has the same size, so that no host that answers
one sends more than he got.

Everything here is called with bytes of strangers.  A parser returns a value that is made into the
same bytes again, or raises `WireError`; it does nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

import msgspec

from plugins.weave.crypto import MAC, TAG

PORT = 6783  # UDP; what weave's users let through their firewalls
MAX_DATAGRAM = 65_507  # bytes of UDP's payload over IPv4
PATH_FLOOR = 1280 - 40 - 8  # bytes of UDP's payload that every path is taken to carry, RFC 8200
NOISE = 280  # bytes of a Noise message, padding included
SALT = 16  # bytes of a cookie's
MAX_MESSAGE = 1120  # bytes of a message that can be relayed: sealed, carried and sealed again
MAX_INDEX = 2**32 - 1
MAX_COUNTER = 2**64 - 1

_HANDSHAKE = struct.Struct(f"!BBHI{NOISE}s{MAC}s{MAC}s")
_COOKIE = struct.Struct(f"!B3sI{SALT}s{MAC + TAG}s")
_HEADER = struct.Struct("!BBHIQ")
HANDSHAKE = _HANDSHAKE.size  # bytes
COOKIE = _COOKIE.size
HEADER = _HEADER.size
MAX_CARRIED = PATH_FLOOR - HEADER - TAG - 1  # bytes of a message that carries such a datagram
MAX_SEALED = HEADER + 1 + MAX_MESSAGE + TAG  # bytes of the datagram of a message to be relayed


class WireError(Exception):
    """These bytes are no message; what they should have been and why not.  They are dropped."""


class Kind(IntEnum):
    """The first byte of a datagram."""

    FIRST = 1
    SECOND = 2
    THIRD = 3
    COOKIE = 4
    CONTROL = 5
    DATA = 6
    PROBE = 7


class Pattern(IntEnum):
    """Which handshake: with a peer whose key is known, or with any peer at an address."""

    XX = 0
    IK = 1


@dataclass(frozen=True, slots=True)
class Handshake:
    kind: Kind  # FIRST, SECOND or THIRD
    pattern: Pattern
    index: int
    noise: bytes  # NOISE bytes
    mac1: bytes
    mac2: bytes

    def encode(self) -> bytes:
        return _HANDSHAKE.pack(
            self.kind, self.pattern, 0, self.index, self.noise, self.mac1, self.mac2
        )

    @property
    def before_mac1(self) -> bytes:
        return self.encode()[: -2 * MAC]

    @property
    def before_mac2(self) -> bytes:
        return self.encode()[:-MAC]


@dataclass(frozen=True, slots=True)
class Cookie:
    """An answer to a handshake's first message under load: "send it again, with this as the key of
    mac2, which shows that you get what is sent to the address you gave"."""

    index: int
    salt: bytes
    sealed: bytes

    def encode(self) -> bytes:
        return _COOKIE.pack(Kind.COOKIE, bytes(3), self.index, self.salt, self.sealed)


@dataclass(frozen=True, slots=True)
class Transport:
    """Of a session: `header` is the associated data of `sealed`."""

    kind: Kind  # CONTROL, DATA or PROBE
    flags: int
    index: int
    counter: int
    sealed: bytes  # with the tag

    @property
    def header(self) -> bytes:
        return header(self.kind, self.index, self.counter, self.flags)

    def encode(self) -> bytes:
        return self.header + self.sealed


Datagram = Handshake | Cookie | Transport


def header(kind: Kind, index: int, counter: int, flags: int = 0) -> bytes:
    """The HEADER bytes before what is sealed."""
    return _HEADER.pack(kind, flags, 0, index, counter)


def is_handshake(datagram: bytes) -> bool:
    """Whether `parse` would look at it as a handshake message; the last 32 bytes are its macs."""
    return len(datagram) == HANDSHAKE and Kind.FIRST <= datagram[0] <= Kind.THIRD


def parse(datagram: bytes) -> Datagram:
    """Any UDP payload; nothing of it is known to be true yet."""
    first = datagram[0] if datagram else 0
    if Kind.FIRST <= first <= Kind.THIRD:
        return _handshake(datagram)
    if first == Kind.COOKIE:
        return _cookie(datagram)
    if Kind.CONTROL <= first <= Kind.PROBE:
        return _transport(datagram)
    raise WireError(f"no type {first}" if datagram else "empty")


def _handshake(datagram: bytes) -> Handshake:
    if len(datagram) != HANDSHAKE:
        raise WireError(f"a handshake message has {HANDSHAKE} bytes, not {len(datagram)}")
    kind, pattern, zero, index, noise, mac1, mac2 = _HANDSHAKE.unpack(datagram)
    if zero or pattern > Pattern.IK or (kind == Kind.THIRD and pattern == Pattern.IK):
        raise WireError(f"no handshake {kind} of pattern {pattern}")
    return Handshake(Kind(kind), Pattern(pattern), index, noise, mac1, mac2)


def _cookie(datagram: bytes) -> Cookie:
    if len(datagram) != COOKIE:
        raise WireError(f"a cookie has {COOKIE} bytes, not {len(datagram)}")
    _, zero, index, salt, sealed = _COOKIE.unpack(datagram)
    if any(zero):
        raise WireError("a cookie's bytes 1 to 3 are zero")
    return Cookie(index, salt, sealed)


def _transport(datagram: bytes) -> Transport:
    if not HEADER + TAG <= len(datagram) <= MAX_DATAGRAM:
        raise WireError(f"{len(datagram)} bytes are no datagram of a session")
    kind, flags, zero, index, counter = _HEADER.unpack_from(datagram)
    if zero:
        raise WireError("bytes 2 and 3 are zero")
    return Transport(Kind(kind), flags, index, counter, bytes(datagram[HEADER:]))


T = TypeVar("T")


class Codec(Generic[T]):
    """msgpack of one type or one union of tagged `msgspec.Struct`s, within a number of bytes.

    The type says what else is bounded: `Annotated[bytes, msgspec.Meta(max_length=...)]`.
    """

    def __init__(self, type_: type[T], *, longest: int = MAX_MESSAGE) -> None:
        self._decoder = msgspec.msgpack.Decoder(type_)
        self._encoder = msgspec.msgpack.Encoder()
        self._longest = longest

    def encode(self, value: T) -> bytes:
        """ValueError: longer than what the other side takes, which is a mistake of ours."""
        data = self._encoder.encode(value)
        if len(data) > self._longest:
            raise ValueError(f"{len(data)} bytes are more than {self._longest}: {value!r:.200}")
        return data

    def decode(self, data: bytes) -> T:
        """WireError: anything but one value of the type."""
        if len(data) > self._longest:
            raise WireError(f"{len(data)} bytes are more than {self._longest}")
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as e:
            raise WireError(str(e)) from None
