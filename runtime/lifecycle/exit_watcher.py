"""Detect that containers have exited: one pidfd per container on the event loop.

conmon exits some milliseconds after its container and leaves the exit status in a file, so its
pidfd is watched.  If conmon was killed, the container's first process is watched instead, and its
exit status is lost: 255 is reported, as Docker does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from netkit import threads


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitInfo:
    """An exit; `pid` identifies the run, `finished_ns` is wall time since the epoch."""

    pid: int
    exit_code: int
    finished_ns: int
    oom: bool = False


class ExitWatcher:
    """Thread-safe.  Calls back once per watch, on a worker thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: Executor) -> None:
        self._loop = loop
        self._workers = workers
        self._lock = threading.Lock()
        self._fds: dict[str, int] = {}
        # Those that the loop has yet to add: a start with many wakes it a few times, not for each.
        self._new: list[tuple[str, int, Callable[[], None]]] = []

    def watch(self, id: str, pid: int, gone: Callable[[], None]) -> None:
        """Call `gone` when process `pid` has exited, at once if it has already."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            threads.submit(self._workers, f"the end of {id[:12]}", gone)
            return
        self.forget(id)
        with self._lock:
            self._fds[id] = fd
            self._new.append((id, fd, gone))
            first = len(self._new) == 1
        if first:
            threads.post(self._loop, "watching containers", self._add)

    def _add(self) -> None:
        with self._lock:
            new, self._new = self._new, []
            for id, fd, gone in new:
                if self._fds.get(id) == fd:  # else `forget` was called before the loop got here
                    self._loop.add_reader(fd, self._fire, id, fd, gone)

    def _fire(self, id: str, fd: int, gone: Callable[[], None]) -> None:
        self._close(id, fd)
        threads.submit(self._workers, f"the end of {id[:12]}", gone)

    def _close(self, id: str, fd: int) -> None:
        with self._lock:
            if self._fds.get(id) != fd:
                return
            del self._fds[id]
            self._loop.remove_reader(fd)
            os.close(fd)

    def forget(self, id: str) -> None:
        with self._lock:
            fd = self._fds.get(id)
        if fd is not None:
            threads.post(self._loop, f"ending the watch of {id[:12]}", self._close, id, fd)
