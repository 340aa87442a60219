"""Protocol of the image store for loading and saving archives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from runtime.images.blobs import Blobs
from runtime.images.layers import Layers
from runtime.images.reference import Reference


class ImageContents(Protocol):
    """Implemented by runtime.images.store.ImageStore."""

    blobs: Blobs
    layers: Layers

    def manifest(self, id: str) -> tuple[str, dict[str, Any]]:
        """Digest and document of the manifest of an image."""
        ...

    def add(
        self, document: dict[str, Any] | bytes, layers: Sequence[str], names: Sequence[Reference]
    ) -> str:
        """Add an image whose layers are in the store; its id."""
        ...
