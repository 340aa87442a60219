"""Protocol of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from runtime.apitypes import Upload
from runtime.filters import Filters, PrunedImages
from runtime.images.importing import ImportRequest
from runtime.images.model import Image


class Images(Protocol):
    def find(self, ref: str) -> Image:
        """Find by familiar or full name, id or unique id prefix.  NotFound "No such image: x"."""
        ...

    def all(self) -> list[Image]: ...

    def import_(self, tar: Upload, request: ImportRequest) -> str:
        """Import a root file system tar (plain, gzip, bz2, xz, zstd) as an image; its id."""
        ...

    def load(self, tar: Upload) -> Iterator[str]:
        """Load a docker-save or OCI archive; yields "Loaded image: x" lines."""
        ...

    def save(self, refs: Sequence[str], layout: str = "docker") -> Iterator[bytes]:
        """Yield an archive in the layout of `docker save`, or "oci"."""
        ...

    def tag(self, ref: str, repo: str, tag: str) -> None: ...

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        """[{"Untagged": "x:1"}, {"Deleted": "sha256:..."}] as docker rmi prints them."""
        ...

    def shared_sizes(self, images: Sequence[Image]) -> dict[str, int]:
        """Bytes of the layers that each has in common with others of them, by image id."""
        ...

    def history(self, ref: str) -> list[dict[str, Any]]: ...
    def prune(self, filters: Filters) -> PrunedImages: ...
