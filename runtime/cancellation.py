"""Ask an operation on another thread to end: its client has left, or a part of it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from netkit import threads

Check = Callable[[], None]  # raises what ends the operation: its client has left


def unchecked() -> None:
    """Never ends it."""


class Cancelled(ConnectionResetError):
    """The operation was cancelled.  A ConnectionError: its client has disconnected."""


class Cancel:
    """Set once, from any thread; the operation looks at it in each of its waits."""

    def __init__(self, above: Cancel | None = None) -> None:
        """`above`: cancels this one, too."""
        self._event = threading.Event()
        self._above = above
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            calls, self._calls = self._calls, []
        for act in calls:
            threads.once("netkit-cancel", act).start()

    @contextmanager
    def calling(self, act: Callable[[], None]) -> Iterator[None]:
        """While inside, `act` is called, on a thread of its own, as soon as this is set; on the
        caller's thread if it is set already.
        """
        above = self._above.calling(act) if self._above is not None else nullcontext()
        with above, self._registered(act):
            yield

    @contextmanager
    def _registered(self, act: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            late = self._event.is_set()
            if not late:
                self._calls.append(act)
        if late:
            act()
        try:
            yield
        finally:
            with self._lock:
                if act in self._calls:
                    self._calls.remove(act)

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
