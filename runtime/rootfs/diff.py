"""Compare a container's writable layer with its image: `docker diff`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path as Folder
from typing import NamedTuple

from netkit.gone import gone
from runtime import limits
from runtime.filetree.walk import Entry, Path, walk

CHANGED, ADDED, DELETED = 0, 1, 2
_OPAQUE = "trusted.overlay.opaque"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Mount points that every container gets: no changes by its user
RUNTIME_MOUNTPOINTS = frozenset(
    (
        "/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/proc", "/sys",
        "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf",
    )
)  # fmt: skip
_MADE_FOR_IT = frozenset(("/etc",))  # directories that may exist only for mount points


class FileChange(NamedTuple):
    """One line of `docker diff`."""

    path: str  # in the container
    kind: int  # CHANGED, ADDED or DELETED


def changes(
    upper: Folder, lower: Sequence[Folder], leave_out: Collection[str] = RUNTIME_MOUNTPOINTS
) -> list[FileChange]:
    """Changes of `upper` over the trees `lower`, the top one first; sorted.

    `leave_out`: paths at which only files with content count.  Conflict if paths in `upper` are too
    long for any system call.
    """
    with ExitStack() as stack:

        def opened(folder: Folder) -> int:
            fd = os.open(folder, _FOLDER)
            stack.callback(os.close, fd)
            return fd

        return sorted(_Walk([opened(folder) for folder in lower], leave_out).over(opened(upper)))


class _Dir:
    """A directory of the upper tree that the walk is in."""

    def __init__(self, path: str, below: os.stat_result | None, lower: Sequence[int]) -> None:
        self.path, self.below = path, below
        self.lower = lower  # layers whose directories are merged here
        self.touched = False


class _Walk:
    def __init__(self, lower: Sequence[int], leave_out: Collection[str]) -> None:
        self._leave_out = leave_out
        self._dirs = [_Dir("", None, lower)]
        self._found: list[FileChange] = []
        self._path = Path("", limits.PATH_BYTES)

    def over(self, upper: int) -> list[FileChange]:
        for entry in walk(upper):
            if entry.leaving:
                self._leave(entry)
            else:
                self._see(entry)
        return self._found

    def _see(self, entry: Entry) -> None:
        inside = self._dirs[-1]
        path = self._path.of(entry.name)
        below, layers = _look(inside.lower, path)
        shown = f"/{path}"
        if entry.is_folder:
            self._enter(entry, shown, below, layers)
        elif stat.S_ISCHR(entry.st.st_mode) and entry.st.st_rdev == 0:
            if below is not None:
                self._add(shown, DELETED)
        elif shown not in self._leave_out or (stat.S_ISREG(entry.st.st_mode) and entry.st.st_size):
            self._add(shown, ADDED if below is None else CHANGED)

    def _enter(
        self, entry: Entry, shown: str, below: os.stat_result | None, layers: Sequence[int]
    ) -> None:
        self._path.down(entry.name)
        lower = layers if below is not None and stat.S_ISDIR(below.st_mode) else []
        self._dirs.append(_Dir(shown, below, lower))
        if shown in self._leave_out or not lower:
            return
        if (names := _hiding(entry)) is not None:
            self._gone(shown, lower, names)
            self._dirs[-1].lower = []

    def _gone(self, shown: str, lower: Sequence[int], have: set[str]) -> None:
        """Report as deleted what an opaque directory hides and does not have itself."""
        for layer in lower:
            for name in _listed(layer, shown[1:]):
                if name not in have and _look(lower, f"{shown[1:]}/{name}")[0] is not None:
                    have.add(name)
                    self._add(f"{shown}/{name}", DELETED)

    def _leave(self, entry: Entry) -> None:
        self._path.up()
        left = self._dirs.pop()
        if left.path in self._leave_out:
            return
        made = bool(self._leave_out) and left.path in _MADE_FOR_IT and not left.touched
        if left.below is None and not made:
            self._add(left.path, ADDED)
        elif left.below is not None and (left.touched or not _same(entry.st, left.below)):
            self._add(left.path, CHANGED)

    def _add(self, path: str, kind: int) -> None:
        if any(d.path in self._leave_out for d in self._dirs):
            return
        self._found.append(FileChange(path, kind))
        self._dirs[-1].touched = True


def _same(st: os.stat_result, below: os.stat_result) -> bool:
    """Is it what it was in the image, as dockerd compares: copied up, and nothing came of it?

    Of a directory size and times do not count: they change with what is in it.
    """
    if (st.st_mode, st.st_uid, st.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
        return False
    return stat.S_ISDIR(st.st_mode) or (
        (st.st_size, st.st_rdev, st.st_mtime_ns)
        == (below.st_size, below.st_rdev, below.st_mtime_ns)
    )


def _capability(entry: Entry, path: str, layers: Sequence[int]) -> bool:
    """Does a file have another security.capability than in the image?"""
    if not stat.S_ISREG(entry.st.st_mode):
        return False
    mine = _xattr(f"/proc/self/fd/{entry.folder}/{entry.name}", "security.capability")
    for layer in layers:
        try:
            os.stat(path, dir_fd=layer, follow_symlinks=False)
        except OSError as error:
            if gone(error):
                continue
            raise
        return mine != _xattr(f"/proc/self/fd/{layer}/{path}", "security.capability")
    return False


def _xattr(file: str | int, name: str) -> bytes:
    """Value of an extended attribute; b"" if there is none."""
    try:
        return os.getxattr(file, name, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if gone(error) or error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return b""
        raise


def _look(layers: Sequence[int], path: str) -> tuple[os.stat_result | None, list[int]]:
    """(stat of the path in the image, layers that contribute to it).

    `layers` are those that contribute to its parent directory, the top one first.
    """
    top: os.stat_result | None = None
    parts: list[int] = []
    for layer in layers:
        try:
            st = os.stat(path, dir_fd=layer, follow_symlinks=False)
        except OSError as e:
            if e.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
                continue
            raise
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            break  # a whiteout: lower layers are hidden
        if top is None:
            top = st
        if not stat.S_ISDIR(st.st_mode):
            break
        parts.append(layer)
        if _opaque_at(layer, path):
            break
    return top, parts


def _hiding(entry: Entry) -> set[str] | None:
    """The names in an opaque directory; None if it is not opaque or was removed meanwhile."""
    try:
        folder = os.open(entry.name, _FOLDER, dir_fd=entry.folder)
    except OSError as error:
        if gone(error):
            return None
        raise
    try:
        return set(os.listdir(folder)) if _opaque(folder) else None
    finally:
        os.close(folder)


def _listed(layer: int, path: str) -> list[str]:
    try:
        folder = os.open(path, _FOLDER, dir_fd=layer)
    except OSError as error:
        if gone(error):
            return []
        raise
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _opaque_at(layer: int, path: str) -> bool:
    folder = os.open(path, _FOLDER, dir_fd=layer)
    try:
        return _opaque(folder)
    finally:
        os.close(folder)


def _opaque(folder: int) -> bool:
    return _xattr(folder, _OPAQUE) == b"y"
