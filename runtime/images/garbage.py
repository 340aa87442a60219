"""When what no image refers to is removed."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from runtime.images.holds import Hold, Holds
from runtime.images.removal import ImageUser
from runtime.images.sweep import Sweep


class Garbage:
    """Thread-safe."""

    def __init__(self, lock: threading.RLock, holds: Holds, sweep: Sweep) -> None:
        """`lock`: the store's."""
        self._lock, self._holds, self._remove = lock, holds, sweep
        self._owed = False  # a sweep that could not be, or not whole
        self._incoming = 0  # what is being added has no name yet: no sweep

    @contextmanager
    def holding(self, *, leaves: bool = True) -> Iterator[None]:
        """Nothing that no image refers to is removed while anyone is inside: layers and blobs are
        added before the image that has them.

        After the last one it is; but not if each of them `leaves` nothing of the kind when it
        succeeds: a sweep looks at all images.
        """
        with self._lock:
            self._incoming += 1
        try:
            yield
        except BaseException:
            leaves = True
            raise
        finally:
            with self._lock:
                self._incoming -= 1
                if leaves or self._owed:
                    self.sweep()

    @contextmanager
    def using(self, user: ImageUser) -> Iterator[Hold]:
        """An operation that uses images, as a container does: what it `keep`s is not removed, or is
        kept for it alone."""
        hold: Hold | None = None
        try:
            with self._holds.using(user) as hold:
                yield hold
        finally:
            if hold is not None and hold.mattered:
                self.sweep()

    @contextmanager
    def reading(self, contents: Collection[str]) -> Iterator[None]:
        """These blobs and layers stay meanwhile, though no image may refer to them any more."""
        try:
            with self._holds.reading(contents):
                yield
        finally:
            with self._lock:
                if self._owed:
                    self.sweep()

    def sweep(self) -> None:
        with self._lock:
            self._owed = bool(self._incoming or self._holds.contents())
            if not self._incoming:
                self._remove()
