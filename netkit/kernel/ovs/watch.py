"""Watch for changes and restarts of Open vSwitch.  Hints where to look, never facts.

The database notifies of every change.  Flows have no event and are counted twice a second;
one replaced by another is found by the periodic resync.
"""

from __future__ import annotations

import threading
import time

from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.vswitchd import Vswitchd

POLL = 0.5  # seconds between counts of the flows; one costs 0.2 ms


class OvsWatch:
    """A netkit.reconcile.resync.ChangeWatcher; idle while netkit does not use Open vSwitch."""

    def __init__(self, database: Ovsdb, daemon: Vswitchd) -> None:
        self._database = database
        self._daemon = daemon
        self._notified = threading.Event()
        self._over = False
        self._rules = -1
        database.changed.append(self._notified.set)

    def wait(self, seconds: float) -> bool:
        """Wait for a hint, a call of `wake` or the timeout; True for a hint."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if self._notified.wait(max(0.0, min(POLL, left))):
                self._notified.clear()
                return not self._over
            if self._database.in_use and self._daemon.rules() != self._rules:
                self.settle()
                return True
            if left <= 0:
                return False

    def hint(self) -> None:
        """Report a change that the database does not notify of.  From any thread."""
        self._notified.set()

    def settle(self) -> None:
        if self._database.in_use:
            self._rules = self._daemon.rules()

    def wake(self) -> None:
        self._over = True
        self._notified.set()

    def close(self) -> None:
        self._database.changed.remove(self._notified.set)
