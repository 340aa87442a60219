"""Read images from their rows, documents and layers, with a cache."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from netkit.errors import InvalidSpec, NotFound
from runtime import limits, untrusted
from runtime.footprint import Footprint, estimate
from runtime.images import config
from runtime.images.blobs import Blobs, encoded
from runtime.images.chains import chain_ids
from runtime.images.config import image_config, layers_of
from runtime.images.layers import Layers
from runtime.images.model import Image
from runtime.images.saved import SavedImage
from runtime.images.tags import TagStore

log = logging.getLogger("netkit.images")


class Records:
    """Thread-safe.  A damaged image is logged once, and does not affect others."""

    def __init__(self, tag_store: TagStore, blobs: Blobs, layers: Layers) -> None:
        self._tag_store = tag_store
        self._blobs = blobs
        self._layers = layers
        self._cache: dict[str, tuple[dict[str, Any], str]] = {}
        self._listed: dict[str, tuple[str, ...]] = {}  # blobs of layers, as manifests have them
        self._footprint = Footprint("the configuration of an image", "remove images")
        self._reported: set[str] = set()

    def image(self, id: str) -> Image:
        """The image; if parts of it are damaged or missing, what can be read of it."""
        names = self._tag_store.names(id)
        try:
            document, _ = self.document(id)
        except NotFound as error:
            if not self._tag_store.has(id):
                raise
            self.damaged(id, error)
            document = {"rootfs": {}}
        diff_ids = layers_of(document)
        try:
            size = sum(self._layers.size(d) for d in diff_ids)
            folders = tuple(str(self._layers.tree(d)) for d in diff_ids)
        except NotFound as error:
            self.damaged(id, error)
            size, folders = 0, ()
        return Image(
            id=id,
            tags=names,
            digests=self._tag_store.digests.names(id),
            created=document.get("created") or "",
            size=size,
            config=image_config(document),
            layers=diff_ids,
            document=document,
            folders=folders,
            parent=self._tag_store.parent(id),
            tagged=self._tag_store.tagged(id),
        )

    def document(self, id: str) -> tuple[dict[str, Any], str]:
        """(configuration, digest of the manifest); NotFound if the image or its blob is missing."""
        if id not in self._cache:
            manifest = self._tag_store.manifest(id)
            raw = self._blobs.get(id)
            try:
                document = config.parse(raw)
            except InvalidSpec as error:
                self.damaged(id, error)
                document = config.salvaged(raw)
            shared = self._share(document, self._tag_store.parent(id))
            self._cache[id] = (document, manifest)
            self._footprint.note(id, _without_history(document, shared) if shared else raw)
        return self._cache[id]

    def _share(self, document: dict[str, Any], parent: str) -> int:
        """Let a document have the history of its parent's, as far as it is the same; how many steps
        that are.  In a build of N steps there would be N * N of them otherwise."""
        above = self._cache.get(parent)
        before = (above[0].get("history") or []) if above else []
        steps = document.get("history") or []
        if not before or steps[: len(before)] != before:
            return 0
        steps[: len(before)] = before
        return len(before)

    def layers(self, id: str) -> tuple[str, ...]:
        """Diff ids of an image's layers, lowest first; also of one that was deleted."""
        return layers_of(self.document(id)[0])

    def layer_blobs(self, id: str) -> tuple[str, ...]:
        """Digests of the blobs of its layers, lowest first.  NotFound."""
        if id not in self._listed:
            self._listed[id] = tuple(e["digest"] for e in self.manifest(id)[1]["layers"])
        return self._listed[id]

    def damaged(self, id: str, error: Exception) -> None:
        if id not in self._reported:
            self._reported.add(id)
            log.warning("image %s is shown with what can be read of it: %s", id, error)

    def manifest(self, id: str) -> tuple[str, dict[str, Any]]:
        """(digest, document) of an image's manifest.  NotFound."""
        digest = self.document(id)[1]
        document = untrusted.decode(self._blobs.get(digest), f"manifest {digest}")
        assert isinstance(document, dict)  # it was written here
        return digest, document

    def saved(self, id: str, names: Sequence[str]) -> SavedImage:
        """All that saving it needs of rows.  NotFound."""
        digest, document = self.manifest(id)
        return SavedImage(
            image=self.image(id),
            names=tuple(names),
            parent=self._tag_store.parent(id),
            manifest=digest,
            media_type=document["mediaType"],
            blobs=self.layer_blobs(id),
        )

    def admit(self, id: str, raw: bytes, parent: str = "") -> None:
        """Account for a new image's document; InvalidSpec or NoRoom beyond the memory bounds."""
        own = raw
        if parent in self._cache and estimate(raw) <= limits.IMAGE_BYTES:
            document = json.loads(raw)
            own = _without_history(document, self._share(document, parent))
        self._footprint.take(id, own, one=limits.IMAGE_BYTES, all=limits.IMAGES_BYTES)

    def forget(self, id: str) -> None:
        self._cache.pop(id, None)
        self._listed.pop(id, None)
        self._footprint.release(id)

    def shared_sizes(self, images: Sequence[Image]) -> dict[str, int]:
        """Bytes of the layers that an image has in common with others, by image id.

        As Docker counts: a layer is the same only on top of the same layers.
        """
        users = Counter(chain for i in images for chain in chain_ids(i.layers))
        return {
            i.id: sum(
                self.layer_size(diff_id)
                for diff_id, chain in zip(i.layers, chain_ids(i.layers), strict=True)
                if users[chain] > 1
            )
            for i in images
        }

    def bytes_of(self, ids: Iterable[str]) -> int:
        """Of the layers of all these images, shared ones once."""
        layers: set[str] = set()
        for id in ids:
            with suppress(NotFound):  # a damaged image
                layers.update(self.layers(id))
        return sum(map(self.layer_size, layers))

    def layer_size(self, diff_id: str) -> int:
        try:
            return self._layers.size(diff_id)
        except NotFound:
            return 0


def _without_history(document: dict[str, Any], steps: int) -> bytes:
    """The text of a document without its first `steps` of history."""
    return encoded({**document, "history": (document.get("history") or [])[steps:]})
