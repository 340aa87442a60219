"""Detect the version of control groups, and find a container's.

v1 and hybrid hosts have one hierarchy a controller, v2 one for all; a hybrid host's empty v2
mount counts as v1 (kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from netkit.gone import gone
from runtime.filetree.small_file import content

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
        with os.scandir(top) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        for name in names:
            yield top / name / inside

    def remove(self, path: str) -> None:
        """Remove the group and its sub-groups; those with processes stay."""
        for folder in self.folders(path):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:  # it has sub-groups, or processes
                for below, _, _ in os.walk(folder, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(below)

    def processes(self, path: str) -> list[int]:
        """Pids in the group and below, sorted."""
        pids: set[int] = set()
        inside = path.lstrip("/")
        tops = [TOP] if self.version == 2 else [TOP / name for name in self._telling]
        for folder in (top / inside for top in tops):
            for below, _, _ in os.walk(folder):
                try:
                    text = content(f"{below}/cgroup.procs").decode()
                except OSError as error:
                    if gone(error) or error.errno == errno.EOPNOTSUPP:  # cgroups(7): threaded
                        continue
                    raise
                pids |= {int(p) for p in text.split()}
        return sorted(pids)

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
