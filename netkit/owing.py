"""What was begun, failed, and could not be undone: tried again until it is.

Rows remember it over restarts (`restoring`); this is for the life of one daemon, in which those
rows keep names and addresses from others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from netkit.errors import NetkitError, Unreachable

log = logging.getLogger(__name__)


class Owing:
    """Thread-safe.  Debts have names; one that is noted again is one debt all the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owed: dict[str, tuple[Callable[[], bool], bool]] = {}

    def note(self, what: str, act: Callable[[], bool], error: BaseException) -> None:
        """`act` ends it, raises a NetkitError, or says that now is not the time: False."""
        with self._lock:
            self._owed[what] = (act, isinstance(error, Unreachable))

    def settle(self, *, waiting: bool = True) -> bool:
        """Is anything of that left?  Unless `waiting`, what needs one that was silent is not tried,
        and does not count."""
        with self._lock:
            tried = {k: v for k, v in self._owed.items() if waiting or not v[1]}
        for what, (act, _) in tried.items():
            try:
                if not act():
                    continue
            except NetkitError as error:
                self.note(what, act, error)
                continue
            log.info("%s: done at last", what)
            with self._lock:
                self._owed.pop(what, None)
        with self._lock:
            return not self._owed.keys().isdisjoint(tried)
