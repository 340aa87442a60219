"""Take the kernel's lock for moves of processes between control groups ahead of the OCI runtime.

Taking it waits for an RCU grace period, unless it was taken in the last 10 to 20 ms, which is how
long such a period is where processors are idle (kernel/cgroup/cgroup.c, cgroup_attach_lock;
kernel/rcu/sync.c).  Taken while conmon and the runtime are loaded, it has passed when the runtime
moves the container into its groups, of which version 1 has some ten.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from netkit import threads
from runtime.filetree.small_file import content
from runtime.oci.cgroups import TOP

RECENT = 0.005  # seconds; another start has just done it


class CgroupLock:
    """Thread-safe."""

    def __init__(self, top: Path = TOP, clock: Callable[[], float] = time.monotonic) -> None:
        self._top = top
        self._clock = clock
        self._taken = float("-inf")

    def take_ahead(self, pid: int) -> threading.Thread | None:
        """Take it once, on a thread, by a move of `pid` to where it is, which changes nothing.

        `pid`: a process that stays in its group until the thread has ended.  None if it was
        taken just before.
        """
        now = self._clock()
        if now - self._taken < RECENT:
            return None
        self._taken = now
        thread = threads.once("netkit-cgroups", partial(self._move_nowhere, pid))
        thread.start()
        return thread

    def _move_nowhere(self, pid: int) -> None:
        with contextlib.suppress(OSError):  # nothing but time is lost
            for line in content(f"/proc/{pid}/cgroup").decode().splitlines():
                controllers, _, path = line.partition(":")[2].partition(":")
                folder = self._top / controllers.removeprefix("name=") / path.lstrip("/")
                if ".." not in folder.parts and (folder / "cgroup.procs").exists():
                    (folder / "cgroup.procs").write_text(str(pid))
                    return
