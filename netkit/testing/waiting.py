"""Wait for one file.  select(2) refuses those beyond 1,023, which a process with many hosts has."""

from __future__ import annotations

import select
from typing import Protocol


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
