"""Walk trees of any depth without recursion, and with a bounded number of descriptors."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from netkit import threads
from netkit.errors import Conflict
from runtime.filetree.scoped_root import HOST_ERRORS

_KEPT = 64  # levels whose descriptors stay open; others are reopened by ".." on the way up
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a directory before (`leaving` False) and after what is in it."""

    folder: int  # descriptor of the directory it is in; valid until the next step
    name: str
    st: os.stat_result
    leaving: bool = False

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.st.st_mode)


class _Level:
    def __init__(self, fd: int, name: str, st: os.stat_result) -> None:
        self.fd = fd  # -1: closed meanwhile
        self.name, self.st = name, st
        try:
            self.names = iter(_listed(fd))
            here = os.fstat(fd)
        except BaseException:
            self.close()
            raise
        self.mark = (here.st_dev, here.st_ino)

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def _listed(fd: int) -> list[str]:
    """Names in a directory, sorted; none if it was removed after it was opened (ENOENT)."""
    try:
        return sorted(os.listdir(fd))
    except FileNotFoundError:
        return []


def walk(top: int) -> Iterator[Entry]:
    """Yield everything below the directory `top`, names sorted, links not followed.

    Files removed meanwhile are left out; faults of the host are raised as OSError.  Conflict if a
    deeply nested directory is moved meanwhile.
    """
    st = os.fstat(top)
    levels = [_Level(os.open(".", _FOLDER, dir_fd=top), "", st)]
    try:
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is None:
                yield from _leave(levels)
                continue
            try:
                st = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Entry(level.fd, name, st)
            if stat.S_ISDIR(st.st_mode):
                yield from _enter(levels, name, st)
    finally:
        for level in levels:
            threads.attempt("closing a directory", level.close)


def _enter(levels: list[_Level], name: str, st: os.stat_result) -> Iterator[Entry]:
    above = levels[-1]
    try:
        fd = os.open(name, _FOLDER, dir_fd=above.fd)
    except OSError as error:
        if error.errno in HOST_ERRORS:
            raise
        # no longer a directory
        yield Entry(above.fd, name, st, leaving=True)
        return
    levels.append(_Level(fd, name, st))
    if len(levels) > _KEPT:
        above.close()


def _leave(levels: list[_Level]) -> Iterator[Entry]:
    level = levels.pop()
    try:
        if not levels:
            return
        above = levels[-1]
        if above.fd < 0:
            above.fd = os.open("..", _FOLDER, dir_fd=level.fd)
            here = os.fstat(above.fd)  # ".." is another directory if this one was moved
            if (here.st_dev, here.st_ino) != above.mark:
                raise Conflict(f"directory {level.name!r} was moved while it was read: try again")
    finally:
        level.close()
    yield Entry(above.fd, level.name, level.st, leaving=True)


class Path:
    """Tracks the path of a walk's current directory."""

    def __init__(self, top: str, longest: int) -> None:
        self._parts = [top] if top else []
        self._size = len(os.fsencode(top))
        self._longest = longest

    def of(self, name: str) -> str:
        """Path of an entry of the current directory.  Conflict if it exceeds the limit."""
        if self._size + len(os.fsencode(name)) + 1 >= self._longest:
            shown = "/".join([*self._parts[:8], "..."])
            raise Conflict(f"directories are nested too deeply below {shown[:200]}: their paths "
                           f"have over {self._longest} bytes")  # fmt: skip
        return "/".join([*self._parts, name])

    def down(self, name: str) -> None:
        self._parts.append(name)
        self._size += len(os.fsencode(name)) + 1

    def up(self) -> None:
        self._size -= len(os.fsencode(self._parts.pop())) + 1
