"""Rules of other tools that may decide about the packets of a container.  Pure.

A rule is matched by its addresses, interfaces and published ports; its other conditions (source,
state) are left to the reader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.explain.ruleset import (
    Chain,
    Condition,
    Hook,
    Key,
    Mystery,
    Rule,
    RuleSet,
    Verdict,
    fits,
)

OURS = "netkit:"
DECIDES = frozenset({"accept", "drop", "reject", "dnat", "redirect", "untrack"})
POINTS: tuple[Hook, ...] = ("prerouting", "forward")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a container is: its address, and the bridge that it is on."""

    address: IPv4Address
    link: str


def concerning(
    rules: RuleSet, homes: Sequence[Home], published: Collection[int]
) -> list[dict[str, object]]:
    """Those that decide about packets to or from `homes`; in the order in which they are asked."""
    found = [
        {"Tool": r.tool, "Table": r.table, "Chain": r.chain, "Number": r.number, "Text": r.text}
        for point in POINTS
        for chain in _reached(rules, rules.hooked.get(point, ()))
        for r in chain.rules
        if not r.comment.startswith(OURS) and _decides(r)
        if (_forwarded(r, homes) if point == "forward" else _arriving(r, homes, published))
    ]
    return list({(f["Tool"], f["Table"], f["Chain"], f["Number"]): f for f in found}.values())


def _reached(rules: RuleSet, chains: Iterable[Chain]) -> Iterator[Chain]:
    """Each once, those of the kernel first and then what they lead to."""
    todo, seen = list(chains), set[tuple[str, str, str]]()
    while todo:
        chain = todo.pop(0)
        if (key := (chain.tool, chain.table, chain.name)) in seen:
            continue
        seen.add(key)
        yield chain
        steps = (s for r in chain.rules for s in r.steps if isinstance(s, Verdict) and s.chain)
        todo += [below for s in steps if (below := rules.chain(chain, s.chain)) is not None]


def _decides(r: Rule) -> bool:
    return any(
        s.kind in DECIDES if isinstance(s, Verdict) else isinstance(s, Mystery) and s.acts
        for s in r.steps
    )


def _forwarded(r: Rule, homes: Iterable[Home]) -> bool:
    """Can it match what is forwarded to a home, or does it speak of what comes from there?"""
    comes = _speaks(r, "src") or _speaks(r, "iif")
    return any(
        _allows(r, {"dst": _number(h.address), "oif": h.link})
        or (comes and _allows(r, {"src": _number(h.address), "iif": h.link}))
        for h in homes
    )


def _arriving(r: Rule, homes: Sequence[Home], published: Collection[int]) -> bool:
    """Can it match what is sent to a home, or to a published port of the host?"""
    own = [_number(h.address) for h in homes]
    to = (s.to.addresses for s in r.steps if isinstance(s, Verdict) and s.to.addresses)
    leads = any(int(low) <= n <= int(high) for low, high in to for n, _ in own)
    if leads or (_speaks(r, "dst") and any(_allows(r, {"dst": n}) for n in own)):
        return True
    if _speaks(r, "dst") and not _speaks(r, "dport"):
        return False
    return any(_allows(r, {"dport": (port, port)}) for port in published)


def _number(address: IPv4Address) -> tuple[int, int]:
    return int(address), int(address)


def _speaks(r: Rule, name: str) -> bool:
    return any(isinstance(s, Condition) and name in s.fields for s in r.steps)


def _allows(r: Rule, way: Mapping[str, Key]) -> bool:
    return all(_holds(s, way) for s in r.steps if isinstance(s, Condition))


def _holds(c: Condition, way: Mapping[str, Key]) -> bool:
    known = [(n, way[name]) for n, name in enumerate(c.fields) if name in way]
    if not known:
        return True
    hit = any(all(fits(value, key[n]) is not False for n, value in known) for key in c.keys)
    return hit != c.negated if len(c.fields) == 1 else hit or c.negated
