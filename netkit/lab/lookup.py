"""Find what an engine has by its name alone.

Engines also take the beginning of an id: where there is no container `db`, `/containers/db/json` is
the one whose id begins with db.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netkit.client.engine import Engine
from netkit.client.failure import Refused

Found = Mapping[str, Any]


def container(engine: Engine, name: str) -> Found | None:
    """What inspect says of it; None if there is none.  Failure."""
    found = _get(engine, f"/containers/{name}/json")
    return found if found and found["Name"].removeprefix("/") == name else None


def network(engine: Engine, name: str) -> Found | None:
    """Likewise."""
    found = _get(engine, f"/networks/{name}")
    return found if found and found["Name"] == name else None


def image(engine: Engine, name: str) -> Found | None:
    """Likewise, by a name with or without a tag."""
    found = _get(engine, f"/images/{name}/json")
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    tags = (found or {}).get("RepoTags") or ()
    # podman says localhost/busybox:latest, or docker.io/library/busybox:latest
    return found if any(tag == tagged or tag.endswith(f"/{tagged}") for tag in tags) else None


def _get(engine: Engine, path: str) -> Found | None:
    try:
        found: Found = engine.get(path)
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return found
