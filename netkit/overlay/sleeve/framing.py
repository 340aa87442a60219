"""Datagrams of the sleeve.  Big-endian.

    type 1 = 6 | flags 1 | piece 1 | pieces 1 | receiver index 4 | counter 8 | part of a payload

A payload is what is sealed, or sent as it is where a path is not encrypted:

    network id 3 | 0 1 | one frame                           a frame of its own
    network id 3 | 0 1 | (length 2 | frame), repeated        FLAG_BUNDLE: several small ones
    network id 3 | 0 1 | number 2 | headers | one segment    FLAG_ALONE: a segment of a frame

A frame begins with the header of virtio (`vnet`, 10 bytes).  A payload longer than one datagram is
cut into pieces of equal length, the last one excepted; `piece` counts from 0, `pieces` says in the
first how many there are, and is 0 in the others.  The first one's header is the associated data
of the whole payload, and the counter its nonce.

A segment that is sealed alone comes with the headers of the whole frame, as they were, and its
number: neighbours that arrive together are joined again, and one that is lost costs no other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

DATA = 6  # the type, as in plugins.weave.wire
FLAG_BUNDLE, FLAG_ALONE = 1, 2
HEADER = struct.Struct("!BBBBIQ")
HEAD = HEADER.size  # bytes
COUNTER = 8  # where the counter begins
TAG = 16  # bytes that sealing adds
PREFIX = struct.Struct("!I")  # the network id, in the upper three bytes
FRONT = PREFIX.size  # bytes before the frame, or the first length of a bundle
LENGTH = NUMBER = struct.Struct("!H")
MOST_PIECES = 64  # UDP_MAX_SEGMENTS of kernels before 6.9
MOST_BYTES = 65_507  # of one call that sends: UDP's payload over IPv4
SMALLEST, LARGEST = 552, 65_507  # bytes of a datagram that a path may be said to carry


class Header(NamedTuple):
    type: int
    flags: int
    piece: int
    pieces: int
    receiver: int
    counter: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How payloads are cut for a path that carries datagrams of `size` bytes of UDP's payload."""

    size: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise ValueError(f"datagrams of {self.size} bytes: use {SMALLEST} to {LARGEST}")

    @property
    def part(self) -> int:
        """Bytes of a payload in each datagram."""
        return self.size - HEAD

    @property
    def most(self) -> int:
        """Datagrams in one call."""
        return min(MOST_PIECES, MOST_BYTES // self.size)

    @property
    def capacity(self) -> int:
        """Bytes of the longest payload, tag included."""
        return self.most * self.part

    @property
    def longest_frame(self) -> int:
        """Bytes of the longest frame, its virtio header included, that is not cut in software."""
        return self.capacity - TAG - FRONT

    def pieces(self, length: int) -> int:
        """Datagrams for a payload of this many bytes."""
        return -(-length // self.part)


def header(flags: int, piece: int, pieces: int, index: int, counter: int) -> bytes:
    return HEADER.pack(DATA, flags, piece, pieces, index, counter)


def read(data: bytes | memoryview, at: int = 0) -> Header:
    """The header at an offset, at which there are at least HEAD bytes."""
    return Header._make(HEADER.unpack_from(data, at))


def front(network: int) -> bytes:
    """What a payload begins with."""
    return PREFIX.pack(network << 8)
