"""Detect the version of control groups, and find a container's.

v1 and hybrid hosts have one hierarchy a controller, v2 one for all; a hybrid host's empty v2
mount counts as v1 (kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from netkit import threads
from netkit.gone import gone

TOP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    version: int  # 1 or 2
    controllers: frozenset[str]
    swap: bool  # memory and swap can be limited together

    @classmethod
    def probe(cls, top: Path = TOP) -> Cgroups:
        if (top / "cgroup.controllers").exists():
            names = (top / "cgroup.controllers").read_text().split()
            swap = any(top.glob("*/memory.swap.max"))  # the root group has no such file
            return cls(version=2, controllers=frozenset(names), swap=swap)
        names = [p.name for p in top.iterdir() if p.is_dir()] if top.is_dir() else []
        swap = (top / "memory" / "memory.memsw.limit_in_bytes").exists()
        # these two hierarchies have no controllers
        return cls(version=1, controllers=frozenset(names) - {"unified", "systemd"}, swap=swap)

    @property
    def warning(self) -> str:
        """Why no container will start on this host; "" where they can."""
        if self.controllers:
            return ""
        return (
            f"no control groups are mounted below {TOP}, so containers cannot be started: in a "
            "network namespace use nsenter --net=/run/netns/NAME, as ip netns exec hides them"
        )

    def folders(self, path: str, top: Path = TOP) -> Iterator[Path]:
        """Directories of the group at `path` ("/netkit/ID"): one, or with v1 one per controller."""
        inside = path.lstrip("/")
        if self.version == 2:
            yield top / inside
            return
        for controller in sorted(top.iterdir()):
            if controller.is_dir() and not controller.is_symlink():
                yield controller / inside

    def remove(self, path: str) -> None:
        """Remove the group and its sub-groups; those with processes stay."""
        for folder in self.folders(path):
            for below, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(below)

    def processes(self, path: str) -> list[int]:
        """Pids in the group and below, sorted."""
        pids: set[int] = set()
        for folder in self.folders(path):
            if self.version == 1 and folder.relative_to(TOP).parts[0] not in self._telling:
                continue
            for below, _, _ in os.walk(folder):
                try:
                    text = Path(below, "cgroup.procs").read_text()
                except OSError as error:
                    if gone(error) or error.errno == errno.EOPNOTSUPP:  # cgroups(7): threaded
                        continue
                    raise
                pids |= {int(p) for p in text.split()}
        return sorted(pids)

    def move_ahead(self, pid: int, top: Path = TOP) -> threading.Thread:
        """Take the kernel's lock for moves between groups ahead of the OCI runtime, on a thread.

        `pid`: a process whose group nobody changes until the thread has ended: it is moved to where
        it is, which changes nothing.  Whoever takes that lock, unless it was taken in the last 10
        to 20 ms, waits for an RCU grace period, which is as long where processors are idle
        (kernel/cgroup/cgroup.c, cgroup_attach_lock; kernel/rcu/sync.c).  This one waits while
        conmon and the runtime are loaded, so that the runtime does not.
        """
        thread = threads.once("netkit-cgroups", partial(self._move_nowhere, pid, top))
        thread.start()
        return thread

    @staticmethod
    def _move_nowhere(pid: int, top: Path) -> None:
        with contextlib.suppress(OSError):  # nothing but time is lost
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                controllers, _, path = line.partition(":")[2].partition(":")
                folder = top / controllers.removeprefix("name=") / path.lstrip("/")
                if ".." not in folder.parts and (folder / "cgroup.procs").exists():
                    (folder / "cgroup.procs").write_text(str(pid))
                    return

    def frozen(self, path: str) -> bool:
        """Is the group paused?  cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, cgroup.freeze."""
        name, wanted = ("cgroup.freeze", "1") if self.version == 2 else ("freezer.state", "FROZEN")
        folders = [TOP / "freezer" / path.lstrip("/")] if self.version == 1 else []
        for folder in chain(folders, self.folders(path)):  # v1: elsewhere only if not there
            with contextlib.suppress(FileNotFoundError):
                return (folder / name).read_text().strip() == wanted
        return False

    @property
    def _telling(self) -> tuple[str, ...]:
        """The v1 hierarchy to read processes from: any has all of them."""
        for name in ("pids", "devices", "memory", "cpu"):
            if name in self.controllers:
                return (name,)
        return tuple(self.controllers)
