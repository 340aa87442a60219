"""Volumes as JSON of the API.  Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.api.version import NEWEST, ApiVersion
from runtime.volumes.model import ANONYMOUS, DRIVER, Volume

Json = dict[str, Any]


def volume(
    v: Volume, path: Path, *, usage: tuple[int, int] | None = None, api: ApiVersion = NEWEST
) -> Json:
    """One volume; `usage`: how many containers use it, and the bytes of its files."""
    shown: Json = {
        "CreatedAt": v.created,
        "Driver": DRIVER,
        "Labels": labels(v, api),
        "Mountpoint": str(path),
        "Name": v.name,
        "Options": v.options,
        "Scope": "local",
    }
    if usage is not None:
        shown["UsageData"] = {"RefCount": usage[0], "Size": usage[1]}
    return shown


def labels(v: Volume, api: ApiVersion = NEWEST) -> dict[str, str] | None:
    """Its labels; from 1.42 on, which prunes by it, with the one of anonymous volumes."""
    if v.unnamed and api >= (1, 42):
        return {ANONYMOUS: "", **(v.labels or {})}
    return v.labels
