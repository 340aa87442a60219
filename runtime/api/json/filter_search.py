"""Filter what an index found, as dockerd does.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netkit.errors import InvalidSpec
from runtime.api.query import filter_flag, integer


def matching(
    results: Iterable[Mapping[str, Any]], filters: Mapping[str, list[str]]
) -> list[Mapping[str, Any]]:
    """Filters: stars (at least), is-official, is-automated.  InvalidSpec."""
    official, automated = filter_flag(filters, "is-official"), filter_flag(filters, "is-automated")
    stars = max((_stars(text) for text in filters.get("stars", ())), default=0)
    return [
        each
        for each in results
        if each["star_count"] >= stars
        and official in (None, each["is_official"])
        and automated in (None, each["is_automated"])
    ]


def _stars(text: str) -> int:
    try:
        return integer("stars", text)
    except InvalidSpec:
        raise InvalidSpec(f"invalid filter 'stars={text[:60]}'") from None
