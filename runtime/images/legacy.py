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
    """An image of such an archive: its layers' folders, lowest first, and its names."""

    folders: tuple[str, ...]
    names: tuple[Reference, ...]


def images(names: Iterable[str], read: Callable[[str], object]) -> list[LegacyImage]:
    """What the archive holds; `names` are its files', `read` decodes one.  InvalidSpec.

    Without `repositories` these are the layers that no other one is on top of.
    """
    files = set(names)
    known = {name.removesuffix("/json") for name in files if name.endswith("/json")}
    below = {id: _converted(read(f"{id}/json"), _Layer, id).parent or "" for id in known}
    wanted: dict[str, list[Reference]] = {}
    if "repositories" in files:
        listed = _converted(read("repositories"), dict[str, dict[str, str]], "repositories")
        for repository, tags in sorted(listed.items()):
            for tag, id in sorted(tags.items()):
                if id not in known:
                    raise InvalidSpec(f"invalid target ID: {id[:100]}")
                wanted.setdefault(id, []).append(parse(f"{repository}:{tag}"))
    else:
        wanted = {id: [] for id in sorted(known - set(below.values()))}
    return [LegacyImage(_chain(id, below), tuple(given)) for id, given in wanted.items()]


def _chain(id: str, below: Mapping[str, str]) -> tuple[str, ...]:
    found = [id]
    while parent := below[found[-1]]:
        if parent not in below or parent in found:
            raise InvalidSpec(f"layer {found[-1][:100]!r} is on top of one that is not there")
        found.append(parent)
        if len(found) > limits.JSON_VALUES:
            raise InvalidSpec("the archive has an image of too many layers")
    return tuple(reversed(found))


def has_layer(document: object, id: str) -> bool:
    return not _converted(document, _Layer, id).throwaway


def configuration(documents: list[object], diff_ids: list[str]) -> dict[str, Any]:
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
