"""What operations need of the store while they run, beside what rows say."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from netkit.errors import NotFound
from runtime.images.removal import ImageUser, Users
from runtime.images.tags import TagStore


class Hold:
    """The images that one operation uses, until it is over.  Thread-safe."""

    def __init__(self, tag_store: TagStore, user: ImageUser) -> None:
        self.user = user
        self._tags = tag_store
        self._ids: set[str] = set()
        self.mattered = False  # the answer to a question was that one of them is used

    def keep(self, id: str) -> None:
        """Use it from now on.  NotFound if it has been removed.

        A removal of images asks for their users in the transaction that removes them.
        """
        with self._tags.atomically():
            if not self._tags.has(id) or self._tags.is_deleted(id):
                raise NotFound(f"No such image: {id}")
            self._ids.add(id)

    def asked(self, id: str) -> bool:
        """Is the image one of them?"""
        used = id in self._ids
        self.mattered |= used
        return used


class Holds:
    """Images in use, and content that is being read although its image may be gone.

    Thread-safe.
    """

    def __init__(self, tag_store: TagStore, containers: Users) -> None:
        """`containers`: those made from an image."""
        self._tags, self._containers = tag_store, containers
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self._contents: Counter[str] = Counter()

    def users(self, id: str) -> list[ImageUser]:
        """Containers and operations that use an image."""
        with self._lock:
            operations = [hold.user for hold in self._holds if hold.asked(id)]
        return [*self._containers(id), *operations]

    @contextmanager
    def using(self, user: ImageUser) -> Iterator[Hold]:
        hold = Hold(self._tags, user)
        with self._lock:
            self._holds.append(hold)
        try:
            yield hold
        finally:
            with self._lock:
                self._holds.remove(hold)

    @contextmanager
    def reading(self, contents: Collection[str]) -> Iterator[None]:
        """Blobs and layers, by digest and diff id, that stay in the store meanwhile."""
        with self._lock:
            self._contents.update(contents)
        try:
            yield
        finally:
            with self._lock:
                self._contents.subtract(contents)
                self._contents = +self._contents

    def contents(self) -> set[str]:
        with self._lock:
            return set(self._contents)
