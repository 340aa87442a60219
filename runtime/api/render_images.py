"""Images as JSON of the API.  Pure."""

from __future__ import annotations

from typing import Any

from runtime.api.render_containers import STORAGE
from runtime.api.version import NEWEST, ApiVersion
from runtime.clock import epoch_ns
from runtime.ports.images import Image

Json = dict[str, Any]
_NONE = "<none>:<none>"


def summary(image: Image, *, containers: int = -1, api: ApiVersion = NEWEST) -> Json:
    """One entry of GET /images/json; -1 means "not counted"."""
    shown: Json = {
        "Containers": containers,
        "Created": epoch_ns(image.created) // 1_000_000_000,
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": "",
        "RepoDigests": list(image.digests),
        "RepoTags": list(image.tags),
        "SharedSize": -1,
        "Size": image.size,
    }
    if api < (1, 44):
        shown["VirtualSize"] = image.size
    if api < (1, 43) and not image.tags:
        shown["RepoTags"] = [_NONE]
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
        "Comment": history[-1].get("comment", ""),
        "Created": image.created,
        "DockerVersion": document.get("docker_version", ""),
        "Author": document.get("author", ""),
        "Config": document.get("config") or {},
        "Architecture": document.get("architecture", ""),
        "Os": document.get("os", "linux"),
        "Size": image.size,
        "GraphDriver": {"Name": STORAGE, "Data": None},
        "RootFS": {"Type": "layers", "Layers": list(image.layers)},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }
    if variant := document.get("variant"):
        shown["Variant"] = variant
    if api < (1, 44):
        shown["VirtualSize"] = image.size
    return shown
