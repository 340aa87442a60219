"""An image that is being saved, as its rows were when that began."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.images.model import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    image: Image
    names: tuple[str, ...]  # to include
    parent: str  # id of the image that it was made from here; "" if none
    manifest: str  # digest
    media_type: str  # of the manifest
    blobs: tuple[str, ...]  # digests of its layers, lowest first

    def contents(self) -> set[str]:
        """Digests and diff ids of all that it has in the store."""
        return {self.image.id, self.manifest, *self.blobs, *self.image.layers}
