"""Tell an operation on another thread to end: its client has left, or a part of it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Cancelled(ConnectionResetError):
    """The operation was cancelled.  A ConnectionError: nobody waits for its result any more."""


class Cancel:
    """Set once, from any thread; the operation looks at it in each of its waits."""

    def __init__(self, above: Cancel | None = None) -> None:
        """`above`: cancels this one, too."""
        self._event = threading.Event()
        self._above = above

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set() or (self._above is not None and self._above.is_set)

    def check(self) -> None:
        """Cancelled if it is set."""
        if self.is_set:
            raise Cancelled("cancelled")

    def wait(self, seconds: float) -> None:
        """Sleep; Cancelled as soon as it is set."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self._event.wait(min(left, LOOK))
        self.check()

    def acquire(self, lock: threading.Lock | threading.Semaphore) -> None:
        """Acquire `lock`; Cancelled, without it, as soon as this is set."""
        while not lock.acquire(timeout=LOOK):
            self.check()
        if self.is_set:
            lock.release()
            raise Cancelled("cancelled")


LOOK = 0.25  # seconds between looks at it
Alive = Callable[[], None]  # raises Cancelled
