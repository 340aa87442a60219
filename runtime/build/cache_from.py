"""`--cache-from`: steps of named images, by their history and layers; no parents are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runtime.images.model import Image

Restore = Callable[[str, Image, int], str]  # (parent, image, how many steps of it) -> id


class NamedCaches:
    """Steps of one build are taken from these images alone."""

    def __init__(self, images: Sequence[Image], parent: Callable[[str], str]) -> None:
        self._images = list(images)
        self._parent = parent

    def above(self, id: str) -> bool:
        """Was one of the images made from this one?"""
        return any(id in self._ancestors(image.id) for image in self._images)

    def _ancestors(self, id: str) -> Iterator[str]:
        while id := self._parent(id):
            yield id

    def match(self, below: Mapping[str, Any], command: Sequence[str]) -> tuple[Image, int] | None:
        """The image whose next step after `below`, the document of an image, is this command, and
        the number of its steps up to there.  From then on no other image is looked at."""
        count = len(below.get("history") or ())
        for image in self._images:
            history = image.document.get("history") or []
            if not _continues(below, image.document):
                continue
            if (history[count].get("created_by") or "") != " ".join(command):
                continue
            self._images = [image]
            return image, count + 1
        return None


def _continues(below: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Does an image begin with all steps and layers of another one, and have more?"""
    steps, more = below.get("history") or [], document.get("history") or []
    layers = (below.get("rootfs") or {}).get("diff_ids") or []
    others = (document.get("rootfs") or {}).get("diff_ids") or []
    if len(steps) >= len(more):
        return False
    return bool(more[: len(steps)] == steps and others[: len(layers)] == layers)


def restored(
    image: Image, steps: int, config: Mapping[str, Any], author: str
) -> tuple[dict[str, Any], int]:
    """The document of an image that has the first steps of another; how many layers it has."""
    history = list(image.document.get("history") or ())[:steps]
    layers = sum(not entry.get("empty_layer") for entry in history)
    document = {
        key: value
        for key, value in image.document.items()
        if key in {"architecture", "os", "variant", "os.version", "os.features"}
    }
    document |= {
        "created": history[-1].get("created") or image.created,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": list(image.layers[:layers])},
        "history": history,
    }
    return document | ({"author": author} if author else {}), layers
