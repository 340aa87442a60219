"""Rotate logs by `--log-opt max-size` and `max-file`: rename, then conmon reopens."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from netkit import threads
from runtime.container.log_options import log_limit
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.oci.log_reader import files as log_files
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.timers import Timers

CHECK_INTERVAL = 0.5  # seconds between checks of the size of a limited log
_BLOCK = 1 << 16


class LogRotator:
    """Rotates the logs of running containers.

    Nothing is rotated while the daemon is down: logs then exceed their limit, until `finish`.
    """

    def __init__(self, paths: Paths, shim: Shim, store: ContainerStore, timers: Timers) -> None:
        self._paths = paths
        self._shim = shim
        self._store = store
        self._timers = timers
        self._failing: dict[str, str] = {}  # by container, so that a reason is logged once

    def begin(self, c: Container) -> None:
        """Begin to watch the log of a container that has started.  From any thread."""
        limit, files = log_limit(c.host_config)
        if limit and c.host_config.log_config.type != "none":
            self._look(c, limit, files)

    def finish(self, c: Container) -> None:
        """Cut the log to its limits at the exit: it may have grown beyond them between checks."""
        self._failing.pop(c.id, None)
        limit, files = log_limit(c.host_config)
        if limit and c.host_config.log_config.type != "none":
            _cut(self._paths.log(c.id), limit, files)

    def _look(self, c: Container, limit: int, files: int) -> None:
        if self._store.get(c.id) is not c or not c.state.alive:
            return
        log = self._paths.log(c.id)
        try:
            if _shifted(log, limit, files):
                self._shim.reopen_log(c.id)
            self._failing.pop(c.id, None)
        except Exception as error:  # noqa: BLE001  reported, and tried again
            if self._failing.get(c.id) != str(error):
                threads.report(f"rotating the log of container {c.name}", error)
            self._failing[c.id] = str(error)
        self._timers.after(f"log {c.id}", CHECK_INTERVAL, lambda: self._look(c, limit, files))


def _shifted(log: Path, limit: int, files: int) -> bool:
    """Rotate if the log is full; does conmon have to reopen it?

    True as well if there is no log: an earlier rotation renamed it, and the reopening failed.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size < limit:
            return False
        _shift(log, files)
    return True


def _shift(log: Path, files: int) -> None:
    """Rename log.1 to log.2 and so on, and the log to log.1; keep `files` files in all.

    Takes as many renames as there are files, however large `files` is.
    """
    last = min(1, files - 1)
    while last < files - 1 and log.with_name(f"{log.name}.{last}").exists():
        last += 1
    for n in range(last, 0, -1):
        newer = log.with_name(f"{log.name}.{n - 1}") if n > 1 else log
        with suppress(FileNotFoundError):
            newer.rename(log.with_name(f"{log.name}.{n}"))
    if files == 1:
        log.unlink(missing_ok=True)


def _cut(log: Path, limit: int, files: int) -> None:
    """Cut the log and its rotated files to `limit` bytes each, and keep the last `files` of them.

    A file that was rotated late is larger than that.  While they are put in place lines may be
    there twice rather than be lost.
    """
    there = log_files(log)
    pieces = [(path, start, end) for path in there for start, end in _pieces(path, limit)]
    if len(pieces) <= len(there):
        return
    cut: list[Path] = []
    try:
        for path, start, end in pieces[-files:]:
            cut.append(log.with_name(f"{log.name}.cut{len(cut)}"))
            _copy(path, start, end, cut[-1])
        for number, path in zip(reversed(range(len(cut))), cut, strict=True):
            path.replace(log.with_name(f"{log.name}.{number}") if number else log)
    except BaseException:
        for path in cut:
            path.unlink(missing_ok=True)
        raise


def _pieces(log: Path, limit: int) -> list[tuple[int, int]]:
    """(start, end) of pieces to cut the log into: whole lines, at most `limit` bytes each."""
    cuts, start, end = [], 0, 0
    with open(log, "rb") as file:
        if (size := os.fstat(file.fileno()).st_size) <= limit:
            return [(0, size)]
        for line in file:
            if end > start and end + len(line) - start > limit:
                cuts.append((start, end))
                start = end
            end += len(line)
    return [*cuts, (start, end)]


def _copy(source: Path, start: int, end: int, to: Path) -> None:
    """Copy bytes of `source` to a new file, atomically."""
    fresh = to.with_name(f"{to.name}.new")
    with open(source, "rb") as file, open(fresh, "wb") as out:
        os.fchmod(out.fileno(), 0o600)
        file.seek(start)
        while start < end and (data := file.read(min(_BLOCK, end - start))):
            out.write(data)
            start += len(data)
    fresh.replace(to)
