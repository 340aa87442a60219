"""The manifest that the store keeps of each image, in the form of OCI.

https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.images.blobs import Blobs

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def render(blobs: Blobs, id: str, layers: Sequence[str]) -> dict[str, Any]:
    """Of the configuration `id` and the blobs of layers, lowest first; all are in the store."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": id, "size": blobs.size(id)},
        "layers": [
            {"mediaType": _layer_type(blobs, d), "digest": d, "size": blobs.size(d)}
            for d in layers
        ],
    }


def _layer_type(blobs: Blobs, digest: str) -> str:
    with open(blobs.path(digest), "rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return f"{LAYER}+gzip"
    return f"{LAYER}+zstd" if head == b"\x28\xb5\x2f\xfd" else LAYER
