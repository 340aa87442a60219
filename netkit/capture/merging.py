"""Packets of several points in the order of the kernel's stamps.  Pure.

Each point's packets come nearly in order; those of different points do not.  A packet is handed on
once no point can have an older one: each has been read up to a time past it, less a margin for
packets that were stamped and not yet queued.  What waits is bounded: beyond that, the oldest goes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

MARGIN = 5_000_000  # ns between a stamp and the packet's arrival in the socket's queue, at most
MOST_PACKETS, MOST_BYTES = 1 << 15, 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """`stamp` in nanoseconds since 1970; `length` that on the link; `flags` as pcapng has them."""

    point: int
    stamp: int
    data: bytes
    length: int
    flags: int


class Merging:
    def __init__(self, points: int) -> None:
        self._read = dict.fromkeys(range(points), 0)
        self._waiting: list[tuple[int, int, Packet]] = []
        self._bytes = self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, packet: Packet) -> None:
        self._count += 1  # of equal stamps the first to come is first
        heapq.heappush(self._waiting, (packet.stamp, self._count, packet))
        self._bytes += len(packet.data)

    def read(self, point: int, until: int) -> None:
        """All packets of `point` that were queued by that time have been added."""
        if point in self._read:
            self._read[point] = until

    def gone(self, point: int) -> None:
        """There are no more of it."""
        self._read.pop(point, None)

    def ordered(self) -> Iterator[Packet]:
        """Those that nothing older can come before."""
        until = min(self._read.values(), default=None)
        while self._waiting and (
            until is None
            or self._waiting[0][0] <= until - MARGIN
            or len(self._waiting) > MOST_PACKETS
            or self._bytes > MOST_BYTES
        ):
            yield self._pop()

    def rest(self) -> Iterator[Packet]:
        """All that wait, at the end."""
        while self._waiting:
            yield self._pop()

    def _pop(self) -> Packet:
        packet = heapq.heappop(self._waiting)[2]
        self._bytes -= len(packet.data)
        return packet
