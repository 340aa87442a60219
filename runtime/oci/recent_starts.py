"""Delay signals for a process that was just started until it can handle them.

`start` returns once the OCI runtime's init has left its fifo, before it has called execve(2).  A
signal sent until then goes to the runtime's handlers, and one sent before the command has installed
its own handler is dropped by the kernel, which ignores signals that the first process of a PID
namespace does not handle (pid_namespaces(7)).  Either way it is lost.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runtime.oci.process import Process, status

SETTLED = 0.15  # seconds a command gets after its execve to install signal handlers
EXEC = 5.0  # seconds from the start within which the runtime's init should call execve
_LOOK = 0.001  # seconds between checks
_AT_ONCE = frozenset({signal.SIGKILL, signal.SIGSTOP})  # handled by the kernel


@dataclass(frozen=True, slots=True)
class _Start:
    at: float  # monotonic clock
    program: tuple[int, int] | None  # device and inode of the runtime's init


class RecentStarts:
    """Thread-safe.  Remembers the processes started in the last seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._starts: dict[Process, _Start] = {}

    def begin(self, init: Process) -> None:
        """Record a start, before the fifo is opened: `init` still runs the runtime's program."""
        now = self._clock()
        with self._lock:
            for process in [p for p, s in self._starts.items() if now - s.at > EXEC]:
                del self._starts[process]
            self._starts[init] = _Start(now, _program(init.pid))

    def wait(self, init: Process, number: int) -> None:
        """Wait until `init` catches or blocks signal `number`, exited, or SETTLED has passed."""
        start = self._starts.get(init)
        if start is None or number in _AT_ONCE:
            return
        now = self._clock()
        settled = start.at + SETTLED
        while now < start.at + EXEC and init.alive and _program(init.pid) == start.program:
            self._sleep(_LOOK)
            now = self._clock()
            settled = now + SETTLED
        while self._clock() < settled and init.alive and not _takes(init.pid, number):
            self._sleep(_LOOK)


def _program(pid: int) -> tuple[int, int] | None:
    try:
        st = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return st.st_dev, st.st_ino


def _takes(pid: int, number: int) -> bool:
    """Is the signal caught, or blocked and so kept pending (proc(5), SigCgt, SigBlk)?"""
    bit = 1 << (number - 1)
    facts = status(pid)
    return any(int(facts.get(name, "0"), 16) & bit for name in ("SigCgt", "SigBlk"))
