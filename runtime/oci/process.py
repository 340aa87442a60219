"""Processes that are not our children, named so that a recycled pid is never mistaken for them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """`start` is the start time in clock ticks since boot (proc(5), stat field 22)."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None if there is none, or only a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in {b"Z", b"X"} else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def signal(self, number: int) -> bool:
        """False if it is gone.  A pidfd holds the process while we look who it is."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True

    def ended_fd(self) -> int:
        """A descriptor that is readable once the process has ended."""
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(self.pid)
            if self.alive:
                return fd
            os.close(fd)
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def wait_gone(self, seconds: float) -> bool:
        """False if it is still there after so long."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive:
                return True
            return bool(readable([fd], seconds))
        finally:
            os.close(fd)


def readable(fds: Iterable[int], seconds: float) -> set[int]:
    """Those that can be read from, or have nobody at the other end; empty after so long.

    Not select.select: every published port is a descriptor, and it takes none above 1023.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(seconds * 1000)}


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5)); empty if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
