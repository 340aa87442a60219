"""Resolve a method and a path to a handler.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netkit.errors import NotFound
from runtime.api.server.request import Handler


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has named parts: {ref} takes slashes too, as names of images have them."""

    method: str
    path: str
    handler: Handler


class Table:
    """Routes by method and first part of the path; the first that matches is used."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", route.path))
            key = (route.method, _head(route.path))
            self._routes.setdefault(key, []).append((pattern, route.handler))

    def resolve(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """The handler and named parts.  NotFound for unknown paths and wrong methods, as Docker."""
        for pattern, handler in self._routes.get((method, _head(path)), ()):
            if found := pattern.fullmatch(path):
                return handler, found.groupdict()
        raise NotFound("page not found")


def _head(path: str) -> str:
    return path.lstrip("/").partition("/")[0]
