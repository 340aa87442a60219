"""Repair by event what another tool changes of links, addresses, routes and neighbours.

    events --> LinkInterest --> owners --> due at ... --> LinkDrift.repair, of these owners alone
    every FULL seconds, and when events were lost: all

An address of the host has `GRACE` seconds to come back otherwise: tools replace one by deleting it
first.  What is backed off is due when its pause is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from netkit.errors import NetkitError
from netkit.model import Key, State
from netkit.model.link_events import LinkEvent
from netkit.network.deviation import Drift
from netkit.network.link_drift import LinkDrift, Repaired
from netkit.network.link_interest import EVERYTHING, LinkInterest
from netkit.reconcile.backoff import INSISTS
from netkit.reconcile.converge import Kernel
from netkit.reconcile.plan import Op, Plan
from netkit.reconcile.statistics import DriftStatistics

GATHER = 0.2  # seconds in which events are collected: their number does not matter
GRACE = 1.0  # seconds that an address of the host may be absent
RETRY = 5.0  # seconds after a look that failed as a whole
FULL = 60.0  # seconds between looks at everything: settings are changed without an event

log = logging.getLogger("netkit.links")


class EventSource(Protocol):
    """See netkit.kernel.netlink.watch.LinkWatch."""

    def open(self) -> bool: ...
    def reset(self) -> None: ...
    def poll(self, seconds: float, *, events: bool = True) -> tuple[bool, bool]: ...
    def read(self) -> Iterable[LinkEvent]: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


class Reporting:
    """A Kernel that reports every step that was applied to `interest`."""

    def __init__(self, kernel: Kernel, interest: LinkInterest) -> None:
        self._kernel = kernel
        self._interest = interest

    def observe(self, keys: Iterable[Key]) -> State:
        return self._kernel.observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        return self._kernel.owned(prefix, policy=policy)

    def apply(self, ops: Sequence[Op]) -> None:
        self._kernel.apply(ops)
        self._interest.applied(ops)


class LinkResync:
    """A netkit.reconcile.resync.ChangeWatcher and Resyncer, for its thread alone but for `wake`.

    `firewall` repairs rules that waited for a link; `beside` is called when a network that has
    more than links is concerned.
    """

    def __init__(
        self,
        drift: LinkDrift,
        interest: LinkInterest,
        source: EventSource,
        *,
        firewall: Callable[[], tuple[Plan, bool]] | None = None,
        beside: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._drift = drift
        self._interest = interest
        self._source = source
        self._firewall = firewall
        self._beside = beside
        self._now = now
        self._due: dict[str, float] = {EVERYTHING: now()}
        self.statistics = DriftStatistics()
        self._left: dict[Key, str] = {}  # drift that is left alone, and its owner

    # -- Watch -------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        """Wait until a look is due, `wake` is called, or the time is over; True if due."""
        end = self._now() + seconds
        try:
            if self._source.open():
                self._due[EVERYTHING] = self._now()
            while not self._owners():
                wakes = min([end, *self._due.values()])
                woken, ready = self._source.poll(max(0.0, wakes - self._now()))
                if ready and not woken:
                    woken, _ = self._source.poll(min(seconds, GATHER), events=False)
                    self._note(self._interest.hints(self._source.read()))
                if woken or self._now() >= end:
                    break
        except Exception:
            self._source.reset()  # the next call subscribes anew, and looks at everything
            raise
        return bool(self._owners())

    def _note(self, hints: dict[str, bool]) -> None:
        now = self._now()
        self._again({owner: now + (GRACE if gentle else 0.0) for owner, gentle in hints.items()})

    def _owners(self) -> set[str]:
        now = self._now()
        return {owner for owner, when in self._due.items() if when <= now}

    def wake(self) -> None:
        self._source.wake()

    def close(self) -> None:
        self._source.close()

    # -- Repairs -----------------------------------------------------------

    def repair(self) -> tuple[Plan, bool]:
        due = self._owners()
        if not due:
            return (), False
        everything = EVERYTHING in due
        for owner in due:
            del self._due[owner]
        self._due.setdefault(EVERYTHING, self._now() + FULL)
        try:
            done = self._drift.repair(None if everything else due)
        except Exception:
            self._again(dict.fromkeys(due, self._now() + RETRY))
            raise
        self._again(done.again)
        self._count(done, EVERYTHING if everything else due)
        things = {k: w.resource for k, w in done.scope.things.items()}
        if everything:
            self._interest.replace(things, done.scope.busy)
        else:
            self._interest.learn(things)
        if done.scope.beside and (done.plan or not everything):
            self._beside()
        plan = self._said(done)
        if done.plan and self._firewall is not None:
            with suppress(NetkitError):  # it has a resync of its own, which reports
                plan += self._firewall()[0]
        return plan, False

    def _count(self, done: Repaired, looked: Collection[str]) -> None:
        """`looked`: at which owners; EVERYTHING: at all."""
        here = {d.wanted.resource.key: d for d in done.drifts}
        found = [key[0] for key in here if key not in self._left]
        failed = {key for key, attempts in done.attempts.items() if attempts.error}
        before = self._left.items() if looked != EVERYTHING else ()
        self._left = {k: owner for k, owner in before if owner not in looked} | {
            k: str(d.wanted.resource.owner) for k, d in here.items() if d.note or k in failed
        }
        self.statistics.add(found, done.plan, [key[0] for key in self._left])

    def _again(self, times: dict[str, float]) -> None:
        for owner, when in times.items():
            self._due[owner] = min(when, self._due.get(owner, when))

    def _said(self, done: Repaired) -> Plan:
        """Log once what does not stay or cannot be repaired; return the other steps."""
        quiet: set[Key] = set()
        for d in done.drifts:
            attempts = done.attempts.get(key := d.wanted.resource.key)
            if attempts is None:
                continue
            if attempts.error and attempts.count == 1:
                log.error("%s cannot be repaired, trying again: %s", _where(d), attempts.error)
            elif not attempts.error and attempts.count == INSISTS:
                log.warning(
                    "another tool keeps changing %s (%s): repaired %d times, from now on less and "
                    "less often; see netkit net check", _where(d), d, attempts.count,
                )  # fmt: skip
            if attempts.count >= INSISTS:
                quiet.add(key)
        return tuple(op for op in done.plan if op.subject.key not in quiet)


def _where(d: Drift) -> str:
    of = f" of container {d.wanted.container}" if d.wanted.container else ""
    return f"{d.wanted.resource}{of}" + (f" on {d.wanted.network}" if d.wanted.network else "")
