"""Filter volumes for `docker volume ls`.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netkit.errors import InvalidSpec
from runtime.api import query
from runtime.api.json.filter_containers import labelled, pattern_in
from runtime.api.json.volumes import labels
from runtime.api.version import NEWEST, ApiVersion
from runtime.volumes.model import DRIVER, Volume

FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"label", "label!"})
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def parse(text: str, allowed: Collection[str]) -> dict[str, list[str]]:
    """InvalidSpec in the words dockerd has for volumes."""
    try:
        return query.filters(text, allowed)
    except InvalidSpec as error:
        words = str(error)
        raise InvalidSpec(words[0].upper() + words[1:]) from None


def flag(given: Mapping[str, list[str]], name: str) -> bool | None:
    """A filter that is true or false; None when it is absent.  InvalidSpec."""
    if name not in given:
        return None
    values = given[name]
    if len(values) != 1 or values[0] not in _BOOLEANS:
        raise InvalidSpec(f"Invalid filter '{name}=[{' '.join(values)}]'")
    return _BOOLEANS[values[0]]


def select(
    volumes: Iterable[Volume],
    filters: Mapping[str, list[str]],
    used: Collection[str],
    api: ApiVersion = NEWEST,
) -> list[Volume]:
    """Filter volumes, sorted by name; `used` are names of those that containers use."""
    dangling = flag(filters, "dangling")
    return [
        v
        for v in sorted(volumes, key=lambda v: v.name)
        if (dangling is None or dangling is (v.name not in used))
        and DRIVER in filters.get("driver", (DRIVER,))
        and any(pattern_in(p, v.name) for p in filters.get("name", ("",)))
        and labelled(filters.get("label", ()), labels(v, api))
    ]
