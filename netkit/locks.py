"""Locks by name, made as they are needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """One lock a key, which exists while a thread holds or awaits it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.RLock, int]] = {}

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(key, (threading.RLock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, users - 1)

    @contextmanager
    def try_hold(self, key: str) -> Iterator[bool]:
        """Hold it if no other thread does: True; else False, at once."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.RLock(), 0))
            got = lock.acquire(blocking=False)
            if got:
                self._locks[key] = (lock, users + 1)
        try:
            yield got
        finally:
            if got:
                lock.release()
                with self._guard:
                    lock, users = self._locks[key]
                    if users == 1:
                        del self._locks[key]
                    else:
                        self._locks[key] = (lock, users - 1)
