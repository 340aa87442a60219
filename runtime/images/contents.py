"""Protocol of the image store for archives and imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from runtime.images.blobs import Blobs
from runtime.images.layers import Layers
from runtime.images.reference import Reference
from runtime.images.telling import ImageEvents


class ImageContents(Protocol):
    """Implemented by runtime.images.store.ImageStore."""

    blobs: Blobs
    layers: Layers
    events: ImageEvents

    def manifest(self, id: str) -> tuple[str, dict[str, Any]]:
        """Digest and document of the manifest of an image."""
        ...

    def layer_tar(self, id: str, diff_id: str) -> tuple[int, Iterator[bytes]]:
        """(bytes, content) of the uncompressed tar of one of an image's layers."""
        ...

    def document(self, id: str) -> dict[str, Any]: ...
    def parent(self, id: str) -> str: ...
    def set_parent(self, id: str, parent: str) -> None: ...

    def named(self, name: Reference) -> str:
        """Id of the image that has the name; "" if none has."""
        ...

    def holding(self) -> AbstractContextManager[None]:
        """Nothing that is added inside is swept before an image has it."""
        ...

    def add(
        self, document: dict[str, Any] | bytes, layers: Sequence[str], names: Sequence[Reference]
    ) -> str:
        """Add an image whose layers are in the store; its id."""
        ...
