"""Wait for one file, or until something is so.

select(2) refuses files beyond 1,023, which a process with many hosts has.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class HasFile(Protocol):
    def fileno(self) -> int: ...


def readable(file: int | HasFile, seconds: float) -> bool:
    """Whether it can be read, or has failed, within so many seconds."""
    return _ready(file, select.POLLIN, seconds)


def writable(file: int | HasFile, seconds: float) -> bool:
    """Whether it can be written, or has failed, within so many seconds."""
    return _ready(file, select.POLLOUT, seconds)


def _ready(file: int | HasFile, events: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, events)
    return bool(poll.poll(seconds * 1000))


def eventually(
    found: Callable[[], T], seconds: float = 60.0, pause: float = 0.1, *, what: str = "",
    ignored: tuple[type[Exception], ...] = (),
) -> T:  # fmt: skip
    """Return what `found` returns, once that is true.

    What it raises of the `ignored` is raised once the time is over only.  AssertionError: it was
    not true within so many seconds; `what` is in its text.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := found():
                return value
        except ignored:
            if time.monotonic() >= deadline:
                raise
        assert time.monotonic() < deadline, f"{what or 'it is'} not within {seconds} s"
        time.sleep(pause)
