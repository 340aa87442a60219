"""Save images to a tar in the form that every version of Docker loads, as `docker save` of 20.10.

<id>.json                 the configuration of an image
<layer>/layer.tar         a layer, uncompressed; a link to another one's where they are the same
<layer>/json, VERSION     what the layer was to Docker before 1.10, whose ids these are
manifest.json             configurations, names and layers of the images
repositories              names, for Docker before 1.10

The same images give the same bytes: all times are those at which images were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netkit.timestamps import epoch_ns
from runtime.images.chains import chain_ids
from runtime.images.contents import Contents
from runtime.images.layer_tar import layer_tar
from runtime.images.model import Image
from runtime.images.saved import SavedImage
from runtime.tar import header as tar
from runtime.tar.writing import END, header, padding

_EPOCH = "1970-01-01T00:00:00Z"
_ELSEWHERE = frozenset(("rootfs", "history", "os.version", "os.features"))


def save(store: Contents, images: Sequence[SavedImage]) -> Iterator[bytes]:
    """Yield the archive of images; their content is in the store until it ends."""
    saved = {each.image.id for each in images}
    manifest: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    layers: dict[str, str] = {}  # by diff id, where it is in the archive
    folders: set[str] = set()
    for each in images:
        image, names = each.image, each.names
        when = max(0, epoch_ns(image.created)) // 10**9
        ids = _layer_ids(image)
        own = zip(ids, _documents(image, ids), image.layers, each.blobs, strict=True)
        for id, document, diff_id, blob in own:
            if id not in folders:
                folders.add(id)
                yield from _folder(store, blob, id, document, diff_id, layers, when)
        raw = store.blobs.get(image.id)
        yield from _member(f"{image.id.removeprefix('sha256:')}.json", raw, when)
        manifest.append({
            "Config": f"{image.id.removeprefix('sha256:')}.json",
            "RepoTags": list(names) or None,
            "Layers": [f"{id}/layer.tar" for id in ids] or None,
            **({"Parent": each.parent} if each.parent in saved else {}),
        })  # fmt: skip
        for name in names if ids else ():
            repository, _, tag = name.rpartition(":")
            repositories.setdefault(repository, {})[tag] = ids[-1]
    yield from _member("manifest.json", _json(manifest), 0)
    if repositories:
        yield from _member("repositories", _json(repositories), 0)
    yield END


def _folder(
    store: Contents,
    blob: str,
    id: str,
    document: Mapping[str, Any],
    diff_id: str,
    layers: dict[str, str],
    when: int,
) -> Iterator[bytes]:
    yield header(f"{id}/", tar.DIRECTORY, mode=0o755, mtime=when)
    yield from _member(f"{id}/VERSION", b"1.0", when)
    yield from _member(f"{id}/json", _json(document), when)
    name = f"{id}/layer.tar"
    if diff_id in layers:
        yield header(name, tar.SYMLINK, mode=0o777, mtime=when, link=f"../{layers[diff_id]}")
        return
    layers[diff_id] = name
    size, content = layer_tar(store.blobs, store.layers, blob, diff_id)
    yield header(name, tar.REGULAR, mode=0o644, size=size, mtime=when)
    yield from content
    yield padding(size)


def _layer_ids(image: Image) -> list[str]:
    """Ids of the layers as images of their own: each depends on those below, and the last one on
    the image's configuration, too."""
    ids: list[str] = []
    chains = chain_ids(image.layers)
    for chain in chains:
        whole = {"layer_id": chain, "parent": ids[-1] if ids else ""}
        if len(ids) == len(chains) - 1:
            whole["image"] = image.id
        ids.append(hashlib.sha256(_json(whole)).hexdigest())
    return ids


def _documents(image: Image, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The `json` of each layer; the last one has the image's configuration."""
    for number, id in enumerate(ids):
        own: Mapping[str, Any] = {"created": _EPOCH, "container_config": {"Cmd": [""]}}
        if number == len(ids) - 1:
            own = {k: v for k, v in image.document.items() if k not in _ELSEWHERE}
        below = {"parent": ids[number - 1]} if number else {}
        yield {**own, "id": id, **below, "os": image.document.get("os") or "linux"}


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _member(name: str, data: bytes, when: int) -> Iterator[bytes]:
    yield header(name, tar.REGULAR, mode=0o644, size=len(data), mtime=when)
    yield data + padding(len(data))
