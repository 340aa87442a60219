"""Filter networks for `docker network ls`.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netkit.spec import NetworkRecord
from runtime.api.json.filter_containers import labelled, pattern_in
from runtime.api.query import filter_flag, invalid_filter

FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})


def select(
    networks: Iterable[NetworkRecord], filters: Mapping[str, list[str]], used: Collection[str]
) -> list[NetworkRecord]:
    """Filter networks, sorted by name; `used` are ids of networks with endpoints."""
    for kind in filters.get("type", ()):
        if kind not in {"custom", "builtin"}:
            raise invalid_filter("type", kind)
    dangling = filter_flag(filters, "dangling")
    return [
        n
        for n in sorted(networks, key=lambda n: (n.spec.name, n.id))
        if (dangling is None or dangling is _dangling(n, used))
        and n.spec.driver in filters.get("driver", (n.spec.driver,))
        and n.spec.scope in filters.get("scope", (n.spec.scope,))
        and ("builtin" if n.builtin else "custom") in filters.get("type", ("builtin", "custom"))
        and any(pattern_in(p, n.id) for p in filters.get("id", ("",)))
        and any(pattern_in(p, n.spec.name) for p in filters.get("name", ("",)))
        and labelled(filters.get("label", ()), n.spec.labels)
    ]


def _dangling(network: NetworkRecord, used: Collection[str]) -> bool:
    return not network.builtin and network.id not in used
