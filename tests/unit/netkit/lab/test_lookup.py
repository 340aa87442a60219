"""A name that is also the beginning of an id is no other thing's name."""

from __future__ import annotations

from typing import Any, cast

from netkit.client.engine import Engine
from netkit.client.failure import Refused
from netkit.lab import lookup

ID = "db3f" * 16


class ByPrefix:
    """Answers as engines do: by name, else by the beginning of an id."""

    def get(self, path: str) -> Any:
        kind, ref = path.strip("/").split("/")[:2]
        there = {
            "containers": {"Name": "/web", "Id": ID}, "networks": {"Name": "lane", "Id": ID},
            "images": {"RepoTags": ["localhost/site:latest", "x:1"], "Id": ID},
        }[kind]  # fmt: skip
        if ID.startswith(ref) or ref in str(there):
            return there
        raise Refused(404, f"no {ref}")


def test_only_what_has_the_name_itself_is_found() -> None:
    engine = cast(Engine, ByPrefix())
    assert lookup.container(engine, "db") is None
    assert lookup.container(engine, "web")
    assert lookup.network(engine, "db3") is None
    assert lookup.network(engine, "lane")
    assert lookup.image(engine, "db") is None
    assert lookup.image(engine, "site")
    assert lookup.image(engine, "x:1")
    assert lookup.image(engine, "x:2") is None
    assert lookup.container(engine, "other") is None
