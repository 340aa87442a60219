"""Schedule work on worker threads; at most one timer per name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from netkit import threads


class Timers:
    """Thread-safe.  Uses the loop's monotonic clock: changes of the wall clock have no effect."""

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: Executor) -> None:
        self._loop = loop
        self._workers = workers
        self._lock = threading.Lock()
        self._due: dict[str, object] = {}

    def after(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        token = object()
        with self._lock:
            self._due[name] = token

        def fire() -> None:
            with self._lock:
                if self._due.get(name) is not token:
                    return  # cancelled or replaced meanwhile
                del self._due[name]
            threads.submit(self._workers, name, work)

        threads.post(self._loop, name, self._loop.call_later, seconds, fire)

    def cancel(self, name: str) -> None:
        with self._lock:
            self._due.pop(name, None)
