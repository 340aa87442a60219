"""Names and digests that registries give to images of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from netkit.errors import NotFound
from runtime.images.reference import Reference
from runtime.images.tags import TagStore


class Add(Protocol):
    """ImageStore.add."""

    def __call__(
        self, document: bytes, layers: Sequence[str], names: Sequence[Reference], /, *,
        also: Callable[[str], None],
    ) -> str: ...  # fmt: skip


class RegistryNames:
    """Thread-safe."""

    def __init__(self, add: Add, tag_store: TagStore, lock: threading.RLock) -> None:
        """`add`, `lock`: the store's."""
        self._add, self._tags, self._lock = add, tag_store, lock
        self.digests = tag_store.digests

    def add(self, document: bytes, layers: Sequence[str], name: Reference, digest: str) -> str:
        """Add an image as a registry has it, with name and digest, all at once; its id."""
        return self._add(document, layers, [], also=lambda id: self._recorded(id, name, digest))

    def record(self, id: str, name: Reference, digest: str) -> None:
        """A registry calls the image so; a tag is given to it.  A power cut does not undo it.

        NotFound if it was removed meanwhile.
        """
        with self._lock, self._tags.atomically():
            if not self.has(id):
                raise NotFound(f"No such image: {id}")
            self._recorded(id, name, digest)
        self._tags.flush()

    def pushed(self, id: str, name: Reference, digest: str) -> None:
        """The registry calls the image so, if it still has the name that it was pushed by: while it
        was, a user may have removed that, or given it to another image."""
        with self._lock, self._tags.atomically():
            if self.named(name) != id:
                return
            self.digests.record(name.repository, digest, id)
        self._tags.flush()

    def _recorded(self, id: str, name: Reference, digest: str) -> None:
        with self._lock, self._tags.atomically():
            if not name.digest and self.named(name) != id:
                self._tags.name(name, id)
            self.digests.record(name.repository, digest, id)

    def named(self, name: Reference) -> str | None:
        """Id of the image with that tag or digest."""
        return self._tags.named(name)

    def tags_in(self, repository: str) -> list[str]:
        """Names of a repository that are here, in order."""
        return [name for _, name in self._tags.tags_of(repository)]

    def has(self, id: str) -> bool:
        """Is the image in the store, and not deleted?"""
        return self._tags.has(id) and not self._tags.is_deleted(id)
