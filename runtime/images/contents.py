"""Protocol of the image store for archives and imports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from runtime.images.blobs import Blobs
from runtime.images.image_events import ImageEvents
from runtime.images.layers import Layers
from runtime.images.reference import Reference


class Contents(Protocol):
    """What images consist of."""

    blobs: Blobs
    layers: Layers


class ImageContents(Contents, Protocol):
    """Implemented by runtime.images.store.ImageStore."""

    events: ImageEvents

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
