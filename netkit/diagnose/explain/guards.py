"""Recognise netkit's own rules on frames: the addresses that a bridge port may send from.

They are those of `lan` networks, one table a network, all of it elements of three sets: see
plugins/lan/port_security.py.  A table of this kind that another tool changed is none.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netkit.diagnose.explain.facts import Guard

OURS, NAME = "netkit:", "netkit-"
RULES = {"port": 9, "prerouting": 1}  # how many there are in each chain
SETS = frozenset({"ports", "macs", "sources"})
Json = Mapping[str, Any]


def guards(text: str) -> tuple[dict[str, Guard], frozenset[str]]:
    """Guards by bridge port, and the names of the tables that make them."""
    things = [t for t in json.loads(text)["nftables"] if isinstance(t, dict)]
    rules: dict[str, list[Json]] = {}
    sets: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for thing in things:
        ((kind, raw),) = thing.items()
        if kind == "rule" and raw["family"] == "bridge":
            rules.setdefault(raw["table"], []).append(raw)
        elif kind == "set" and raw["family"] == "bridge" and raw["name"] in SETS:
            sets[raw["table"], raw["name"]] = list(_elements(raw.get("elem", ())))
    tables = frozenset(name for name, said in rules.items() if _whole(name, said))
    out = {}
    for table in tables:
        for (port,) in sets.get((table, "ports"), ()):
            out[port] = Guard(
                addresses=_of(port, sets.get((table, "sources"), ())),
                macs=_of(port, sets.get((table, "macs"), ())),
            )
    return out, tables


def _whole(name: str, rules: Iterable[Json]) -> bool:
    counts = dict.fromkeys(RULES, 0)
    for rule in rules:
        if rule["chain"] not in counts or not rule.get("comment", "").startswith(OURS):
            return False
        counts[rule["chain"]] += 1
    return name.startswith(NAME) and counts == RULES


def _elements(raw: Iterable[Any]) -> Iterator[tuple[str, ...]]:
    for element in raw:
        commented = isinstance(element, dict) and "elem" in element
        value = element["elem"]["val"] if commented else element
        yield tuple(value["concat"]) if isinstance(value, dict) else (str(value),)


def _of(port: str, elements: Iterable[tuple[str, ...]]) -> frozenset[str]:
    return frozenset(value for at, value in elements if at == port)
