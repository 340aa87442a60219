"""Distinguish rules of ours that lost their mark from rules of other tools.  Pure.

`nft list ruleset >f; nft flush ruleset; nft -f f` (nftables.service) and a saved rule set without
comments bring our rules back without the comments by which we know them.

    a chain of ours alone    what has no mark does not belong, unless it is about links of another
                             engine whose chains have the same names (Docker 28)
    the chain that admits    is open to the administrator: a copy of a rule of ours that is there
                             with its comment; what names a bridge of a removed network;
                             what lets in translated packets as only we write it, and the
                             translation to that address and port.
    a built-in chain         (FORWARD, POSTROUTING, ...) is the administrator's: a copy of a rule of
                             ours that is there with its mark goes, and what is about a bridge of a
                             removed network in exactly the words in which we write it there.

    Anything else is the administrator's.

Rules are compared as one tool prints them: the same text is the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netkit.kernel.iptables.chains import Entry
from netkit.kernel.iptables.tools import BUILTIN
from netkit.model.layout import Territory

NETWORK = re.compile(r"br-[0-9a-f]{12}")  # the bridge of a network, unless it was given a name
LINK = re.compile(r'(?:-[io]|\b[io]ifname(?: !=)?) "?([^\s"]+)"?')
HANDLE = re.compile(r" # handle (\d+)$")
NOISE = re.compile(r'\bcounter(?: packets \d+ bytes \d+)?|(?:-m comment --)?\bcomment "[^"]*"')

# What nft prints of a rule first; versions of iptables write it in different orders.
SELECTOR = re.compile(
    r'(iifname|oifname|meta l4proto|ip protocol|ip saddr|ip daddr)((?: !=)? (?:"[^"]*"|[^\s{"]+)) '
)
HEAD = re.compile(rf"(?:{SELECTOR.pattern})*")
ORDER = ("iifname", "oifname", "meta l4proto", "ip saddr", "ip daddr")


@dataclass(frozen=True, slots=True)
class Line:
    """A rule in its chain, as the tool prints it."""

    table: str
    chain: str
    entry: Entry
    text: str

    @property
    def links(self) -> set[str]:
        return set(LINK.findall(self.text))


def plain(text: str) -> str:
    """Return the rule without comment, counters and handle; its first matches in one order."""
    text = " ".join(NOISE.sub("", HANDLE.sub("", text)).split())
    head = HEAD.match(text)
    assert head is not None
    found = [(k.replace("ip protocol", ORDER[2]), value) for k, value in SELECTOR.findall(head[0])]
    found.sort(key=lambda each: ORDER.index(each[0]))
    return "".join(f"{k}{value} " for k, value in found) + text[head.end() :]


@dataclass(slots=True)
class Judge:
    """`links` are the interfaces of the host, `bridges` those that rules of ours are about."""

    territory: Territory
    links: Collection[str]
    bridges: Collection[str]
    _admitted: set[tuple[str, str, str]] = field(default_factory=set)  # address, protocol, ports

    def strays(self, lines: Sequence[Line]) -> Iterator[Line]:
        """Return those of `lines` that do not belong where they are."""
        marked = {(k.table, k.chain, k.text) for k in lines if k.entry.owner is not None}
        foreign = [k for k in lines if k.entry.owner is None]
        shared = any(self._elsewhere(k) for k in foreign if self._alone(k))
        late: list[Line] = []
        for k in foreign:
            if self._elsewhere(k) or (shared and not k.links and self._led(k)):
                continue
            copy = (k.table, k.chain, k.text) in marked
            if self._alone(k) or copy or self._of_gone(k) or self._admission(k):
                yield k
            elif k.table == "nat" and not _built_in(k):
                late.append(k)
        yield from (k for k in late if self._translation(k))

    def _alone(self, k: Line) -> bool:
        return self.territory.is_alone(k.table, k.chain)

    def _led(self, k: Line) -> bool:
        """To a chain that another engine has, too."""
        names = self.territory.names
        return bool(names) and (k.entry.target or "").startswith(names)

    def _elsewhere(self, k: Line) -> bool:
        """About links that are there, and of which none is ours."""
        names = k.links
        return bool(names & set(self.links) - set(self.bridges)) and not names & set(self.bridges)

    def _of_gone(self, k: Line) -> bool:
        """About the bridge of a network that is no more, or in a chain of an endpoint."""
        trees = self.territory.trees
        known = self.territory.built_in.get(_at(k), ())
        if _built_in(k) and not any(p.fullmatch(k.text) for p in known):
            return False
        if trees and (k.entry.target or "").startswith(trees):
            return True
        gone = {n for n in k.links if NETWORK.fullmatch(n) and n not in self.links}
        return bool(gone) and k.links <= gone | set(self.bridges)

    def _admission(self, k: Line) -> bool:
        found = next(filter(None, (p.fullmatch(k.text) for p in self.territory.admission)), None)
        misplaced = _at(k) != self.territory.admits
        if misplaced or found is None or found["br"] not in self.bridges:
            return False
        self._admitted.add((found["ip"], found["proto"], found["ports"]))
        return True

    def _translation(self, k: Line) -> bool:
        """To a port that a rule without a mark lets in; of a range, the ports are the same."""
        found = next(filter(None, (p.fullmatch(k.text) for p in self.territory.translation)), None)
        if found is None:
            return False
        ip, _, port = found["to"].partition(":")
        low, high = _span(port or found["ports"])
        admitted = (_span(ports) for at, proto, ports in self._admitted
                    if (at, proto) == (ip, found["proto"]))  # fmt: skip
        return any(first <= low and high <= last for first, last in admitted)


def _span(ports: str) -> tuple[int, int]:
    """Of `80`, `80:90` or `80-90`; none for anything else."""
    first, last = (re.split("[:-]", ports) * 2)[:2]
    return (int(first), int(last)) if first.isdecimal() and last.isdecimal() else (1, 0)


def _at(k: Line) -> tuple[str, str]:
    return k.table, k.chain


def _built_in(k: Line) -> bool:
    return k.chain in BUILTIN[k.table]


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
