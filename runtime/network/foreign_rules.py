"""Find rules of other tools that may affect a container's packets.  Pure.

A rule is matched by addresses, interfaces and published ports; other conditions (source, state)
are not evaluated, since it is only shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from netkit.diagnose.explain.facts import LOOPBACK, Facts
from netkit.diagnose.explain.remedy import removal
from netkit.diagnose.explain.ruleset import (
    PROTOCOLS,
    Chain,
    Condition,
    Hook,
    Key,
    Lookup,
    Mystery,
    Rule,
    RuleSet,
    Step,
    Verdict,
    fits,
)
from netkit.diagnose.explain.saved import iptables

OURS = "netkit:"
LEADS, ENDS = frozenset({"dnat", "redirect"}), frozenset({"accept", "return"})
UNTRACKS = frozenset({"untrack"})
DECIDES = frozenset({"accept", "drop", "reject", "dnat", "redirect", "untrack"})
POINTS: tuple[Hook, ...] = ("prerouting", "forward")


@dataclass(frozen=True, slots=True)
class Home:
    """A container's address, and the bridge it is connected to."""

    address: IPv4Address
    link: str


def concerning(
    rules: RuleSet,
    homes: Sequence[Home],
    published: Collection[int],
    missing: Collection[Meaning] = (),
) -> list[dict[str, object]]:
    """Rules that affect packets to or from `homes`, in the order of evaluation.

    `Lost`: it is equal to a rule of netkit's that is `missing`, and lost its comment.
    """
    found = [
        {
            "Tool": r.tool,
            "Table": r.table,
            "Chain": r.chain,
            "Number": r.number,
            "Text": r.text,
            "Lost": meaning(r) in missing,
        }
        for point in POINTS
        for chain in _reached(rules, rules.hooked.get(point, ()))
        for r in chain.rules
        if not r.comment.startswith(OURS) and _decides(r, chain)
        if (_forwarded(r, homes) if point == "forward" else _arriving(r, homes, published))
    ]
    # Once each: a chain may be reached from several hooks.
    return list({(f["Tool"], f["Table"], f["Chain"], f["Number"]): f for f in found}.values())


Meaning = tuple[str, str, frozenset[object], tuple[object, ...]]


def meaning(r: Rule) -> Meaning:
    """Normal form of a rule, to compare rules that different tools print differently."""
    conditions = frozenset(
        (s.fields, frozenset(s.keys), s.negated) if isinstance(s, Condition) else s
        for s in r.steps
        if isinstance(s, Condition | Lookup) or (isinstance(s, Mystery) and not s.acts)
    )
    acts = [s for s in r.steps if isinstance(s, Verdict) and s.kind != "pass"]
    does = tuple((s.kind, s.chain, s.to) for s in acts)
    return r.table.removeprefix("ip "), r.chain, conditions, does


def written(table: str, chain: str, args: Sequence[str]) -> list[Meaning]:
    """Normal form of a rule of netkit's, from its arguments to iptables."""
    text = f"*{table}\n:{chain} - [0:0]\n-A {chain} {' '.join(args)}\nCOMMIT\n"
    return [meaning(r) for c in iptables("iptables-nft", text) for r in c.rules]


def _reached(rules: RuleSet, chains: Iterable[Chain]) -> Iterator[Chain]:
    """Yield each chain once: base chains first, then those they jump to."""
    todo, seen = list(chains), set[tuple[str, str, str]]()
    while todo:
        chain = todo.pop(0)
        if (key := (chain.tool, chain.table, chain.name)) in seen:
            continue
        seen.add(key)
        yield chain
        steps = (s for r in chain.rules for s in r.steps if isinstance(s, Verdict) and s.chain)
        todo += [below for s in steps if (below := rules.chain(chain, s.chain)) is not None]


def _decides(r: Rule, chain: Chain) -> bool:
    """Does the rule have a verdict?  RETURN in a base chain ends the chain, and so counts."""
    kinds = DECIDES | {"return"} if chain.hook is not None else DECIDES
    return any(
        s.kind in kinds if isinstance(s, Verdict) else isinstance(s, Mystery) and s.acts
        for s in r.steps
    )


def _forwarded(r: Rule, homes: Iterable[Home]) -> bool:
    """Can it match packets forwarded to a container, or names it packets from there?"""
    comes = _speaks(r, "src") or _speaks(r, "iif")
    return any(
        _allows(r, {"dst": _number(h.address), "oif": h.link})
        or (comes and _allows(r, {"src": _number(h.address), "iif": h.link}))
        for h in homes
    )


def _arriving(r: Rule, homes: Sequence[Home], published: Collection[int]) -> bool:
    """Can it match packets to a container, or to a published port of the host?"""
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


@dataclass(frozen=True, slots=True)
class Port:
    """A published port of the host."""

    container: str
    proto: str
    ip: str  # "" or 0.0.0.0: every address of the host
    number: int
    to: str = ""  # the container's address: a rule that translates to it does no harm


def taking(facts: Facts, ports: Iterable[Port]) -> list[str]:
    """Rules of other tools by which a published port may not reach netkit's translation.

    In the chain of netkit's own jump, what is before it and ends the chain (ACCEPT, RETURN) or
    translates; in other chains only what translates, as the kernel goes on with the next one
    (net/netfilter/nf_nat_core.c, nf_nat_inet_fn); and in raw what keeps a flow from translation.
    """
    early = list(_before(facts.rules))
    local = [a for a in facts.local if a not in LOOPBACK]
    out = []
    for port in ports:
        own = [IPv4Address(port.ip)] if port.ip not in {"", "0.0.0.0"} else local
        number = (port.number, port.number)
        proto = (PROTOCOLS.get(port.proto, 255),) * 2
        for r in early:
            if not _meant(r) or _leads_to(r, port.to):
                continue
            way = {"dport": number, "proto": proto}
            if any(_allows(r, {**way, "dst": _number(a)}) for a in own):
                place = f"rule {r.number} of {r.table} {r.chain} ({r.tool})"
                out.append(
                    f"{place}, of another tool, may take port {port.number}/{port.proto} that is "
                    f"published for {port.container}: {r.text}: unless it is meant to, "
                    f"{removal(r.tool, r.table, r.chain, r.number, r.handle)}"
                )
    return out


def _leads_to(r: Rule, address: str) -> bool:
    here = (IPv4Address(address),) * 2 if address else None
    return any(isinstance(s, Verdict) and s.to.addresses == here for s in r.steps if here)


def _meant(r: Rule) -> bool:
    """Does it match ports explicitly, or all packets from any source?

    `-i virbr0 -j ACCEPT` is not reported, although it may match packets to a published port.
    """
    narrow = _speaks(r, "iif") or _speaks(r, "src") or any(isinstance(s, Mystery) for s in r.steps)
    return _speaks(r, "dport") or not narrow


def _before(rules: RuleSet) -> Iterator[Rule]:
    """Rules of other tools that an inbound packet meets before netkit's DNAT."""
    for base in rules.hooked.get("prerouting", ()):
        ours = any(r.comment.startswith(OURS) for r in base.rules)
        ends = LEADS | ENDS if base.nat and ours else LEADS if base.nat else UNTRACKS
        for r in base.rules:
            if base.nat and r.comment.startswith(OURS):
                break
            yield from _deciding(rules, base, r, ends, set())


def _deciding(
    rules: RuleSet, chain: Chain, r: Rule, ends: frozenset[str], seen: set[str]
) -> Iterator[Rule]:
    """Yield the rule, or those in chains it jumps to, if its verdict is one of `ends`."""
    if r.comment.startswith(OURS):
        return
    for s in r.steps:
        if isinstance(s, Verdict) and s.kind in ends and (s.kind != "return" or not seen):
            yield r
        below = rules.chain(chain, s.chain) if isinstance(s, Verdict) and s.chain else None
        if below is not None and below.name not in seen:
            for each in below.rules:
                for found in _deciding(rules, below, each, ends, seen | {below.name}):
                    yield replace(found, steps=(*_conditions(r), *found.steps))


def _conditions(r: Rule) -> list[Step]:
    return [s for s in r.steps if isinstance(s, Condition)]
