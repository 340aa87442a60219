"""Save images to a tar that is both a docker archive and an OCI layout, as `docker save`.

oci-layout, index.json      for OCI (image-spec image-layout.md)
manifest.json               for Docker: configuration, names, layers
blobs/sha256/...            shared by both
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.images.contents import Contents
from runtime.images.saved import SavedImage

_NAME = "io.containerd.image.name"
_TAG = "org.opencontainers.image.ref.name"


def save(store: Contents, images: Sequence[SavedImage]) -> Iterator[bytes]:
    """Yield the archive of images; their content is in the store until it ends."""
    docker: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    blobs: dict[str, int] = {}
    for each in images:
        for d in (each.image.id, each.manifest, *each.blobs):
            blobs[d] = store.blobs.size(d)
        docker.append(
            {
                "Config": _blob(each.image.id),
                "RepoTags": list(each.names) or None,
                "Layers": [_blob(d) for d in each.blobs] or None,
            }
        )
        entry = {
            "mediaType": each.media_type,
            "digest": each.manifest,
            "size": store.blobs.size(each.manifest),
        }
        # An entry for each name, as in Docker: an annotation holds one.
        notes = [{_NAME: _full(n), _TAG: n.rpartition(":")[2]} for n in each.names]
        index += [{**entry, "annotations": n} for n in notes] or [entry]
    yield from _member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    yield from _member("index.json", _json({"schemaVersion": 2, "manifests": index}))
    yield from _member("manifest.json", _json(docker))
    for digest, size in sorted(blobs.items()):
        yield _header(_blob(digest), size)
        yield from store.blobs.stream(digest)
        yield bytes(-size % 512)
    yield bytes(1024)


def _full(name: str) -> str:
    first = name.partition("/")[0]
    if "/" in name and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + bytes(-len(data) % 512)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)
