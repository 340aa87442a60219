"""What requests of the page have in them, within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from netkit.errors import InvalidSpec, NotFound
from netkit.ui.keys import SOURCES
from netkit.ui.source import Source

LONGEST = 300  # characters of a name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)  # else it would be another path


def source(request: web.Request) -> Source:
    """The engine that the query names.  NotFound."""
    name, known = request.query.get("engine", ""), request.app[SOURCES]
    if (found := known.get(name)) is None:
        raise NotFound(f"there is no engine {name[:80]!r}: {', '.join(known)}")
    return found


def word(given: Mapping[str, Any], name: str) -> str:
    """InvalidSpec for none, and for one that is too long."""
    found = given.get(name)
    if not (isinstance(found, str) and 0 < len(found) <= LONGEST):
        raise InvalidSpec(f"bad parameter: {name} must be text of 1 to {LONGEST} characters")
    return found


def container(request: web.Request) -> str:
    """The id or name of a container that the query names.  InvalidSpec."""
    found = word(request.query, "id")
    if not _NAME.fullmatch(found):
        raise InvalidSpec(f"bad parameter: id: {found[:80]!r} is no name of a container")
    return found


async def body(request: web.Request) -> dict[str, Any]:
    """A JSON object.  InvalidSpec; aiohttp bounds its size."""
    try:
        found = json.loads(await request.text())
    except ValueError:
        raise InvalidSpec("the body is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidSpec("the body is no JSON object")
    return found
