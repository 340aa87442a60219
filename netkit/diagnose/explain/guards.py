"""Recognise netkit's own rules on frames: the addresses that a bridge port may send from.

Which tables say so the driver says (netkit.model.layout.PortSecurity).  One that another
tool changed is none of them.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from netkit.diagnose.explain.facts import Guard
from netkit.model.layout import PortSecurity

OURS = "netkit:"
Json = Mapping[str, Any]
Elements = list[tuple[str, ...]]


class Guards(NamedTuple):
    """What is checked at bridge ports, and the names of the tables that do it."""

    ports: Mapping[str, Guard] = {}
    tables: frozenset[str] = frozenset()


def guards(text: str, secured: Iterable[PortSecurity]) -> Guards:
    """Those of the tables that `secured` describes."""
    things = [t for t in json.loads(text)["nftables"] if isinstance(t, dict)]
    rules: dict[str, list[Json]] = {}
    sets: dict[tuple[str, str], Elements] = {}
    for thing in things:
        ((kind, raw),) = thing.items()
        if kind == "rule" and raw["family"] == "bridge":
            rules.setdefault(raw["table"], []).append(raw)
        elif kind == "set" and raw["family"] == "bridge":
            sets[raw["table"], raw["name"]] = list(_elements(raw.get("elem", ())))
    ports: dict[str, Guard] = {}
    tables: set[str] = set()
    for security in secured:
        for table in (name for name, listed in rules.items() if _whole(name, listed, security)):
            tables.add(table)
            for (port,) in sets.get((table, security.ports), ()):
                ports[port] = Guard(
                    addresses=_of(port, sets.get((table, security.sources), ())),
                    macs=_of(port, sets.get((table, security.macs), ())),
                )
    return Guards(ports, frozenset(tables))


def _whole(name: str, rules: Iterable[Json], security: PortSecurity) -> bool:
    expected = dict(security.rules)
    counts = dict.fromkeys(expected, 0)
    for rule in rules:
        if rule["chain"] not in counts or not rule.get("comment", "").startswith(OURS):
            return False
        counts[rule["chain"]] += 1
    return name.startswith(security.tables) and counts == expected


def _elements(raw: Iterable[Any]) -> Iterator[tuple[str, ...]]:
    for element in raw:
        commented = isinstance(element, dict) and "elem" in element
        value = element["elem"]["val"] if commented else element
        yield tuple(value["concat"]) if isinstance(value, dict) else (str(value),)


def _of(port: str, elements: Iterable[tuple[str, ...]]) -> frozenset[str]:
    return frozenset(value for at, value in elements if at == port)
