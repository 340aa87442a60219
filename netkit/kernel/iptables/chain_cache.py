"""Chains of iptables-nft as they were last read, for as long as the kernel says so.

nf_tables has a generation, which grows with each transaction of any tool.  What was read at the
kernel's generation of now is what it has now.  A transaction of ours that required generation G
led to G + 1, and to nothing but what is in it: chains that it does not touch are as they were at G.
Source: net/netfilter/nf_tables_api.c, nf_tables_valid_genid, nf_tables_commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.chains import Chains, Entry, Place, from_netlink
from netkit.kernel.iptables.tools import BUILTIN
from netkit.kernel.netlink.codec import Netlink

MANY = 16  # chains: more are read faster with the whole table
WRAP = 1 << 32  # the generation is of 32 bits, and never 0


@dataclass(frozen=True, slots=True)
class _Table:
    generation: int
    chains: Mapping[str, list[Entry]] = field(default_factory=dict)  # those that were read
    names: frozenset[str] | None = None  # of all its chains; None: they were not listed


class ChainCache:
    """Of one namespace.  Thread-safe: tables are replaced, never changed."""

    def __init__(self) -> None:
        self._tables: dict[Place, _Table] = {}

    def read(
        self, netlink: Netlink, place: Place, names: Collection[str] | None, now: int
    ) -> Chains:
        """Return some chains of a table, or all; and the names of its other chains, without rules.

        `now` is the generation that the kernel had a moment ago.  The result is the caller's.
        """
        table = self._tables.get(place)
        if table is None or table.generation != now:
            table = _Table(now)
        if names is None or len(names) > MANY:
            self._tables[place] = table = _complete(netlink, place, table)
            return {name: list(entries) for name, entries in table.chains.items()}
        table = _with(netlink, place, table, names)
        others: frozenset[str] = frozenset()
        if any(n not in table.chains and n not in BUILTIN[place[1]] for n in names):
            table = _listed(netlink, place, table)
            others = table.names or others
        self._tables[place] = table
        out = {name: list(table.chains[name]) for name in names if name in table.chains}
        return out | {name: [] for name in others if name not in out}

    def changed(self, at: int, chains: Mapping[Place, Collection[str]]) -> None:
        """A transaction of ours at generation `at` changed the rules of these chains alone."""
        for place, table in self._tables.copy().items():
            if table.generation == at:
                touched = chains.get(place, ())
                left = {name: e for name, e in table.chains.items() if name not in touched}
                self._tables[place] = _Table((at + 1) % WRAP or 1, left, table.names)


def _read(netlink: Netlink, place: Place, chain: str | None = None) -> Chains:
    """Read a chain, or the whole table.

    `nft -f` of a listing keeps our comments, but writes rules that iptables cannot list, nor the
    table that they are in.  To us these are copies without our mark.
    """
    found = nft_compat.rules(netlink, *place, chain)
    return from_netlink([replace(r, comment=b"") if r.native else r for r in found])


def _complete(netlink: Netlink, place: Place, table: _Table) -> _Table:
    """The table with all its chains."""
    if table.names is not None and len(table.names - table.chains.keys()) <= MANY:
        return _with(netlink, place, table, table.names)
    found = _read(netlink, place)
    table = _listed(netlink, place, table)
    assert table.names is not None
    return replace(table, chains={**{name: [] for name in table.names}, **found})


def _with(netlink: Netlink, place: Place, table: _Table, names: Iterable[str]) -> _Table:
    """The table with these chains, as far as they exist, and have rules or are known to exist."""
    found: Chains = {}
    for name in sorted(names):
        if name not in table.chains and (table.names is None or name in table.names):
            found |= {name: []} if table.names is not None else {}
            found |= _read(netlink, place, name)
    return replace(table, chains={**table.chains, **found}) if found else table


def _listed(netlink: Netlink, place: Place, table: _Table) -> _Table:
    """The table with the names of all its chains."""
    if table.names is not None:
        return table
    return replace(table, names=frozenset(nft_compat.chains(netlink, *place)))


__all__ = ["ChainCache"]
