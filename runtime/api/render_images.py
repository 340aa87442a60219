"""Images as JSON of the API.  Pure."""

from __future__ import annotations

from typing import Any

from runtime.api import older
from runtime.api.render_containers import STORAGE
from runtime.api.version import NEWEST, ApiVersion
from runtime.clock import epoch_ns
from runtime.containers.model import ZERO_TIME
from runtime.ports.images import Image

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
        "ParentId": "",
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


def inspect(image: Image, *, api: ApiVersion = NEWEST) -> Json:
    """GET /images/X/json."""
    document = image.document
    history = document.get("history") or [{}]
    shown: Json = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": "",
        "Comment": history[-1].get("comment") or "",
        "Created": image.created,
        "DockerVersion": document.get("docker_version") or "",
        "Author": document.get("author") or "",
        "Config": older.image_config(document.get("config") or {}, api),
        "Architecture": document.get("architecture") or "",
        "Os": document.get("os") or "linux",
        "Size": image.size,
        "GraphDriver": {"Name": STORAGE, "Data": None},
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
    older.image(shown, document, api)
    return shown
