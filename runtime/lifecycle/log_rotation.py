"""Rotate logs by `--log-opt max-size` and `max-file`: rename, then conmon reopens."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from netkit import threads
from runtime.container.log_options import log_limit
from runtime.container.model import Container
from runtime.container.store import ContainerStore
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
        """Cut the log to its limits at the exit: it may have grown since the last check."""
        self._failing.pop(c.id, None)
        limit, files = log_limit(c.host_config)
        log = self._paths.log(c.id)
        if not limit or c.host_config.log_config.type == "none" or not log.exists():
            return
        pieces = _pieces(log, limit)
        if len(pieces) < 2:
            return
        whole = log.with_name(f"{log.name}.cut")
        log.rename(whole)
        try:
            for start, end in pieces[-files:-1]:  # older ones would be rotated out at once
                _copy(whole, start, end, log)
                _shift(log, files)
            _copy(whole, *pieces[-1], log)
        except BaseException:
            whole.replace(log)  # duplicate lines and an oversized log rather than lost lines
            raise
        whole.unlink()

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


def _pieces(log: Path, limit: int) -> list[tuple[int, int]]:
    """(start, end) of pieces to cut the log into: whole lines, at most `limit` bytes each."""
    if log.stat().st_size <= limit:
        return []
    cuts, start, end = [], 0, 0
    with open(log, "rb") as file:
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
