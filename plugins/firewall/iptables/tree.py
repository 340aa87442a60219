"""Arrange many rules in a tree by port number, so that a packet meets few of them.  Pure.

    DOCKER  --dport LOW:HIGH -j-> DOCKER-<endpoint>-tcp           all ports of one container
              --dport ... -g-> DOCKER-<endpoint>-tcp-8k           from 8 * 1024 on
                --dport ... -g-> DOCKER-<endpoint>-tcp-8192       the 128 ports from 8192 on

A node with few rules holds them itself.  A rule for a range that two children would share
stands in their parent, before the gotos: there are at most as many of those as children.
Whatever matches nothing returns to DOCKER, since only the first step is a jump.
A packet meets at most 64 + 16 + 128 rules of the tree and mostly far fewer, whatever its size.

In a tree, rules that differ in their ports alone are one for up to 15 of them (`multiport`): a
thousand ports that are let in are 70 to 130 rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from netkit.model import Chain, Resource
from plugins.firewall.iptables.layout import FIRST, PORT, SECOND, ports_match, rule, span

FEW = 16  # rules of one container in a chain that others use too, and in a node without children
BLOCK, LEAF = 1024, 128  # ports: 64 blocks, of 8 leaves each
SLOTS = 15  # ports that a multiport match can name; a range takes two (XT_MULTI_PORTS)
Span = tuple[int, int]  # first and last port


@dataclass(frozen=True, slots=True)
class PortRule:
    """A rule about some ports, in order; no packet matches two with different verdicts."""

    proto: str
    ports: tuple[Span, ...]
    head: str  # the arguments before the ports
    tail: str  # the arguments after them

    @property
    def first(self) -> int:
        return self.ports[0][0]

    @property
    def last(self) -> int:
        return self.ports[-1][1]

    @property
    def args(self) -> str:
        if len(self.ports) == 1:
            return f"{self.head}{ports_match(self.proto, *self.ports[0])}{self.tail}"
        listed = ",".join(span(*s) for s in self.ports)
        return f"{self.head}-p {self.proto} -m multiport --dports {listed}{self.tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """Where a tree grows: from which chain, for which packets, and how its chains are called."""

    owner: str
    table: str
    chain: str
    name: str  # of the tree's chains: with the protocol and port it has at most 28 characters
    match: str = ""  # what all its rules have in common
    multiport: bool = True  # the kernel can match a list of ports


def grown(trunk: Trunk, rules: Sequence[PortRule]) -> Iterator[Resource]:
    """Yield the rules, each once: in the chain itself if few, else in a tree of chains."""
    rules = [*dict.fromkeys(rules)]
    if len(rules) <= FEW:
        for r in rules:
            yield rule(trunk.owner, trunk.table, trunk.chain, r.args, PORT)
        return
    for proto in sorted({r.proto for r in rules}):
        mine = [r for r in rules if r.proto == proto]
        mine = sorted(_packed(mine) if trunk.multiport else mine, key=attrgetter("first", "last"))
        root = f"{trunk.name}{proto}"
        match = f"{trunk.match} {_reach(proto, mine)}"
        yield rule(trunk.owner, trunk.table, trunk.chain, f"{match} -j {root}", PORT)
        yield from _node(trunk, root, root, mine, (BLOCK, LEAF))


def _node(
    trunk: Trunk, root: str, name: str, rules: Sequence[PortRule], sizes: Sequence[int]
) -> Iterator[Resource]:
    yield Chain(table=trunk.table, name=name, owner=trunk.owner)
    if len(rules) <= FEW or not sizes:
        for r in rules:
            yield rule(trunk.owner, trunk.table, name, r.args, FIRST)
        return
    size, *smaller = sizes
    children: dict[int, list[PortRule]] = {}
    for r in rules:
        if r.first // size == r.last // size:
            children.setdefault(r.first // size, []).append(r)
        else:
            yield rule(trunk.owner, trunk.table, name, r.args, FIRST)
    for n, below in children.items():
        child = f"{root}-{n}k" if size == BLOCK else f"{root}-{n * size}"
        goto = f"{_reach(below[0].proto, below)} -g {child}"
        yield rule(trunk.owner, trunk.table, name, goto, SECOND)
        yield from _node(trunk, root, child, below, smaller)


def _packed(rules: Iterable[PortRule]) -> Iterator[PortRule]:
    """Merge rules that match the same; each within one block, so that none belongs above it."""
    alike: dict[tuple[str, str], list[PortRule]] = {}
    for r in rules:
        alike.setdefault((r.head, r.tail), []).append(r)
    for (head, tail), group in alike.items():
        row: list[Span] = []
        used = 0
        for s in sorted(s for r in group for s in r.ports):
            slots = 1 if s[0] == s[1] else 2
            if used + slots > SLOTS or (row and row[0][0] // BLOCK != s[1] // BLOCK):
                yield PortRule(group[0].proto, tuple(row), head, tail)
                row, used = [], 0
            row.append(s)
            used += slots
        yield PortRule(group[0].proto, tuple(row), head, tail)


def _reach(proto: str, rules: Sequence[PortRule]) -> str:
    """Return a match for the ports from the lowest of the rules to their highest."""
    return ports_match(proto, min(r.first for r in rules), max(r.last for r in rules))
