"""Counts of changes of the host and of drift, for metrics.

Each is written by the thread whose work it counts, under a lock of its own, and copied by readers.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netkit.reconcile.plan import Plan

# Upper bounds of a change's duration, in seconds: one of a container takes 5 ms, 120 s is
# netkit.reconcile.queue.PATIENCE.
BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
)  # fmt: skip

CHANGED, UNCHANGED, CONFLICT, FAILED, LATE = "changed", "unchanged", "conflict", "failed", "late"
"""Outcomes: steps were taken; nothing to do; refused, for something of another tool is in the way;
undone after an error; not begun within its time."""
OUTCOMES = (CHANGED, UNCHANGED, CONFLICT, FAILED, LATE)


@dataclass(frozen=True, slots=True)
class Durations:
    """Of how many changes, by the bucket that is the first to hold each; the last one holds those
    above all bounds.  `total` is their sum in seconds."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    outcomes: Mapping[str, int]
    durations: Durations
    steps: int  # that were taken


class ChangeStatistics:
    """Of the changes that callers requested; looks for drift and repairs are not among them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes = Counter[str](dict.fromkeys(OUTCOMES, 0))
        self._counts = [0] * (len(BUCKETS) + 1)
        self._total = 0.0
        self._steps = 0

    def add(self, outcome: str, seconds: float, steps: int = 0) -> None:
        """`seconds`: from the request to its outcome, the time in the queue included."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._counts[bisect_left(BUCKETS, seconds)] += 1
            self._total += seconds
            self._steps += steps

    def counts(self) -> ChangeCounts:
        with self._lock:
            durations = Durations(tuple(self._counts), self._total)
            return ChangeCounts(dict(self._outcomes), durations, self._steps)


@dataclass(frozen=True, slots=True)
class DriftCounts:
    """By kind of resource, the first word of its key: link, addr, route, rule ..."""

    found: Mapping[str, int] = field(default_factory=dict)
    repaired: Mapping[str, int] = field(default_factory=dict)
    left_alone: Mapping[str, int] = field(default_factory=dict)  # now


class DriftStatistics:
    """Of what one guard looks after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._left_alone: Counter[str] = Counter()

    def repaired(self, plan: Plan) -> None:
        """These steps were taken to repair drift, which is found by its repair alone."""
        with self._lock:
            kinds = Counter(op.subject.key[0] for op in plan)
            self._found += kinds
            self._repaired += kinds

    def add(self, found: Iterable[str], plan: Plan, left_alone: Iterable[str]) -> None:
        """Drift of these kinds was found, these steps were taken, and this is left alone now."""
        with self._lock:
            self._found.update(found)
            self._repaired.update(op.subject.key[0] for op in plan)
            self._left_alone = Counter(left_alone)

    def counts(self) -> DriftCounts:
        with self._lock:
            return DriftCounts(dict(self._found), dict(self._repaired), dict(self._left_alone))
