"""Refer to processes that are not children, safely against recycled pids."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from runtime.filetree.small_file import content


@dataclass(frozen=True, slots=True)
class Process:
    """A pid with its start time in clock ticks since boot (proc(5), stat field 22)."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None if there is none, or only a zombie."""
        try:
            fields = content(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in {b"Z", b"X"} else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def signal(self, number: int) -> bool:
        """Send a signal; False if the process has exited.

        The pidfd is opened before the start time is compared: it keeps referring to that process,
        so the pid cannot be recycled between the check and the signal.
        """
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
        """A descriptor that is readable once the process has exited."""
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(self.pid)
            if self.alive:
                return fd
            os.close(fd)
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def wait_gone(self, seconds: float) -> bool:
        """Wait for the exit; False if the process still runs after `seconds`."""
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
    """The descriptors that are readable or at EOF; empty after a timeout of `seconds`.

    Not select.select, which takes none above 1023: every published port is a descriptor.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(seconds * 1000)}


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5)); empty if the process has exited."""
    try:
        text = content(f"/proc/{pid}/status").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
