"""`--log-opt max-size` and `max-file`: logs are renamed by us and reopened by conmon."""

from __future__ import annotations

from contextlib import suppress

from runtime.containers.logoptions import log_limit
from runtime.containers.model import Container
from runtime.containers.store import ContainerStore
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.timers import Timers

LOOK = 0.5  # seconds between looks at the size of a limited log


class Rotation:
    """While the daemon is down nothing is rotated: logs then grow past their limit."""

    def __init__(self, paths: Paths, shim: Shim, store: ContainerStore, timers: Timers) -> None:
        self._paths = paths
        self._shim = shim
        self._store = store
        self._timers = timers

    def begin(self, c: Container) -> None:
        """From any thread, when a container runs."""
        limit, files = log_limit(c.host_config)
        if limit and c.host_config.log_config.type != "none":
            self._look(c, limit, files)

    def settle(self, c: Container) -> None:
        """At the end: what was written since we last looked is cut to the limits too."""
        limit, files = log_limit(c.host_config)
        log = self._paths.log(c.id)
        if not limit or c.host_config.log_config.type == "none" or not log.exists():
            return
        lines = log.read_bytes().splitlines(keepends=True) if log.stat().st_size > limit else []
        while sum(map(len, lines)) > limit:
            size, n = 0, 0
            while n < len(lines) and (size + len(lines[n]) <= limit or n == 0):
                size += len(lines[n])
                n += 1
            log.write_bytes(b"".join(lines[:n]))
            self._shift(c, files)
            lines = lines[n:]
            log.write_bytes(b"".join(lines))

    def _look(self, c: Container, limit: int, files: int) -> None:
        if self._store.get(c.id) is not c or not c.state.alive:
            return
        log = self._paths.log(c.id)
        with suppress(FileNotFoundError):
            if log.stat().st_size >= limit:
                self._rotate(c, files)
        self._timers.after(f"log {c.id}", LOOK, lambda: self._look(c, limit, files))

    def _rotate(self, c: Container, files: int) -> None:
        self._shift(c, files)
        self._shim.reopen_log(c.id)

    def _shift(self, c: Container, files: int) -> None:
        log = self._paths.log(c.id)
        for n in range(files - 1, 0, -1):
            newer = log.with_name(f"{log.name}.{n - 1}") if n > 1 else log
            with suppress(FileNotFoundError):
                newer.rename(log.with_name(f"{log.name}.{n}"))
        if files == 1:
            log.unlink(missing_ok=True)
