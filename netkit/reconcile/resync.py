"""Resync: repair what other tools flush, delete or overtake, by event and at intervals.

    hint --> a moment of quiet --> what should be, against what is --> repaired, and logged

Hints that our own changes cause find nothing to do.  Without any hint it looks all the same, now
and then.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from netkit import threads
from netkit.errors import NetkitError
from netkit.reconcile.plan import Plan
from netkit.reconcile.statistics import DriftStatistics

DEBOUNCE = 0.05  # seconds after a hint: a tool that flushes one table often flushes the next
BUSY = 0.4  # seconds until the next look where one of ours was under way, or there was a repair
RESYNC_INTERVAL = 10.0  # seconds between looks without a hint
SHARE = 4  # looking takes at most a quarter of one processor
LONGEST = 0.4  # seconds, however long a look takes

log = logging.getLogger("netkit.guard")


class ResyncResult(NamedTuple):
    """Outcome of one look at the host."""

    plan: Plan  # the steps taken
    incomplete: bool  # something was left out, for an operation of ours is under way on it


class Resyncer(Protocol):
    def repair(self) -> tuple[Plan, bool]:
        """Repair what is not as it should be.  Returns a ResyncResult."""
        ...


class ChangeWatcher(Protocol):
    def wait(self, seconds: float) -> bool: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class ResyncStats:
    looks: int = 0
    failures: int = 0  # looks that could not repair, or not look
    repairs: int = 0  # times something was repaired
    steps: int = 0
    last: float = 0.0  # time.time() of the last one
    error: str = ""  # why the last look failed; "" if it did not


class ResyncLoop:
    """A thread of its own, from `start` to `close`.  `subject` is what it looks after, for logs.

    `drift`: what `repairs` itself counts drift by; without, the steps it returns are counted.
    """

    def __init__(
        self,
        repairs: Resyncer,
        watch: ChangeWatcher,
        subject: str = "the firewall",
        *,
        drift: DriftStatistics | None = None,
    ) -> None:
        self._subject = subject
        self._repairs = repairs
        self._watch = watch
        self.tally = ResyncStats()
        self.drift = drift or DriftStatistics()
        self._counts_drift = drift is None
        self._deaf = ""  # why the watch failed when last asked
        self._over = threading.Event()
        self._thread = threads.looping("netkit-guard", self._run, over=self._over.is_set)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._watch.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._watch.close()

    def _run(self) -> None:
        patience = RESYNC_INTERVAL
        while not self._over.is_set():
            hint = self._hint(patience)
            if self._over.is_set():
                return
            if hint:
                time.sleep(DEBOUNCE)
                self._hint(0)  # those that came meanwhile are answered by the same look
            begin = time.monotonic()
            busy = self._look()
            patience = BUSY if busy or self.tally.error else RESYNC_INTERVAL
            # Hints may come without end (a tool that insists): looks take their share of a
            # processor, and a repair is still begun within LONGEST.
            self._over.wait(min(LONGEST, (SHARE - 1) * (time.monotonic() - begin)))

    def _hint(self, seconds: float) -> bool:
        """Wait for a hint.  A failed watch is logged; looks at intervals go on without hints."""
        try:
            hint = self._watch.wait(seconds)
        except Exception as error:  # noqa: BLE001  repairs do not depend on hints
            if self._deaf != str(error):
                threads.report(f"watching {self._subject}", error)
            self._deaf = str(error)
            self._over.wait(min(seconds, LONGEST))
            return False
        self._deaf = ""
        return hint

    def _look(self) -> bool:
        self.tally.looks += 1
        try:
            plan, busy = self._repairs.repair()
        except NetkitError as error:
            self.tally.failures += 1
            if self.tally.error != str(error):
                log.error("%s cannot be repaired, trying again: %s", self._subject, error)
            self.tally.error = str(error)
            return True
        except Exception:
            self.tally.failures += 1
            log.exception("%s could not be looked at", self._subject)
            self.tally.error = "internal error, see the daemon's log"
            return True
        self.tally.error = ""
        if plan:
            self.tally.repairs += 1
            self.tally.steps += len(plan)
            self.tally.last = time.time()
            if self._counts_drift:
                self.drift.repaired(plan)
            shown = "; ".join(map(str, plan[:3])) + (" ..." if len(plan) > 3 else "")
            log.warning("%s was not as it should be, repaired: %s", self._subject, shown)
        # The same change again leaves legacy tables as the last hint saw them, without a new hint.
        return busy or bool(plan)
