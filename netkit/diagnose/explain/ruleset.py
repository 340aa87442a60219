"""A live rule set as values, whichever tool it came from: iptables of either variant, or nft.

A rule is a row of steps, looked at from left to right: conditions, and what it does.  What we
cannot evaluate is a `Mystery`; the caller decides how to treat it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address
from typing import Literal, NamedTuple, Protocol

from netkit.diagnose.explain.packet import ECHO_REPLY, ECHO_REQUEST, Packet, Span

Key = Span | str | frozenset[str]  # numbers from-to, an interface (nk*), any of these words
Hook = Literal["prerouting", "input", "forward", "output", "postrouting"]
Kind = Literal[
    "accept", "drop", "reject", "return", "jump", "goto",
    "dnat", "snat", "masquerade", "redirect",
    "mark", "untrack", "pass",
]  # fmt: skip
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}


class World(Protocol):
    """What a rule may ask about besides the packet."""

    def address_type(self, address: IPv4Address) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    """Where a translation leads; None and (0, 0) leave address or port as they are."""

    addresses: tuple[IPv4Address, IPv4Address] | None = None
    ports: Span = (0, 0)
    base: int = 0  # with one, ports are shifted: ports[0] + (port - base)
    same: bool = False  # persistent or random choice among several: we cannot predict which


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    kind: Kind
    chain: str = ""  # of jump and goto
    to: To = To()
    mark: tuple[int, int] = (0, 0)  # value, mask of bits that are set anew
    entry: str = ""  # the element of a map with this verdict
    comment: str = ""  # and that element's comment


class Element(NamedTuple):
    """An element of a named set or map in words, and its comment."""

    words: str = ""
    comment: str = ""


class Found(NamedTuple):
    """What a map says of a packet, and whether that is certain."""

    verdict: Verdict | None
    certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Does one of `keys` fit the packet's `fields`?  An answer None: it depends.

    `elements` are the elements of a named set, one for each key.
    """

    fields: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...]
    negated: bool = False
    elements: tuple[Element, ...] = ()

    def element(self, packet: Packet, world: World) -> Element:
        """The one that fits, of a named set."""
        values = [_value(f, packet, world) for f in self.fields]
        hits = (t for key, t in zip(self.keys, self.elements, strict=False) if _fit(values, key))
        return next(hits, Element())

    def holds(self, packet: Packet, world: World) -> bool | None:
        if len(self.keys) == 1 == len(self.fields):  # most are; a rule set has thousands
            found = fits(_value(self.fields[0], packet, world), self.keys[0][0])
        else:
            values = [_value(f, packet, world) for f in self.fields]
            found = _any(_fit(values, key) for key in self.keys)
        return found if found is None else found != self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What to do is looked up by the packet's fields; nothing found ends the rule."""

    fields: tuple[str, ...]
    entries: tuple[tuple[tuple[Key, ...], Verdict], ...]

    def find(self, packet: Packet, world: World) -> Found:
        values = [_value(f, packet, world) for f in self.fields]
        for key, verdict in self.entries:
            hit = _fit(values, key)
            if hit or hit is None:
                return Found(verdict, hit is True)
        return Found(None, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mystery:
    """A condition, or with `acts` an action, that we do not know how to evaluate."""

    text: str
    acts: bool = False


Step = Condition | Lookup | Verdict | Mystery


@dataclass(frozen=True, kw_only=True)
class Rule:
    tool: str  # iptables-nft, iptables-legacy or nft
    table: str
    chain: str
    number: int  # from 1, as `iptables -L --line-numbers` counts
    text: str  # verbatim
    comment: str = ""
    steps: tuple[Step, ...] = ()
    handle: int = 0  # of nft: by which `nft delete rule` knows it

    @cached_property
    def harmless(self) -> bool:
        """Whether it matches makes no difference to the packet, e.g. it logs."""
        acts = [s for s in self.steps if not isinstance(s, Condition)]
        return all(
            (isinstance(s, Verdict) and s.kind == "pass") or (isinstance(s, Mystery) and not s.acts)
            for s in acts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`hook` is None for a chain that only others jump to."""

    tool: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None
    priority: int = 0
    policy: Literal["accept", "drop"] = "accept"
    nat: bool = False


@dataclass(frozen=True)
class RuleSet:
    chains: Mapping[tuple[str, str, str], Chain] = field(default_factory=dict)

    @classmethod
    def of(cls, chains: Iterable[Chain]) -> RuleSet:
        return cls({(c.tool, c.table, c.name): c for c in chains})

    def chain(self, near: Chain, name: str) -> Chain | None:
        """The chain of that name in the same table."""
        return self.chains.get((near.tool, near.table, name))

    def without(self, rule: Rule) -> RuleSet:
        """The same rules but for one; the others keep their numbers."""
        key = (rule.tool, rule.table, rule.chain)
        chain = self.chains[key]
        kept = tuple(r for r in chain.rules if r.number != rule.number)
        return RuleSet({**self.chains, key: replace(chain, rules=kept)})

    def without_table(self, table: str) -> RuleSet:
        """`table` with its family: "ip filter"."""
        return RuleSet({key: chain for key, chain in self.chains.items() if chain.table != table})

    @cached_property
    def hooked(self) -> Mapping[Hook, Sequence[Chain]]:
        """Base chains in the order in which the kernel asks them."""
        out: dict[Hook, list[Chain]] = {}
        for c in sorted(self.chains.values(), key=lambda c: c.priority):
            if c.hook is not None:
                out.setdefault(c.hook, []).append(c)
        return out

    def mentions(self, address: IPv4Address) -> bool:
        """Whether a rule matches this address in particular."""
        number = (int(address), int(address))
        return any(
            fits(number, k) for c in self.chains.values() for r in c.rules for k in _narrow(r)
        )


def fits(value: Key, key: Key) -> bool | None:
    if isinstance(value, tuple) and isinstance(key, tuple):
        (a, b), (c, d) = value, key
        return True if c <= a and b <= d else False if b < c or d < a else None
    if isinstance(value, str) and isinstance(key, str):
        return value.startswith(key[:-1]) if key.endswith(("+", "*")) else value == key
    if isinstance(value, frozenset) and isinstance(key, frozenset):
        return bool(value & key)
    return None


def _narrow(rule: Rule) -> Iterable[Key]:
    for s in rule.steps:
        if isinstance(s, Condition) and s.fields[0] in {"src", "dst", "original dst"}:
            yield from (k[0] for k in s.keys if k[0] != (0, 2**32 - 1))


def _fit(values: Sequence[Key], key: Sequence[Key]) -> bool | None:
    """All of the fields, each."""
    open_ = False
    for value, wanted in zip(values, key, strict=True):
        hit = fits(value, wanted)
        if hit is False:
            return False
        open_ = open_ or hit is None
    return None if open_ else True


def _any(answers: Iterable[bool | None]) -> bool | None:
    open_ = False
    for a in answers:
        if a:
            return True
        open_ = open_ or a is None
    return None if open_ else False


def _value(name: str, p: Packet, world: World) -> Key:
    """`name` may end in /MASK, in hexadecimal."""
    if plain := FIELDS.get(name):
        return plain(p, world)
    name, _, mask = name.partition("/")
    value = FIELDS[name](p, world)
    if not isinstance(value, tuple):
        return value
    bits = int(mask, 16)
    return value[0] & bits, value[1] & bits


def mac_number(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text.replace(":", "")), "big")


def _exactly(number: int) -> Span:
    return number, number


FIELDS: Mapping[str, Callable[[Packet, World], Key]] = {
    "src": lambda p, _: _exactly(int(p.ends.src)),
    "dst": lambda p, _: _exactly(int(p.ends.dst)),
    "sport": lambda p, _: p.ends.sport,
    "dport": lambda p, _: p.ends.dport,
    "original src": lambda p, _: _exactly(int(p.flow.original.src)),
    "original dst": lambda p, _: _exactly(int(p.flow.original.dst)),
    "original sport": lambda p, _: p.flow.original.sport,
    "original dport": lambda p, _: p.flow.original.dport,
    "mac": lambda p, _: _exactly(mac_number(p.mac)) if p.mac else (0, 2**48 - 1),
    "iif": lambda p, _: p.iif,
    "oif": lambda p, _: p.oif,
    "physin": lambda p, _: p.port,
    "proto": lambda p, _: _exactly(PROTOCOLS.get(p.proto, 255)),
    "ct": lambda p, _: p.flow.words,
    "ct direction": lambda p, _: frozenset({"reply" if p.flow.answer else "original"}),
    "nfproto": lambda p, _: frozenset({"ipv4"}),
    "src type": lambda p, world: frozenset({world.address_type(p.ends.src)}),
    "dst type": lambda p, world: frozenset({world.address_type(p.ends.dst)}),
    "mark": lambda p, _: _exactly(p.mark),
    "tcp flags": lambda p, _: _exactly(p.flags),
    "icmp type": lambda p, _: _exactly(ECHO_REPLY if p.flow.answer else ECHO_REQUEST),
}
