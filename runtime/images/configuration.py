"""An image's configuration document, read with suspicion: it comes from strangers.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from netkit.errors import InvalidSpec
from runtime.clock import epoch_ns
from runtime.images.references import DIGEST
from runtime.ports.images import Image, ImageConfig

MOST_LAYERS = 125  # overlayfs's and Docker's limit
MOST_BYTES = 4 << 20  # of a configuration or manifest document


def checked(document: object) -> dict[str, Any]:
    """InvalidSpec if it is not a configuration of a Linux image."""
    if not isinstance(document, dict) or "manifests" in document or "layers" in document:
        raise InvalidSpec("not an image configuration")
    rootfs = document.get("rootfs")
    ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(ids, list) or not all(
        isinstance(d, str) and DIGEST.fullmatch(d) for d in ids
    ):
        raise InvalidSpec("image configuration without valid diff_ids")
    if len(ids) > MOST_LAYERS:
        raise InvalidSpec(f"image has {len(ids)} layers: at most {MOST_LAYERS} are possible")
    if document.get("os", "linux") not in {"linux", ""}:
        raise InvalidSpec(f"image is for {document['os']}, not for linux")
    image_config(document)
    return document


def layers_of(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(document.get("rootfs", {}).get("diff_ids") or ())


def image_config(document: dict[str, Any]) -> ImageConfig:
    config = document.get("config") or {}
    try:
        return msgspec.convert({k: v for k, v in config.items() if v is not None}, ImageConfig)
    except (msgspec.ValidationError, AttributeError) as e:
        raise InvalidSpec(f"image configuration is malformed: {e}") from e


def history(image: Image, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """What made an image, newest first, as the API has it.  `sizes`: bytes of its layers."""
    left = list(sizes)
    out: list[dict[str, Any]] = []
    for entry in image.document.get("history") or ():
        size = 0 if entry.get("empty_layer") or not left else left.pop(0)
        out.append({
            "Id": "<missing>",
            "Created": epoch_ns(entry.get("created") or "") // 1_000_000_000,
            "CreatedBy": entry.get("created_by", ""),
            "Tags": None,
            "Size": size,
            "Comment": entry.get("comment", ""),
        })  # fmt: skip
    out.reverse()
    if out:
        out[0] |= {"Id": image.id, "Tags": list(image.tags) or None}
    return out
