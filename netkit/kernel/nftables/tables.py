"""Read our nf_tables of one namespace; change many things in one transaction."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.chains import Entry, from_netlink, misplaced
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.nftables import read
from netkit.kernel.nftables.elements import element_requests
from netkit.kernel.nftables.run import Nft
from netkit.kernel.nftables.script import Place, write
from netkit.kernel.session import Session
from netkit.model import Key, Resource, changed
from netkit.model.nftables import (
    BY_HANDLE,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    NftTable,
    family_of,
    stray,
)
from netkit.reconcile.plan import Op

TYPES = frozenset({"nft-table", "nft-chain", "nft-set", "nft-element", "nft-rule"})
FAMILIES = {
    "ip": 4,
    "bridge": nft_compat.AF_BRIDGE,
}  # as netkit.kernel.iptables.nft_compat counts them
IN_LISTING = re.compile(r'^(.*) comment "[^"]*" # handle (\d+)$')
UNMARKED = re.compile(r"^(.*) # handle (\d+)$")


class Tables:
    """Nothing is asked about elements but those asked for, so that a change of one container
    costs the same beside 10 and beside 10,000 published ports."""

    def __init__(self, home: str = "") -> None:
        self._nft = Nft(home)
        self._texts: dict[Key, str] = {}  # of rules that were removed, see `_learn`
        self._lock = threading.Lock()

    def adapter(self) -> Adapter:
        return Adapter(
            types=(NftTable, NftChain, NftSet, NftElement, NftRule),
            kinds=TYPES,
            observe=self.observe,
            apply=self.apply,
            owned=self.owned,
            policy=True,
        )

    # -- observe -------------------------------------------------------------

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Those that exist; what has no mark has no owner, or `stray` in a table of ours."""
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
        around: set[Key] = {("nft-table", key[1]) for key in {*frame, *elements}}
        around |= {("nft-table", table) for table, _ in rules}
        there = read.frame(netlink, sorted({*frame, *elements, *around}))
        strays = _strays(r for r in there if isinstance(r, NftTable))
        seen: list[Resource] = [r for r in there if r.key in frame]
        sets = {s: elements[s.key] for s in there if isinstance(s, NftSet) and s.key in elements}
        seen += read.elements(netlink, sets)
        for place, digests in rules.items():
            found = _rules(netlink, place, strays.get(place[0], ""))
            seen += [r for r in found if r.digest in digests]
        return {r.key: r for r in (_claimed(r, strays) for r in seen)}

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        """Everything whose mark starts with `prefix`, in tables that bear a mark of netkit; and
        what has none, in tables whose own mark starts so.

        What is in a chain or set of another tool goes with that.
        """
        netlink = session.nftables()
        seen: list[Resource] = []
        for table in read.tables(netlink):
            if table.owner is None:
                continue
            strays = _strays([table]) if table.owner.startswith(prefix) else {}
            found: list[Resource] = [table]
            sets = read.sets(netlink, table.name)
            chains = read.chains(netlink, table.name)
            found += [*sets, *chains]
            found += (e for s in sets if s.owner for e in read.all_elements(netlink, s))
            for c in (c for c in chains if c.owner):
                found += self._readable(_rules(netlink, (c.table, c.name), strays.get(c.table, "")))
            seen += (_claimed(r, strays) for r in found)
        return {r.key: r for r in seen if (r.owner or "").startswith(prefix)}

    def _readable(self, rules: list[NftRule]) -> Iterator[NftRule]:
        """Those of another tool with their text, for people."""
        texts: dict[str, str] = {}
        for r in rules:
            if not r.digest.startswith(BY_HANDLE):
                yield r
                continue
            if not texts:
                listed = map(UNMARKED.match, self._nft.listing(r.table, r.chain))
                texts = {f"{BY_HANDLE}{m[2]}": m[1] for m in listed if m}
            yield replace(r, expression=texts.get(r.digest, ""))

    # -- apply ---------------------------------------------------------------

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one transaction, or KernelError and nothing of them.

        What another process did meanwhile is not done again, and rules are then placed anew.
        """
        netlink = session.nftables()
        with self._lock:
            if self._by_netlink(netlink, ops):
                return
            self._learn(netlink, ops)
            commands = self._commands(netlink, ops)
            try:
                self._run(commands)
            except KernelError as error:
                again = self._commands(netlink, self._left(session, ops))
                # The same commands on an unchanged ruleset would fail again, unless nft itself
                # broke down.
                if again == commands and error.errno != errno.EAGAIN:
                    raise
                self._run(again)

    def _by_netlink(self, netlink: Netlink, ops: Sequence[Op]) -> bool:
        """Whether it is done.  If not, nothing is, and nft is to do it or to say why not."""
        requests = element_requests(ops, self._sets(netlink, ops))
        return requests is not None and nft_compat.transact(netlink, requests).errno == 0

    def _run(self, commands: str) -> None:
        if commands:
            self._nft.apply(commands)

    def _commands(self, netlink: Netlink, ops: Sequence[Op]) -> str:
        chains = {(r.table, r.chain) for op in ops if isinstance(r := op.subject, NftRule)}
        there = {place: _entries(netlink, place) for place in sorted(chains)}
        return write(ops, self._sets(netlink, ops), there, self._text)

    def _sets(self, netlink: Netlink, ops: Sequence[Op]) -> dict[Place, NftSet]:
        """Those that exist of what `ops` put elements into."""
        subjects = [op.subject for op in ops]
        keys = {("nft-set", r.table, r.set) for r in subjects if isinstance(r, NftElement)}
        found = read.frame(netlink, sorted(keys))
        return {(s.table, s.name): s for s in found if isinstance(s, NftSet)}

    def _left(self, session: Session, ops: Sequence[Op]) -> list[Op]:
        """Return those of `ops` that are not in effect."""
        there = self.observe(session, [op.subject.key for op in ops])

        def waits(op: Op) -> bool:
            have = there.get(op.subject.key)
            if op.after is None or have is None:
                return (op.after is None) == (have is not None)
            return bool(changed(op.after, have))

        return [op for op in ops if waits(op)]

    def _learn(self, netlink: Netlink, ops: Sequence[Op]) -> None:
        """Read the texts of rules to delete that this process did not make: for an undo."""
        unknown = {
            (r.table, r.chain)
            for r in (op.before for op in ops if op.after is None)
            if isinstance(r, NftRule) and not r.expression and not r.digest.startswith(BY_HANDLE)
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
        text = r.expression or self._texts.get(r.key, "")
        if not text:
            raise KernelError(f"{r}: the text of the rule is not known any more")
        return text


def _entries(netlink: Netlink, place: Place) -> list[Entry]:
    (family, table), chain = family_of(place[0]), place[1]
    return from_netlink(nft_compat.rules(netlink, FAMILIES[family], table, chain)).get(chain, [])


def _strays(tables: Iterable[NftTable]) -> dict[str, str]:
    """By table, the owner of what has no mark there; of tables with a mark of netkit alone."""
    return {t.name: stray(t.owner) for t in tables if t.owner}


def _claimed(r: Resource, strays: Mapping[str, str]) -> Resource:
    """With an owner, if it stands in a table of ours and has none."""
    if isinstance(r, NftChain | NftSet | NftElement) and r.owner is None and r.table in strays:
        return replace(r, owner=strays[r.table])
    return r


def _rules(netlink: Netlink, place: Place, owner: str) -> list[NftRule]:
    """Ours; with an `owner` for them also those without a comment like ours."""
    table, chain = place
    entries = _entries(netlink, place)
    moved = misplaced(entries)
    return [
        NftRule(
            table=table,
            chain=chain,
            expression="",
            rank=e.rank,
            digest=e.digest or f"{BY_HANDLE}{e.handle}",
            owner=e.owner or owner,
            placed=not e.digest or e.digest not in moved,
        )
        for e in entries
        if e.owner or owner
    ]
