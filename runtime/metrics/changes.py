"""Changes of the host, and drift, as the parts that make and find them count them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from netkit.reconcile.resync import ResyncLoop
from netkit.reconcile.statistics import BUCKETS, ChangeCounts, DriftCounts
from runtime.metrics.figures import Buckets, Figures, by, many, one
from runtime.metrics.series import BY_NAME


def changes(counts: Callable[[], ChangeCounts], waiting: Callable[[], int]) -> Iterator[Figures]:
    now = counts()
    yield by("netkit_converges_total", now.outcomes)
    cumulative = tuple(zip((*BUCKETS, math.inf), accumulate(now.durations.counts), strict=True))
    yield Figures(
        BY_NAME["netkit_converge_duration_seconds"],
        buckets=Buckets(cumulative, now.durations.total),
    )
    yield one("netkit_converge_steps_total", now.steps)
    yield one("netkit_converges_waiting", waiting())


def drift(guards: Mapping[str, ResyncLoop]) -> Iterator[Figures]:
    """`guards` by what each looks after."""
    tallies = {name: guard.tally for name, guard in guards.items()}
    counts = {name: guard.drift.counts() for name, guard in guards.items()}
    yield by("netkit_drift_looks_total", {n: t.looks for n, t in tallies.items()})
    yield by("netkit_drift_failed_looks_total", {n: t.failures for n, t in tallies.items()})
    yield by(
        "netkit_drift_last_repair_timestamp_seconds", {n: t.last for n, t in tallies.items()}
    )
    yield many("netkit_drift_found_total", _kinds(counts, lambda c: c.found))
    yield many("netkit_drift_repaired_total", _kinds(counts, lambda c: c.repaired))
    yield many("netkit_drift_left_alone", _kinds(counts, lambda c: c.left_alone))


def _kinds(
    counts: Mapping[str, DriftCounts], read: Callable[[DriftCounts], Mapping[str, int]]
) -> dict[tuple[str, str], float]:
    return {(name, kind): n for name, c in counts.items() for kind, n in read(c).items()}
