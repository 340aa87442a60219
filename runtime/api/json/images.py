"""Images as JSON of the API.  Pure."""

from __future__ import annotations

from typing import Any

from netkit.timestamps import epoch_ns
from runtime.api import older_versions
from runtime.api.json.containers import STORAGE
from runtime.api.version import NEWEST, ApiVersion
from runtime.container.model import ZERO_TIME
from runtime.images.model import Image

Json = dict[str, Any]
_NONE = "<none>"


def summary(
    image: Image, *, containers: int = -1, shared: int = -1, api: ApiVersion = NEWEST
) -> Json:
    """One entry of GET /images/json; -1 means "not counted".

    `shared`: bytes of the layers it has in common with other images.
    """
    shown: Json = {
        "Containers": containers,
        "Created": epoch_ns(image.created) // 1_000_000_000,
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "RepoDigests": list(image.digests),
        "RepoTags": list(image.tags),
        "SharedSize": shared,
        "Size": image.size,
    }
    if api < (1, 44):
        shown["VirtualSize"] = image.size
    if api < (1, 43) and not (image.tags or image.digests):
        shown["RepoTags"], shown["RepoDigests"] = [f"{_NONE}:{_NONE}"], [f"{_NONE}@{_NONE}"]
    return shown


def _folders(image: Image) -> dict[str, str] | None:
    """GraphDriver.Data: the image's own layer, and those below it.

    There are no MergedDir and WorkDir: only containers have a mount.
    """
    if not image.folders:
        return None
    *lower, top = image.folders
    below = {"LowerDir": ":".join(reversed(lower))} if lower else {}
    return {**below, "UpperDir": top}


def inspect(image: Image, *, api: ApiVersion = NEWEST) -> Json:
    """GET /images/X/json."""
    document = image.document
    history = document.get("history") or [{}]
    shown: Json = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": image.parent,
        "Comment": history[-1].get("comment") or "",
        "Created": image.created,
        "DockerVersion": document.get("docker_version") or "",
        "Author": document.get("author") or "",
        "Config": older_versions.image_config(document.get("config") or {}, api),
        "Architecture": document.get("architecture") or "",
        "Os": document.get("os") or "linux",
        "Size": image.size,
        "GraphDriver": {"Name": STORAGE, "Data": _folders(image)},
        "RootFS": {"Type": "layers"},
        "Metadata": {"LastTagTime": image.tagged or ZERO_TIME},
    }
    if image.layers:
        shown["RootFS"]["Layers"] = list(image.layers)
    if not image.created:
        if api < (1, 44):
            shown["Created"] = ZERO_TIME
        else:
            del shown["Created"]
    if variant := document.get("variant"):
        shown["Variant"] = variant
    if api < (1, 44):
        shown["VirtualSize"] = image.size
    older_versions.image(shown, document, api)
    return shown
