"""Retry to undo what was begun and failed, until it is undone.

Rows remember it over restarts (`restoring`); this is for the life of one daemon, in which those
rows keep names and addresses from others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netkit import threads
from netkit.errors import NetkitError, Unreachable

log = logging.getLogger(__name__)


RetryAction = Callable[[], bool]  # True: done; False: not now, try again; or a NetkitError


@dataclass(frozen=True, slots=True)
class PendingRetry:
    what: str  # for people
    act: RetryAction
    waits: bool  # for a peer that did not answer
    why: str  # it could not be done yet


class RetryQueue:
    """Thread-safe.  A debt is known by the things it is about: ids, names.

    One that is noted again is one debt all the same.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed: dict[frozenset[str], PendingRetry] = {}

    def add(self, about: Iterable[str], what: str, act: RetryAction, error: BaseException) -> None:
        key, debt = (
            frozenset(about),
            PendingRetry(what, act, isinstance(error, Unreachable), str(error)),
        )
        with self._lock:
            known = self._owed.get(key)
            self._owed[key] = debt
        if known is None or known.why != debt.why:
            log.warning("%s failed, will be retried: %s", what, error)

    def run_due(self, *, waiting: bool = True) -> bool:
        """Retry all; True if any is left.  Unless `waiting`, what needs a silent peer is not tried,
        and does not count."""
        left = False
        for about, debt in self._some():
            if debt.waits and not waiting:
                continue
            try:
                left |= not self._try(about, debt)
            except Exception as error:  # noqa: BLE001  it does not stop the others
                if not isinstance(error, NetkitError):
                    threads.report(debt.what, error)
                self.add(about, debt.what, debt.act, error)
                left = True
        return left

    def run_now(self, *about: str) -> None:
        """Retry now what is owed about these: it is in the way.  NetkitError if it fails again."""
        for known, debt in self._some():
            if known.issuperset(about):
                self._try(known, debt)

    def _some(self) -> list[tuple[frozenset[str], PendingRetry]]:
        with self._lock:
            return list(self._owed.items())

    def _try(self, about: frozenset[str], debt: PendingRetry) -> bool:
        if not debt.act():
            return False
        log.info("%s: done by a retry", debt.what)
        with self._lock:
            if self._owed.get(about) is debt:
                del self._owed[about]
        return True
