"""Decide what becomes of each frame, one way.  No clock and no chance of its own.

In the order of netem (net/sched/sch_netem.c): loss, duplication, corruption, rate, then delay, of
which reordered frames are spared.
"""

from __future__ import annotations

import heapq
from random import Random

from netkit.model.impairment import PERFECT, Impairment

HEADER = 14  # bytes of Ethernet: a flipped bit is behind them
MAX_HELD = 64 << 20  # bytes under way
QUEUE_SECONDS = 0.2  # of waiting for the rate, at most; more is dropped at the tail
QUEUE_FRAMES = 10  # ... but as many of full size may wait
FULL_SIZE = 1514
COUNTS = ("frames", "bytes", "lost", "duplicated", "reordered", "corrupted", "overflowed")


class Way:
    """Frames under way.  A frame has `prefix` bytes before its Ethernet header.  Times: seconds."""

    def __init__(self, random: Random, prefix: int = 0) -> None:
        self._random, self._prefix = random, prefix
        self._heap: list[tuple[float, int, bytes]] = []
        self._busy = 0.0  # until then the link sends what came before
        self._held = self._number = 0
        self.impairment = PERFECT
        self.passes = True  # frames go on at once, and nothing is held
        self.counts = dict.fromkeys(COUNTS, 0)
        self.late_sum = self.late_max = 0.0  # of frames that were delayed
        self.delayed = 0

    def impair(self, impairment: Impairment) -> None:
        """From now on; what is under way arrives when it would have."""
        self.impairment = impairment
        self._busy = 0.0
        self._settle()

    def _settle(self) -> None:
        self.passes = not self._heap and not self.impairment

    def reset_counts(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self.late_sum = self.late_max = 0.0
        self.delayed = 0

    def accept(self, frame: bytes, now: float) -> None:
        """Take one that came in at `now`."""
        counts, what, chance = self.counts, self.impairment, self._random.random
        counts["frames"] += 1
        counts["bytes"] += len(frame) - self._prefix
        if what.down or (what.loss and chance() < what.loss):
            counts["lost"] += 1
            return
        copies = 1
        if what.duplicate and chance() < what.duplicate:
            counts["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            self._enqueue(frame, now)

    def _enqueue(self, frame: bytes, now: float) -> None:
        counts, what, random = self.counts, self.impairment, self._random
        if self._held + len(frame) > MAX_HELD:
            counts["overflowed"] += 1
            return
        if what.corrupt and random.random() < what.corrupt:
            counts["corrupted"] += 1
            frame = self._corrupted(frame)
        due = now
        if what.rate:
            if self._busy - now > max(QUEUE_SECONDS, QUEUE_FRAMES * FULL_SIZE * 8 / what.rate):
                counts["overflowed"] += 1
                return
            bits = (len(frame) - self._prefix) * 8
            due = self._busy = max(self._busy, now) + bits / what.rate
        if what.reorder and random.random() < what.reorder:
            counts["reordered"] += 1
        elif what.jitter:
            due += what.delay + random.uniform(-what.jitter, what.jitter)
        else:
            due += what.delay
        self._number += 1
        self._held += len(frame)
        heapq.heappush(self._heap, (due, self._number, frame))

    def _corrupted(self, frame: bytes) -> bytes:
        first = self._prefix + HEADER
        if len(frame) <= first:
            return frame
        bit = self._random.randrange((len(frame) - first) * 8)
        out = bytearray(frame)
        out[first + bit // 8] ^= 1 << bit % 8
        return bytes(out)

    def next_due(self) -> float | None:
        """When the next frame arrives; None if none is under way."""
        return self._heap[0][0] if self._heap else None

    def arriving(self, now: float) -> list[bytes]:
        """Take those that arrive by `now`, in order."""
        out = []
        while self._heap and self._heap[0][0] <= now:
            due, _, frame = heapq.heappop(self._heap)
            self._held -= len(frame)
            out.append(frame)
            late = now - due
            self.delayed += 1
            self.late_sum += late
            self.late_max = max(late, self.late_max)
        if not self._heap:
            self._settle()
        return out

    def report(self) -> dict[str, float]:
        """Counts, and how much later than due frames were sent on, in seconds."""
        mean = self.late_sum / self.delayed if self.delayed else 0.0
        return {**self.counts, "held": len(self._heap), "late_mean": mean,
                "late_max": self.late_max}  # fmt: skip


__all__ = ["Way"]
