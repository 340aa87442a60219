"""A poller for python-ovs by poll(2): its own has select(2)'s limit of 1024 files."""

from __future__ import annotations

import select
from typing import Any


class Poller:
    """The interface that `wait` of python-ovs needs of a poller."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._until: float | None = None  # ms, of the clock of ovs.timeval

    def register(self, fd: int) -> None:
        self._poll.register(fd, select.POLLIN)

    def fd_wait(self, fd: Any, events: int) -> None:
        self._poll.register(fd if isinstance(fd, int) else fd.fileno(), events)

    def timer_wait(self, ms: float) -> None:
        self.timer_wait_until(_msec() + ms)

    def timer_wait_until(self, ms: float) -> None:
        self._until = ms if self._until is None else min(ms, self._until)

    def immediate_wake(self) -> None:
        self._until = 0.0

    def block(self, seconds: float) -> None:
        ms = seconds * 1000
        if self._until is not None:
            ms = min(ms, max(0.0, self._until - _msec()))
        self._poll.poll(ms)


def _msec() -> float:
    """Return the time of ovs.timeval's clock; a Poller is used by python-ovs alone."""
    import ovs.timeval

    return float(ovs.timeval.msec())
