"""Retry steps of handling a container that failed and must be completed.

An exit cannot be refused.  If its row cannot be written (the disk is full, the database is locked)
or its run cannot be cleaned up, the state in memory is updated all the same, the failure is logged,
and the step is retried until it succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from netkit import threads
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.timers import Timers

FIRST, LONGEST = 1.0, 60.0  # seconds until the next attempt, doubled after each


class Owed:
    """`lock` gives a container's lock by id; callers of `attempt` and `save` hold it."""

    def __init__(
        self,
        store: ContainerStore,
        timers: Timers,
        lock: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._store = store
        self._timers = timers
        self._lock = lock

    def save(self, c: Container) -> bool:
        """Write the row, now or later; False for later."""
        return self.attempt(c, "saving", lambda: self._store.save(c))

    def attempt(self, c: Container, what: str, act: Callable[[], object]) -> bool:
        """Do it now; if that fails report it, try again later, and give False.

        `act` runs with the lock held, and not at all once the container is removed.
        """
        return self._attempt(c, what, act, FIRST)

    def _attempt(self, c: Container, what: str, act: Callable[[], object], pause: float) -> bool:
        name = f"{what} {c.id}"
        if threads.attempt(f"{what} of container {c.name}", act):
            self._timers.cancel(name)
            return True
        self._timers.after(name, pause, lambda: self._again(c, what, act, min(pause * 2, LONGEST)))
        return False

    def _again(self, c: Container, what: str, act: Callable[[], object], pause: float) -> None:
        if self._store.get(c.id) is not c:
            return  # removed with its lock, which `_lock` would create again
        with self._lock(c.id):
            if self._store.get(c.id) is c:
                self._attempt(c, what, act, pause)
