"""One thread's waiting: files that can be read or written, and a deadline."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LONGEST: Final = 1.0
"""Seconds of one wait: its timeout stands still while the machine sleeps, `now` does not."""


def now() -> float:
    """Seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def read(self, fd: int, act: Callable[[], object]) -> None:
        """Call `act` whenever there is something to read, or the other side has hung up."""
        self._set(fd, act, None)

    def both(self, fd: int, read: Callable[[], object], write: Callable[[], object]) -> None:
        self._set(fd, read, write)

    def forget(self, fd: int) -> None:
        """Before the file is closed."""
        with suppress(KeyError):
            self._selector.unregister(fd)

    def _set(self, fd: int, read: Callable[[], object], write: Callable[[], object] | None) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        try:
            self._selector.modify(fd, events, (read, write))
        except KeyError:
            self._selector.register(fd, events, (read, write))

    def turn(self, until: float) -> None:
        """Wait until a file is ready, or until then; call what is to be called."""
        wait = min(max(until - now(), 0.0), LONGEST)
        for key, mask in self._selector.select(wait):
            read, write = key.data
            if mask & selectors.EVENT_WRITE and write is not None:
                write()
            if mask & selectors.EVENT_READ and self._watched(key.fd):
                read()

    def _watched(self, fd: int) -> bool:
        return fd in self._selector.get_map()

    def close(self) -> None:
        self._selector.close()


class Bell:
    """Ends a wait of the loop from a handler of signals."""

    def __init__(self, loop: Loop) -> None:
        self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.rung = False
        loop.read(self._bell, self._drain)

    @property
    def rope(self) -> int:
        return self._rope

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            self.rung = bool(os.read(self._bell, 4096)) or self.rung

    def close(self) -> None:
        os.close(self._bell)
        os.close(self._rope)
