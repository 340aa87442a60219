"""Make the configuration document of an image that adds one step to another.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netkit.errors import InvalidSpec
from runtime import limits

_KEPT = ("variant", "os.version", "os.features")


def document(
    parent: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    diff_id: str,
    created: str,
    created_by: str,
    author: str = "",
    comment: str = "",
    container: str = "",
    container_config: Mapping[str, Any] | None = None,
    docker_version: str = "",
) -> dict[str, Any]:
    """As Docker's commit writes it.

    `parent`: the document below; for an image from nothing `architecture` and `os` alone.
    `diff_id`: of the layer that is added, "" for none.  InvalidSpec, in dockerd's words, if the
    parent has as many layers as are possible, whether or not there is one more.
    """
    rootfs = parent.get("rootfs") or {}
    below = list(rootfs.get("diff_ids") or ())
    if len(below) >= limits.IMAGE_LAYERS:
        raise InvalidSpec("max depth exceeded")
    step: dict[str, Any] = {"created": created, "created_by": created_by}
    step |= {k: v for k, v in (("author", author), ("comment", comment)) if v}
    if not diff_id:
        step["empty_layer"] = True
    made = {
        "architecture": parent.get("architecture") or "",
        "os": parent.get("os") or "linux",
        "created": created,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [*below, *([diff_id] if diff_id else [])]},
        "history": [*(parent.get("history") or ()), step],
    }
    optional = {
        "author": author, "container": container, "container_config": container_config,
        "docker_version": docker_version, **{key: parent.get(key) for key in _KEPT},
    }  # fmt: skip
    return made | {k: v for k, v in optional.items() if v}
