"""Find the image that a step has made before.

A step is its parent image, its command as history has it, with digests of what COPY and ADD bring,
and the configuration that comes of it.  The last is more than dockerd compares: with it the cache
never changes a result (in dockerd a cached ENTRYPOINT may forget the CMD).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from netkit.errors import NotFound
from netkit.store import Database
from runtime.images.model import Image

_TABLES = ["CREATE TABLE build_step (key TEXT PRIMARY KEY, image TEXT NOT NULL)"]


class Parents(Protocol):
    """Implemented by runtime.images.store.ImageStore."""

    def find(self, ref: str) -> Image: ...

    def parent(self, id: str) -> str:
        """Id of the image that it was made from here; "" if none."""
        ...


def step_key(parent: str, command: Sequence[str], config: Mapping[str, Any], author: str) -> str:
    """Digest of a step; `config` without what says nothing, and without the parent again."""
    said = {k: v for k, v in config.items() if k != "Image" and v not in (None, "", [], {}, False)}
    text = json.dumps([parent, list(command), said, author], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class StepCache:
    """Rows of steps by key, the newest of each; they outlive the daemon.  Thread-safe."""

    def __init__(self, database: Database, parents: Parents) -> None:
        self._db = database
        self._parents = parents
        self._lock = threading.Lock()
        self._db.migrate("build", _TABLES)

    def find(self, key: str, parent: str) -> str:
        """Id of the image; "" if there is none.

        An image that was removed, or came back by `load` and so without its parent, is none.
        """
        rows = self._db.rows("SELECT image FROM build_step WHERE key=?", (key,))
        image = str(rows[0]["image"]) if rows else ""
        if not image:
            return ""
        if parent:
            return image if self._parents.parent(image) == parent else ""
        try:
            return self._parents.find(image).id
        except NotFound:
            return ""

    def add(self, key: str, image: str) -> None:
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO build_step VALUES (?, ?)", (key, image))

    def forget_all_but(self, images: Iterable[str]) -> None:
        """Remove rows of images that are no more."""
        known = set(images)
        gone = {
            str(row["image"])
            for row in self._db.rows("SELECT DISTINCT image FROM build_step")
            if str(row["image"]) not in known
        }
        with self._db.transaction():
            for image in gone:
                self._db.execute("DELETE FROM build_step WHERE image=?", (image,))
