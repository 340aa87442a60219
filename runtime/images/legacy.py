"""Read archives that Docker saved before 1.10: an image is a chain of layers with a `json` each.

<layer>/json         {"id", "parent", "config", "container_config", ...}
<layer>/layer.tar
repositories         {"name": {"tag": layer}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import field

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.images import config as configuration
from runtime.images.contents import ImageContents
from runtime.images.reference import Reference, parse

_DROPPED = frozenset((
    "id", "parent", "Size", "parent_id", "layer_id", "throwaway", "rootfs", "history",
))  # fmt: skip


class _Ran(msgspec.Struct):
    cmd: list[str] | None = field(name="Cmd", default=None)


class _Layer(msgspec.Struct):
    """The fields of a layer's `json` that are used."""

    parent: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    container_config: _Ran | None = None
    throwaway: bool | None = None


@dataclass(frozen=True, slots=True)
class LegacyImage:
    """An image of such an archive: folders of its layers, lowest first, and its names."""

    folders: tuple[str, ...]
    names: tuple[Reference, ...]


def images(names: Iterable[str], read: Callable[[str], object]) -> list[LegacyImage]:
    """What the archive holds, parents first: to Docker of then each layer was an image.

    `names` are its files', `read` decodes one.  InvalidSpec.
    """
    known = sorted(name.removesuffix("/json") for name in names if name.endswith("/json"))
    below = {id: _converted(read(f"{id}/json"), _Layer, id).parent or "" for id in known}
    listed = _converted(read("repositories"), dict[str, dict[str, str]], "repositories")
    wanted: dict[str, list[Reference]] = {}
    for repository, tags in sorted(listed.items()):
        for tag, id in sorted(tags.items()):
            if id not in below:
                raise InvalidSpec(f"invalid target ID: {id[:100]}")
            wanted.setdefault(id, []).append(parse(f"{repository}:{tag}"))
    chains = sorted((_chain(id, below) for id in known), key=len)
    return [LegacyImage(chain, tuple(wanted.get(chain[-1], ()))) for chain in chains]


class Adding:
    """Adds the images of one archive.  `layer` stores a file as a layer: (diff id, blob)."""

    def __init__(
        self,
        store: ImageContents,
        read: Callable[[str], object],
        layer: Callable[[str], tuple[str, str]],
    ) -> None:
        self._store, self._read, self._layer = store, read, layer
        self._layers: dict[str, tuple[str, str]] = {}  # by folder
        self._ids: dict[str, str] = {}

    def add(self, image: LegacyImage) -> str:
        """Add it on top of its parent, which was added before; its id."""
        *above, own = image.folders
        documents = [self._read(f"{folder}/json") for folder in image.folders]
        if not _converted(documents[-1], _Layer, own).throwaway:
            self._layers[own] = self._layer(f"{own}/layer.tar")
        layers = [self._layers[folder] for folder in image.folders if folder in self._layers]
        made = _configuration(documents, [diff_id for diff_id, _ in layers])
        configuration.check_writable(made)
        id = self._store.add(made, [blob for _, blob in layers], image.names)
        self._ids[own] = id
        if above:
            self._store.set_parent(id, self._ids[above[-1]])
        return id


def _chain(id: str, below: Mapping[str, str]) -> tuple[str, ...]:
    found = [id]
    while parent := below[found[-1]]:
        if parent not in below or parent in found:
            raise InvalidSpec(f"layer {found[-1][:100]!r} is on top of one that is not there")
        found.append(parent)
        if len(found) > limits.IMAGE_LAYERS:
            raise InvalidSpec(f"an image has more than {limits.IMAGE_LAYERS} layers")
    return tuple(reversed(found))


def _configuration(documents: list[object], diff_ids: list[str]) -> dict[str, Any]:
    """The configuration of an image, of the `json` of all its layers, lowest first."""
    history = []
    for document in documents:
        layer = _converted(document, _Layer, "json")
        step: dict[str, Any] = {
            "created": layer.created, "author": layer.author, "comment": layer.comment,
            "created_by": " ".join((layer.container_config and layer.container_config.cmd) or ()),
            "empty_layer": layer.throwaway,
        }  # fmt: skip
        history.append({key: value for key, value in step.items() if value})
    top = documents[-1]
    assert isinstance(top, dict)  # it was converted above
    own = {key: value for key, value in top.items() if key not in _DROPPED}
    return {**own, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history}


def _converted(value: object, kind: Any, name: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"{name[:100]} is malformed: {error}") from error
