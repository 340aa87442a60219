"""Add or delete rules of iptables-nft in one nf_tables transaction, without the tool.

All or nothing, and only if no other tool changed a rule since the chains were read: the kernel
compares the generation.  What does not fit here is done by iptables-nft-restore: chains, changes
that add and delete, many rules, arguments that `expressions` does not know, a table that does not
exist yet.  Of what it did the rules that all packets of a flow pass are written once more here, in
the form of `expressions`, which takes the kernel less time for each packet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.chains import Chains, Entry, Place, comment_of, is_rule, position
from netkit.kernel.iptables.expressions import Expressions, encode
from netkit.kernel.iptables.nft_compat import NewRule
from netkit.kernel.netlink.codec import Netlink
from netkit.model import Rule
from netkit.reconcile.plan import Op

MOST = 64  # rules that are added; of more the tool needs less time for each
MOST_REWRITTEN = 1024


class Change(Protocol):
    @property
    def chains(self) -> Mapping[Place, set[str]]:
        """What `make` is to be shown, of one family."""
        ...

    def make(self, netlink: Netlink, at: int, there: Mapping[Place, Chains]) -> bool:
        """Make it, if `there` is still what the kernel has: generation `at`.  False: it was not."""
        ...


def removal(ops: Sequence[Op]) -> Change | None:
    """Of rules; None if there is more to do.  The steps are of one family."""
    doomed = [op.before for op in ops if isinstance(op.before, Rule) and op.after is None]
    return _Removal(tuple(doomed)) if len(doomed) == len(ops) else None


def addition(ops: Sequence[Op]) -> Change | None:
    """Of rules that can be written here; None if there is more to do.

    The steps are of one family.
    """
    if len(ops) > MOST:
        return None
    made: list[tuple[Rule, Expressions]] = []
    for op in ops:
        r = op.after
        if op.before is not None or not isinstance(r, Rule) or r.family != 4:
            return None
        written = encode(r.args, comment_of(r))
        if written is None:
            return None
        made.append((r, written))
    return _Addition(tuple(made))


def rewriting(ops: Sequence[Op]) -> Change | None:
    """Of rules that the tool has just added or moved; None if there is nothing to gain.

    The chains of nat see the first packet of a flow alone.  Where a rule is about a protocol, a
    comment behind that costs other packets nothing, and there may be thousands of ports.
    """
    made = [
        (r, written)
        for op in ops
        if isinstance(r := op.after, Rule)
        if r.family == 4 and r.table != "nat" and "-p" not in r.args
        if (written := encode(r.args, comment_of(r))) is not None and written.user_data
    ]
    return _Rewriting(tuple(made)) if 0 < len(made) <= MOST_REWRITTEN else None


@dataclass(frozen=True, slots=True)
class _Removal:
    doomed: Sequence[Rule]

    @property
    def chains(self) -> Mapping[Place, set[str]]:
        return _chains(self.doomed)

    def make(self, netlink: Netlink, at: int, there: Mapping[Place, Chains]) -> bool:
        here = {(r.family, r.table, r.chain, r.digest): r for r in self.doomed}
        handles = [
            (table, chain, e.handle)
            for (family, table), chains in sorted(there.items())
            for chain, entries in chains.items()
            for e in entries
            if (r := here.get((family, table, chain, e.digest))) and is_rule(e, r)
        ]
        try:
            if handles:
                nft_compat.delete(netlink, self.doomed[0].family, at, handles)
        except KernelError:  # rules have changed meanwhile; the tool reads them again
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Addition:
    made: Sequence[tuple[Rule, Expressions]]

    @property
    def chains(self) -> Mapping[Place, set[str]]:
        return _chains([r for r, _ in self.made])

    def make(self, netlink: Netlink, at: int, there: Mapping[Place, Chains]) -> bool:
        # By rank: so the place of each is before a rule that is there already, or at the end.
        made = sorted(self.made, key=lambda each: each[0].rank)
        new = [n for r, written in made if (n := _placed(r, written, there[r.family, r.table]))]
        try:
            if new:
                nft_compat.add(netlink, 4, at, new)
        except KernelError:  # they have changed meanwhile, or the tool has the better message
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Rewriting:
    made: Sequence[tuple[Rule, Expressions]]

    @property
    def chains(self) -> Mapping[Place, set[str]]:
        return _chains([r for r, _ in self.made])

    def make(self, netlink: Netlink, at: int, there: Mapping[Place, Chains]) -> bool:
        new = [
            NewRule(r.table, r.chain, written, replaces=e.handle)
            for r, written in self.made
            for e in there[r.family, r.table].get(r.chain, ())
            if is_rule(e, r)
        ]
        try:
            if new:
                nft_compat.add(netlink, 4, at, new)
        except KernelError:  # they have changed meanwhile
            return False
        return True


def _placed(r: Rule, written: Expressions, there: Chains) -> NewRule | None:
    """Return the rule and where it goes, which `there` is updated with; None if it is there."""
    entries = there.setdefault(r.chain, [])
    if any(e.digest == r.digest for e in entries):
        return None
    at = position(entries, r.rank)
    before = entries[at].handle if at < len(entries) else 0
    entries.insert(at, Entry(r.owner, r.digest, r.rank))
    return NewRule(r.table, r.chain, written, before)


def _chains(rules: Sequence[Rule]) -> Mapping[Place, set[str]]:
    out: dict[Place, set[str]] = {}
    for r in rules:
        out.setdefault((r.family, r.table), set()).add(r.chain)
    return out


__all__ = ["Change", "addition", "removal", "rewriting"]
