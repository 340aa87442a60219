"""Fault injection: calls that may fail, or at which the daemon may be killed.

Whatever is faked or wrapped says `hit` before it has an effect.  `fail` makes one point raise,
once; `cut` makes it and all that follow raise, as if the daemon had been killed there; `full` makes
it and all that follow raise if they take space, as on a disk that is full from there on.  A point
is given by its name, "shim.start 2" being the second call of that function, or by its number.
"""

from __future__ import annotations

import io
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ERRORS: list[Callable[[], Exception]] = [
    lambda: OSError(28, "No space left on device"),
    lambda: sqlite3.OperationalError("database or disk is full"),
    lambda: RuntimeError("a defect"),
]
# They only put values together, or set a flag.
PURE = {"sandbox", "own_namespace", "fileno", "fsencode", "gathering"}


class Killed(BaseException):
    """Raised where the daemon counts as killed: it has no effect any more."""


class Points:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(
        self,
        *,
        fail: tuple[str | int, Exception] | None = None,
        cut: str | int | None = None,
        full: str | int | None = None,
    ) -> None:
        """Restart the count."""
        self.met: list[str] = []
        self.fail, self.cut, self.full = fail, cut, full
        self.failed = self.killed = self.is_full = False
        self._count: Counter[str] = Counter()

    def hit(self, name: str, full: Callable[[], Exception] | None = None) -> None:
        """`full`: the error of this call on a disk that is full; None if it takes no space."""
        with self._lock:
            self._count[name] += 1
            point = {f"{name} {self._count[name]}", len(self.met)}
            self.met.append(f"{name} {self._count[name]}")
            self.killed |= self.cut in point
            if self.killed:
                raise Killed
            self.is_full |= self.full in point
            if self.is_full and full is not None:
                self.failed = True
                raise full()
            if self.fail is None or self.fail[0] not in point:
                return
            self.failed = True
        raise self.fail[1]


class Faulty:
    """Make each call of a method of `target` a point; those in `ends` fail after their effect."""

    def __init__(
        self, points: Points, name: str, target: object, ends: Collection[str] = ()
    ) -> None:
        self._points, self._name, self._target, self._ends = points, name, target, ends

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._target, attribute)
        error = isinstance(found, type) and issubclass(found, BaseException)
        if not callable(found) or error or attribute in PURE:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            result = found(*args, **kwargs) if attribute in self._ends else None
            self._points.hit(f"{self._name}.{attribute}")
            return result if attribute in self._ends else found(*args, **kwargs)

        return call


class FailingConnection:
    """A connection to SQLite whose statements are points.

    A rollback is no point: SQLite does it by itself, also when the process is killed.
    """

    def __init__(self, real: sqlite3.Connection, points: Points) -> None:
        self._real, self._points = real, points

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql != "ROLLBACK":
            name = f"store {' '.join(sql.split(' WHERE', maxsplit=1)[0].split())[:60]}"
            self._points.hit(name, None if sql.startswith(("SELECT", "BEGIN")) else ERRORS[1])
        return self._real.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


TAKE_SPACE = {"mkdir", "rename", "replace", "link", "symlink", "setxattr", "mknod", "pwrite"}
_MAKES = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY
FILE_CALLS = (
    "mkdir", "rmdir", "rename", "replace", "link", "symlink", "unlink", "open", "listdir",
    "scandir", "chmod", "chown", "utime", "setxattr", "mknod", "fsync", "pwrite", "ftruncate",
)  # fmt: skip


class FailingFiles:
    """Make calls on files below a folder points, by path or descriptor, until `undo`."""

    def __init__(self, folder: Path, points: Points, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._points = str(folder), points
        for name in FILE_CALLS:
            patch.setattr(os, name, partial(self._call, f"os.{name}", getattr(os, name)))
        opened = partial(self._open, open)
        patch.setattr("builtins.open", opened)
        patch.setattr(io, "open", opened)

    def _call(self, name: str, real: Callable[..., Any], *args: Any, **more: Any) -> Any:
        if self._concerns(args[0], more.get("dir_fd", more.get("src_dir_fd"))):
            made = name == "os.open" and (args[1] if len(args) > 1 else more["flags"]) & _MAKES
            takes = made or name.removeprefix("os.") in TAKE_SPACE
            self._points.hit(name, ERRORS[0] if takes else None)
        return real(*args, **more)

    def _open(self, real: Callable[..., Any], path: Any, *args: Any, **more: Any) -> Any:
        if not self._concerns(path, None):
            return real(path, *args, **more)
        if not isinstance(path, int):
            mode = str(args[0] if args else more.get("mode", "r"))
            self._points.hit("open", ERRORS[0] if set(mode) & set("wax") else None)
        return _FailingFile(real(path, *args, **more), self._points)

    def _concerns(self, path: Any, at: int | None) -> bool:
        if isinstance(path, int):
            path, at = "", path
        place = os.fsdecode(path)
        if place.startswith("/proc/self/fd/") or (not place.startswith("/") and at is not None):
            number = at if at is not None else place.rpartition("/")[2]
            try:
                place = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                return False
        return place.startswith(self._folder)


class _FailingFile:
    """A file whose reads and writes are points."""

    def __init__(self, real: Any, points: Points) -> None:
        self._real, self._points = real, points

    def write(self, data: Any) -> Any:
        self._points.hit("file.write", ERRORS[0])
        return self._real.write(data)

    def read(self, *args: Any) -> Any:
        self._points.hit("file.read")
        return self._real.read(*args)

    def flush(self) -> None:
        self._points.hit("file.flush")
        self._real.flush()

    def __enter__(self) -> _FailingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
