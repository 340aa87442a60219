"""Keep execs in memory: all that run, and the latest of the others."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from netkit.errors import NoRoom, NotFound
from runtime import limits
from runtime.container.options import Exec
from runtime.footprint import Footprint

REMEMBERED = 1024  # execs kept that have exited or were never started


class ExecStore:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._execs: dict[str, Exec] = {}
        self._footprint = Footprint("an exec", "some have to end first")

    def add(self, e: Exec) -> None:
        """Add an exec.  InvalidSpec or NoRoom if its command exceeds the bounds on memory."""
        document = msgspec.json.encode(e.config)
        with self._lock:
            self._make_room(e.id, document)
            self._execs[e.id] = e

    def _make_room(self, id: str, document: bytes) -> None:
        """Forget the oldest execs that do not run.  NoRoom if that frees too little."""
        idle = deque(e.id for e in self._execs.values() if not e.running)
        while len(idle) >= REMEMBERED:
            self._forget(idle.popleft())
        while True:
            try:
                self._footprint.take(id, document, one=limits.EXEC_BYTES, all=limits.EXECS_BYTES)
                return
            except NoRoom:
                if not idle:
                    raise
                self._forget(idle.popleft())

    def _forget(self, id: str) -> None:
        del self._execs[id]
        self._footprint.release(id)

    def find(self, id: str) -> Exec:
        """Find by id or unambiguous prefix.  NotFound."""
        found = self._execs.get(id)
        if found is None:
            hits = [e for k, e in self._execs.copy().items() if id and k.startswith(id)]
            if len(hits) != 1:
                raise NotFound(f"No such exec instance: {id}")
            found = hits[0]
        return found

    def running(self, container_id: str) -> list[str]:
        """Ids of those that run in a container, sorted."""
        return sorted(
            e.id for e in self._execs.copy().values() if e.container == container_id and e.running
        )

    def forget_unstarted(self, container_id: str) -> None:
        with self._lock:
            for e in list(self._execs.values()):
                if e.container == container_id and not e.running and e.exit_code is None:
                    self._forget(e.id)
