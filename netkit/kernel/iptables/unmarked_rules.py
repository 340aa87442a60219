"""Find and delete unmarked rules that do not belong where they are: see `strays`.

nf_tables knows each rule by its handle, so one that iptables cannot read any more ("table `nat' is
incompatible") is removed all the same.  In legacy tables a rule is known by its text.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.chains import Chains
from netkit.kernel.iptables.tools import TABLES, Tools, installed
from netkit.kernel.iptables.unmarked import Judge, Line, plain, printed, saved
from netkit.kernel.netlink import rtnl
from netkit.kernel.nftables.run import Nft
from netkit.kernel.session import Session
from netkit.model import HOST, Key, Stray
from netkit.model.layout import Territory
from netkit.reconcile.plan import Op

TRIES = 3  # another tool changed rules between looking and removing
IPV4 = 4

log = logging.getLogger(__name__)
Read = Callable[[str], Chains]  # all chains of a table


class StrayRules:
    """Of one namespace, in chains of the territory."""

    def __init__(self, home: str, territory: Territory) -> None:
        self._nft = Nft(home)
        self._territory = territory
        self._listed: dict[tuple[str, str], tuple[int, list[str]]] = {}  # by generation
        self._owner = ""  # what the last look called them

    def owned(
        self, session: Session, tools: Tools, read: Read, bridges: Collection[str], prefix: str
    ) -> dict[Key, Stray]:
        """Find strays; `bridges` are those that rules with our mark are about."""
        lines = [line for table in TABLES for line in self._lines(session, tools, table, read)]
        if not lines:
            return {}
        links = [*map(rtnl.seen_link, session.netlink(HOST).dump(rtnl.all_links()))]
        ours = {*bridges, *(k.name for k in links if k.alias.startswith(prefix))}
        judge = Judge(self._territory, {k.name for k in links}, ours)
        keyed, self._owner = _numbered(lines), f"{prefix}stray"
        found = (_stray(k, keyed[id(k)], self._owner) for k in judge.strays(lines))
        return {r.key: r for r in found}

    def observe(
        self, session: Session, tools: Tools, read: Read, keys: Iterable[Key]
    ) -> dict[Key, Stray]:
        """Return those of what `owned` found that still exist."""
        wanted = {(key[2], key[3], key[4]): key for key in keys}
        tables = sorted({table for table, _, _ in wanted})
        lines = [line for table in tables for line in self._lines(session, tools, table, read)]
        keyed = _numbered(lines)
        found = (k for k in lines if (k.table, k.chain, keyed[id(k)]) in wanted)
        return {r.key: r for r in (_stray(k, keyed[id(k)], self._owner) for k in found)}

    def remove(self, session: Session, tools: Tools, read: Read, ops: Sequence[Op]) -> None:
        """Delete the rules of all `ops`.  None is ever added back: it had no place there."""
        doomed = {op.before.key: op.before for op in ops if isinstance(op.before, Stray)}
        if not doomed:
            return
        for _ in range(TRIES):
            at = nft_compat.generation(session.nftables()) if tools.variant == "nft" else 0
            there = self.observe(session, tools, read, doomed)
            try:
                if tools.variant == "nft":
                    rules = [(r.table, r.chain, int(r.number)) for r in there.values()]
                    nft_compat.delete(session.nftables(), IPV4, at, rules)
                else:
                    tools.restore(IPV4, _script(there.values()))
                break
            except KernelError as e:
                if e.errno not in {errno.ERESTART, errno.EAGAIN, errno.ENOENT}:
                    raise
                changed = e
        else:
            raise changed
        for r in doomed.values():
            log.warning("removed a %s", r)

    def _lines(
        self, session: Session, tools: Tools, table: str, read: Read
    ) -> Iterator[Line]:
        """List rules of the chains that may hold ours, and hold foreign ones."""
        there = read(table)
        chains = [
            name
            for name, entries in there.items()
            if self._territory.covers(table, name) and any(e.owner is None for e in entries)
        ]
        if not chains:
            return
        if tools.variant == "legacy":
            yield from saved(table, there, chains)
            return
        if not installed("nft"):
            yield from _in_order(tools, table, there, chains)
            return
        at = nft_compat.generation(session.nftables())
        yield from printed(table, there, {c: self._text(table, c, at) for c in chains})

    def _text(self, table: str, chain: str, at: int) -> list[str]:
        known, lines = self._listed.get((table, chain), (None, []))
        if known != at:
            lines = self._nft.listing(table, chain)
            self._listed[table, chain] = at, lines
        return lines


def _in_order(
    tools: Tools, table: str, there: Chains, chains: Collection[str]
) -> Iterator[Line]:
    """As `iptables-nft-save` prints them, if it can."""
    specs: dict[str, list[str]] = {}
    for r in tools.save(IPV4, table).rules:
        specs.setdefault(r.chain, []).append(r.spec)
    for chain in chains:
        if len(there[chain]) == len(each := specs.get(chain, [])):
            for e, spec in zip(there[chain], each, strict=True):
                yield Line(table, chain, e, plain(spec))


def _numbered(lines: Iterable[Line]) -> dict[int, str]:
    """Identify each line (key: id()) in its chain: by its handle, or by its index among equals."""
    seen: Counter[tuple[str, str, str]] = Counter()
    out: dict[int, str] = {}
    for k in lines:
        place = (k.table, k.chain, k.entry.spec)
        seen[place] += 1
        text = hashlib.sha256(k.entry.spec.encode()).hexdigest()[:16]
        out[id(k)] = str(k.entry.handle) if k.entry.handle else f"{text}.{seen[place]}"
    return out


def _stray(k: Line, number: str, owner: str) -> Stray:
    text = k.entry.spec or k.text
    return Stray(table=k.table, chain=k.chain, number=number, text=text, owner=owner)


def _script(doomed: Iterable[Stray]) -> str:
    """Write the input of iptables-restore; of equal rules it deletes the first each time."""
    lines: list[str] = []
    for table in TABLES:
        here = [f"-D {r.chain} {r.text}" for r in doomed if r.table == table]
        lines += [f"*{table}", *here, "COMMIT"] if here else []
    return "".join(f"{line}\n" for line in lines)
