"""The overlay's process as it is found on this host: wait for its end, and kill it.

A pid is used again once its process has ended, so processes are referred to by pidfd
(pidfd_open(2)), and each is verified after that was opened: the process by its open pid file, its
children by their parent.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


class Running:
    """A process; close it.  `find` one."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid, self._pidfd = pid, pidfd

    @classmethod
    def find(cls, path: Path) -> Running | None:
        """The process whose pid is in this file, which it has open; None: there is none."""
        try:
            pid = int(path.read_text())
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError, OverflowError):
            return None
        found = cls(pid, pidfd)
        if _has_open(pid, path) and not found.wait(0):
            return found
        found.close()
        return None

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, seconds: float) -> bool:
        """Until it ends; False: it has not in that time."""
        return _ended(self._pidfd, seconds)

    def kill(self, seconds: float) -> bool:
        """At once, with its children; False: it, or one of them, has not ended in that time.

        A worker ends by itself when the process does, but not one that is stopped as well.
        """
        children = self._children()
        try:
            files = [self._pidfd, *children]  # it first: it would replace a worker that ends
            for pidfd in files:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return all([_ended(pidfd, seconds) for pidfd in files])
        finally:
            for pidfd in children:
                os.close(pidfd)

    def _children(self) -> list[int]:
        """Their pidfds."""
        found = []
        for entry in PROC.iterdir():
            if not entry.name.isdecimal() or _parent(entry) != self.pid:
                continue
            with suppress(OSError):
                pidfd = os.pidfd_open(int(entry.name))
                if _parent(entry) == self.pid:
                    found.append(pidfd)
                else:
                    os.close(pidfd)
        if not self.wait(0):
            return found
        for pidfd in found:  # it ended, and its pid may be another's by now
            os.close(pidfd)
        return []

    def close(self) -> None:
        os.close(self._pidfd)


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this very file open (proc(5), fd)."""
    try:
        this = path.stat()
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(entry.stat(), this):
                    return True
    except OSError:
        pass
    return False


def _parent(entry: Path) -> int:
    """Of the process with this folder of /proc (proc(5), stat field 4); 0: it has ended."""
    try:
        return int((entry / "stat").read_bytes().rpartition(b") ")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
