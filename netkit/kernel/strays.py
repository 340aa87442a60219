"""Distinguish rules of ours that lost their mark from rules of other tools.  Pure.

`nft list ruleset >f; nft flush ruleset; nft -f f` (nftables.service) and a saved rule set without
comments bring our rules back without the comments by which we know them.

    a chain of ours alone    what has no mark does not belong, unless it is about links of another
                             engine whose chains have the same names (Docker 28)
    an open chain            (DOCKER, FORWARD, ...) a copy of a rule of ours that is there with its
                             mark; what is about a bridge of a network that is gone; what lets in
                             translated packets as only we write it, and the translation to there.
                             Anything else is the administrator's.

Rules are compared as one tool prints them: the same text is the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netkit.kernel.chains import Entry

NETWORK = re.compile(r"br-[0-9a-f]{12}")  # the bridge of a network, unless it was given a name
LINK = re.compile(r'(?:-[io]|\b[io]ifname(?: !=)?) "?([^\s"]+)"?')
HANDLE = re.compile(r" # handle (\d+)$")
NOISE = re.compile(r'\bcounter(?: packets \d+ bytes \d+)?|(?:-m comment --)?\bcomment "[^"]*"')
ADMISSION = (  # what `plugins.firewall.ports` lets in; of nft and of iptables-save
    re.compile(
        r'iifname != "(?P<br>[^"]+)" oifname "(?P=br)" ip daddr (?P<ip>[\d.]+) '
        r"(?P<proto>\w+) dport (?P<ports>\S+) ct status dnat accept"
    ),
    re.compile(
        r"-d (?P<ip>[\d.]+)/32 ! -i (?P<br>\S+) -o (?P=br) -p (?P<proto>\w+) -m \w+ "
        r"--dport (?P<ports>\S+) -m conntrack --ctstate DNAT -j ACCEPT"
    ),
)
TRANSLATION = (
    re.compile(r"(?:ip daddr \S+ )?(?P<proto>\w+) dport (?P<ports>\S+) dnat to (?P<to>[\d.:]+)"),
    re.compile(
        r"(?:-d \S+ )?-p (?P<proto>\w+) -m \w+ --dport (?P<ports>\S+) "
        r"-j DNAT --to-destination (?P<to>[\d.:]+)"
    ),
)


@dataclass(frozen=True, slots=True)
class Territory:
    """Which chains are ours alone, and in which open ones rules of ours stand: (table, chain)."""

    alone: frozenset[tuple[str, str]] = frozenset()
    open: frozenset[tuple[str, str]] = frozenset()
    trees: tuple[str, ...] = ()  # beginnings of the names of other chains of ours alone

    def is_alone(self, table: str, chain: str) -> bool:
        return (table, chain) in self.alone or bool(self.trees and chain.startswith(self.trees))

    def covers(self, table: str, chain: str) -> bool:
        return (table, chain) in self.open or self.is_alone(table, chain)


@dataclass(frozen=True, slots=True)
class Line:
    """A rule where it stands, as the tool prints it."""

    table: str
    chain: str
    entry: Entry
    text: str

    @property
    def links(self) -> set[str]:
        return set(LINK.findall(self.text))


def plain(text: str) -> str:
    """Without comment, counters and handle, which are no part of what a rule does."""
    return " ".join(NOISE.sub("", HANDLE.sub("", text)).split())


@dataclass(slots=True)
class Judge:
    """`links` are the interfaces of the host, `bridges` those that rules of ours are about."""

    territory: Territory
    links: Collection[str]
    bridges: Collection[str]
    _admitted: set[tuple[str, str]] = field(default_factory=set)  # address, protocol

    def strays(self, lines: Sequence[Line]) -> Iterator[Line]:
        """Those of `lines` that have no place where they stand."""
        marked = {(k.table, k.chain, k.text) for k in lines if k.entry.owner is not None}
        foreign = [k for k in lines if k.entry.owner is None]
        shared = any(self._elsewhere(k) for k in foreign if self._alone(k))
        late: list[Line] = []
        for k in foreign:
            if self._elsewhere(k) or (shared and not k.links and _led(k)):
                continue
            copy = (k.table, k.chain, k.text) in marked
            if self._alone(k) or copy or self._of_gone(k) or self._admission(k):
                yield k
            elif k.table == "nat":
                late.append(k)
        yield from (k for k in late if self._translation(k))

    def _alone(self, k: Line) -> bool:
        return self.territory.is_alone(k.table, k.chain)

    def _elsewhere(self, k: Line) -> bool:
        """About links that are there, and of which none is ours."""
        names = k.links
        return bool(names & set(self.links) - set(self.bridges)) and not names & set(self.bridges)

    def _of_gone(self, k: Line) -> bool:
        """About the bridge of a network that is no more, or in a chain of an endpoint."""
        trees = self.territory.trees
        if trees and (k.entry.target or "").startswith(trees):
            return True
        gone = {n for n in k.links if NETWORK.fullmatch(n) and n not in self.links}
        return bool(gone) and k.links <= gone | set(self.bridges)

    def _admission(self, k: Line) -> bool:
        found = next(filter(None, (p.fullmatch(k.text) for p in ADMISSION)), None)
        if k.table != "filter" or found is None or found["br"] not in self.bridges:
            return False
        self._admitted.add((found["ip"], found["proto"]))
        return True

    def _translation(self, k: Line) -> bool:
        found = next(filter(None, (p.fullmatch(k.text) for p in TRANSLATION)), None)
        return (
            found is not None and (found["to"].partition(":")[0], found["proto"]) in self._admitted
        )


def _led(k: Line) -> bool:
    """To a chain that another engine has, too."""
    return (k.entry.target or "").startswith("DOCKER")


def printed(
    table: str, entries: Mapping[str, Sequence[Entry]], texts: Mapping[str, Iterable[str]]
) -> list[Line]:
    """The rules of some chains as nft lists them, each with its handle."""
    out: list[Line] = []
    for chain, lines in texts.items():
        by_handle = {e.handle: e for e in entries.get(chain, ())}
        for text in lines:
            if (found := HANDLE.search(text)) and (e := by_handle.get(int(found[1]))):
                out.append(Line(table, chain, e, plain(text)))
    return out


def saved(table: str, entries: Mapping[str, Sequence[Entry]], chains: Iterable[str]) -> list[Line]:
    """The rules of some chains as iptables-save printed them."""
    return [Line(table, c, e, plain(e.spec)) for c in chains for e in entries.get(c, ())]
