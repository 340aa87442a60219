"""Run a lab's checks, then its schedule, during which others hold, and then the checks again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from netkit.lab import checking, report
from netkit.lab.checking import SETTLE_SECONDS, Result
from netkit.lab.facts import Facts
from netkit.lab.faults import Faults
from netkit.lab.journal import only_one
from netkit.lab.model import Lab, Places
from netkit.lab.probe import PATIENCE as PROBE_SECONDS
from netkit.lab.recovery import Outage, outage
from netkit.lab.schedule import Event, Recovery
from netkit.lab.stream import LATE, Stream

PATIENCE = 10.0  # seconds after its end until a path has recovered, where `within` says nothing
POLL = 0.05
LAST = 0.2
MARGIN = 0.5  # between the last answer that is awaited and the end of an event


@dataclass(kw_only=True)
class Happened:
    """An event that took place.  Times in seconds since the schedule began."""

    event: Event
    began: float = 0.0
    ended: float = 0.0
    during: Sequence[Result] = ()
    overtime: float = 0.0  # for how long its checks went on after its end
    outages: dict[Recovery, Outage] = field(default_factory=dict)

    def slow(self, found: Outage) -> bool:
        """Whether a path has not recovered in time."""
        within = PATIENCE if self.event.within is None else self.event.within
        return found.recovery is None or found.recovery > within

    @property
    def ok(self) -> bool:
        held = report.passed(self.during) and self.overtime <= 0
        return held and not any(map(self.slow, self.outages.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """`after` is None where the schedule was not run: checks did not hold before it."""

    before: Sequence[Result]
    events: Sequence[Happened] = ()
    after: Sequence[Result] | None = ()

    @property
    def ok(self) -> bool:
        parts = (self.before, self.after or ())
        return (
            all(map(report.passed, parts))
            and self.after is not None
            and all(e.ok for e in self.events)
        )


def run(lab: Lab, places: Places) -> Rehearsed:
    """Of a lab that is up.  NotFound, KernelError; all faults are ended."""
    before = checking.run(Facts(lab, places), lab.checks)
    if not lab.schedule:
        return Rehearsed(before=before)
    if not report.passed(before):
        return Rehearsed(before=before, after=None)
    with only_one(places):
        events = _Run(lab, places).run()
    after = checking.run(Facts(lab, places), lab.checks)
    return Rehearsed(before=before, events=events, after=after)


class _Run:
    """The schedule, once."""

    def __init__(self, lab: Lab, places: Places) -> None:
        self.lab, self.places = lab, places
        self.happened = [Happened(event=e) for e in lab.schedule]
        self._streams: dict[Recovery, Stream] = {}
        self._checks: dict[int, Future[tuple[list[Result], float]]] = {}
        self._start = 0.0

    def run(self) -> list[Happened]:
        faults = Faults(self.lab, self.places)
        try:
            with ExitStack() as stack, ThreadPoolExecutor(len(self.happened)) as pool:
                self._probe(stack)
                self._start = time.monotonic()
                for at, _, act in self._timeline(faults, pool):
                    time.sleep(max(self._start + at - time.monotonic(), 0.0))
                    act()
                self._collect()
        finally:
            faults.close()
        return self.happened

    def _probe(self, stack: ExitStack) -> None:
        facts = Facts(self.lab, self.places)
        for one in {r for h in self.happened for r in h.event.recover}:
            source, target = facts.node(one.source), facts.node(one.target)
            address = facts.between(source, target, one.where)
            self._streams[one] = stack.enter_context(Stream(source.netns, address))

    def _timeline(
        self, faults: Faults, pool: ThreadPoolExecutor
    ) -> list[tuple[float, int, Callable[[], None]]]:
        last = max(h.event.end or h.event.at for h in self.happened)
        steps: list[tuple[float, int, Callable[[], None]]] = []
        for n, h in enumerate(self.happened):
            steps.append((h.event.at, n, lambda n=n, h=h: self._begin(faults, pool, n, h)))  # type: ignore[misc]
            end = last if h.event.end is None else h.event.end
            # The end of one comes before what begins at the same time.
            steps.append((end, n - len(self.happened), lambda h=h: self._end(faults, h)))  # type: ignore[misc]
        return sorted(steps, key=lambda step: step[:2])

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _begin(self, faults: Faults, pool: ThreadPoolExecutor, n: int, h: Happened) -> None:
        h.began = self._now()
        faults.begin(h.event.fault)
        if h.event.during:
            self._checks[n] = pool.submit(self._during, h.event)

    def _during(self, event: Event) -> tuple[list[Result], float]:
        lasts = SETTLE_SECONDS if event.fault.seconds is None else event.fault.seconds
        left = min(max(lasts - PROBE_SECONDS - MARGIN, 0.0), SETTLE_SECONDS)
        facts = Facts(self.lab, self.places)
        return checking.run(facts, event.during, left), self._now()

    def _end(self, faults: Faults, h: Happened) -> None:
        if h.event.end is None and (future := self._checks.get(self.happened.index(h))):
            future.result()  # what ends with the schedule lasts as long as its checks
        h.ended = self._now()
        faults.end(h.event.fault)

    def _collect(self) -> None:
        for n, future in self._checks.items():
            h = self.happened[n]
            h.during, finished = future.result()
            h.overtime = finished - h.ended
        deadline = time.monotonic() + LATE + max(
            PATIENCE if h.event.within is None else h.event.within for h in self.happened
        )  # fmt: skip
        while self._measure() and time.monotonic() < deadline:
            time.sleep(POLL)
        time.sleep(LAST)  # of answers that are still on their way
        self._measure()

    def _measure(self) -> bool:
        """Whether a path has not recovered yet."""
        for h in self.happened:
            for one in h.event.recover:
                probes = self._streams[one].probes()
                begin, end = self._start + h.began, self._start + h.ended
                h.outages[one] = outage(probes, begin, end)
        return any(o.recovery is None for h in self.happened for o in h.outages.values())
