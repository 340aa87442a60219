"""The nf_tables of one namespace: what there is of ours, and one transaction for many changes."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterable, Sequence

from netkit.errors import KernelError
from netkit.kernel import nftables, nftread
from netkit.kernel.chains import Entry, from_netlink, misplaced
from netkit.kernel.netlink import Netlink
from netkit.kernel.nftlib import Nft
from netkit.kernel.nftscript import Place, write
from netkit.kernel.session import Session
from netkit.model import Key, Resource, changed
from netkit.nft import NftElement, NftRule, NftSet, family_of
from netkit.plan import Op

TYPES = frozenset({"nft-table", "nft-chain", "nft-set", "nft-element", "nft-rule"})
FAMILIES = {"ip": 4, "bridge": nftables.AF_BRIDGE}  # as netkit.kernel.nftables counts them
IN_LISTING = re.compile(r'^(.*) comment "[^"]*" # handle (\d+)$')


class Tables:
    """Nothing is asked about elements but those asked for, so that a change of one container
    costs the same beside 10 and beside 10,000 published ports."""

    def __init__(self, home: str = "") -> None:
        self._nft = Nft(home)
        self._texts: dict[Key, str] = {}  # of rules that were removed, see `_learn`
        self._lock = threading.Lock()

    # -- observe -------------------------------------------------------------

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Those that exist; what has no mark of ours is seen without an owner."""
        netlink = session.nftables()
        frame: set[Key] = set()
        elements: dict[Key, list[tuple[str, ...]]] = {}
        rules: dict[Place, set[str]] = {}
        for key in keys:
            match key:
                case ("nft-element", table, name, *at):
                    elements.setdefault(("nft-set", table, name), []).append(tuple(at))
                case ("nft-rule", table, name, digest):
                    rules.setdefault((table, name), set()).add(digest)
                case _:
                    frame.add(key)
        there = nftread.frame(netlink, sorted({*frame, *elements}))
        seen: list[Resource] = [r for r in there if r.key in frame]
        sets = {s: elements[s.key] for s in there if isinstance(s, NftSet) and s.key in elements}
        seen += nftread.elements(netlink, sets)
        for place, digests in rules.items():
            seen += [r for r in _rules(netlink, place) if r.digest in digests]
        return {r.key: r for r in seen}

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        """Everything whose mark starts with `prefix`, in tables that bear a mark of netkit."""
        netlink = session.nftables()
        seen: list[Resource] = []
        for table in nftread.tables(netlink):
            if table.owner is None:
                continue
            seen.append(table)
            sets = nftread.sets(netlink, table.name)
            chains = nftread.chains(netlink, table.name)
            seen += [*sets, *chains]
            seen += (e for s in sets for e in nftread.all_elements(netlink, s))
            seen += (r for c in chains for r in _rules(netlink, (c.table, c.name)))
        return {r.key: r for r in seen if (r.owner or "").startswith(prefix)}

    # -- apply ---------------------------------------------------------------

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one transaction, or KernelError and nothing of them.

        What somebody else did meanwhile need not be done again, and rules are then placed anew.
        """
        netlink = session.nftables()
        with self._lock:
            self._learn(netlink, ops)
            commands = self._commands(netlink, ops)
            try:
                self._run(commands)
            except KernelError as error:
                again = self._commands(netlink, self._left(session, ops))
                if again == commands and error.errno != errno.EAGAIN:
                    raise
                self._run(again)

    def _run(self, commands: str) -> None:
        if commands:
            self._nft.apply(commands)

    def _commands(self, netlink: Netlink, ops: Sequence[Op]) -> str:
        subjects = [op.subject for op in ops]
        sets = {("nft-set", r.table, r.set) for r in subjects if isinstance(r, NftElement)}
        chains = {(r.table, r.chain) for r in subjects if isinstance(r, NftRule)}
        found = nftread.frame(netlink, sorted(sets))
        known = {(s.table, s.name): s for s in found if isinstance(s, NftSet)}
        there = {place: _entries(netlink, place) for place in sorted(chains)}
        return write(ops, known, there, self._text)

    def _left(self, session: Session, ops: Sequence[Op]) -> list[Op]:
        """Those of `ops` that are not in effect."""
        there = self.observe(session, [op.subject.key for op in ops])

        def waits(op: Op) -> bool:
            have = there.get(op.subject.key)
            if op.after is None or have is None:
                return (op.after is None) == (have is not None)
            return bool(changed(op.after, have))

        return [op for op in ops if waits(op)]

    def _learn(self, netlink: Netlink, ops: Sequence[Op]) -> None:
        """The texts of rules that go and were never ours to make in this life: to undo it."""
        unknown = {
            (r.table, r.chain)
            for r in (op.before for op in ops if op.after is None)
            if isinstance(r, NftRule) and not r.text
        }
        for place in sorted(unknown):
            digests = {e.handle: e.digest for e in _entries(netlink, place) if e.owner}
            if not digests:
                continue
            for line in self._nft.listing(*place):
                found = IN_LISTING.match(line)
                if found and (digest := digests.get(int(found[2]))):
                    self._texts[("nft-rule", *place, digest)] = found[1]

    def _text(self, r: NftRule) -> str:
        text = r.text or self._texts.get(r.key, "")
        if not text:
            raise KernelError(f"{r}: what the rule said is not known any more")
        return text


def _entries(netlink: Netlink, place: Place) -> list[Entry]:
    (family, table), chain = family_of(place[0]), place[1]
    return from_netlink(nftables.rules(netlink, FAMILIES[family], table, chain)).get(chain, [])


def _rules(netlink: Netlink, place: Place) -> list[NftRule]:
    """Ours; foreign ones, without a comment like ours, are not told of."""
    table, chain = place
    entries = _entries(netlink, place)
    strays = misplaced(entries)
    return [
        NftRule(
            table=table,
            chain=chain,
            text="",
            rank=e.rank,
            digest=e.digest,
            owner=e.owner,
            placed=e.digest not in strays,
        )
        for e in entries
        if e.owner is not None
    ]
