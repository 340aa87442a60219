"""Read firewall chains and rules of one namespace; change many in one commit."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.firewall import detect_backend
from netkit.kernel.iptables import by_netlink, nft_compat
from netkit.kernel.iptables import tools as iptables
from netkit.kernel.iptables.chain_cache import ChainCache
from netkit.kernel.iptables.chains import (
    IN_TEXT,
    Chains,
    Entry,
    Place,
    from_save,
    is_rule,
    misplaced,
    without_comment,
)
from netkit.kernel.iptables.restore_input import Script, write
from netkit.kernel.iptables.tools import BUILTIN, RestoreFailed, Tools, Variant
from netkit.kernel.iptables.unmarked_rules import StrayRules
from netkit.kernel.session import Session
from netkit.model import Chain, Key, Resource, Rule, Stray
from netkit.model.layout import Territory
from netkit.reconcile.plan import Op

TRIES = 2  # another tool may insert a rule after positions were counted


class Rules:
    """The firewall of one namespace.

    `chains` are prefixes of names: such a chain without foreign rules in it or jumps to it
    is ours, observed with `owner` as its owner; any other is observed without one.  Rules that lost
    their comment are looked for in the chains of `territory`.  For `standby` see `iptables.Tools`.
    With `direct` rules of common forms are added by netlink, without the tool: `agreement`.
    """

    def __init__(
        self,
        home: str = "",
        variant: Variant | None = None,
        chains: tuple[str, ...] = (),
        owner: str | None = None,
        *,
        territory: Territory = Territory(),  # noqa: B008  a frozen value
        standby: bool = False,
        direct: bool = False,
    ) -> None:
        self._home = home
        self._direct = direct
        self._strays = StrayRules(home, territory)
        self._standby = standby
        self._forced: Variant | None = variant
        self._names = chains
        self._owner = owner
        self._tools: Tools | None = None
        self._cache = ChainCache()
        self._known: dict[tuple[Place, str], tuple[str, ...]] = {}  # arguments by digest

    @property
    def tools(self) -> Tools:
        if self._tools is None:
            variant = self._forced or detect_backend.variant(self._home)
            self._tools = Tools(variant, self._home, standby=self._standby)
        return self._tools

    def close(self) -> None:
        if self._tools is not None:
            self._tools.close()

    def adapters(self) -> tuple[Adapter, Adapter]:
        rules = Adapter(
            types=(Chain, Rule),
            kinds=frozenset({"chain", "rule"}),
            observe=self.observe,
            apply=self.apply,
            owned=self.owned,
            policy=True,
        )
        strays = Adapter(
            types=(Stray,),
            kinds=frozenset({"stray"}),
            observe=self.observe,
            apply=self.remove_strays,
            policy=True,
        )
        return rules, strays

    # -- observe -------------------------------------------------------------

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        chains: dict[Place, set[str]] = {}
        rules: dict[Place, dict[str, set[str]]] = {}
        keys = list(keys)
        for key in (k for k in keys if k[0] != "stray"):
            place = int(key[1]), key[2]
            if key[0] == "chain":
                chains.setdefault(place, set()).add(key[3])
            else:
                rules.setdefault(place, {}).setdefault(key[3], set()).add(key[4])
        out: dict[Key, Resource] = {}
        at = self._generation(session)
        if strays := [key for key in keys if key[0] == "stray"]:
            reader = partial(self._table, session)
            out |= self._strays.observe(session, self.tools, reader, strays)
        for place in sorted(chains.keys() | rules.keys()):
            names = rules.get(place, {})
            there = self._read(session, place, None if place in chains else names, at)
            theirs = _entered(there) if place in chains else frozenset()
            for name in sorted(chains.get(place, ())):
                if name in there or name in BUILTIN[place[1]]:
                    chain = self._chain(place, name, theirs)
                    out[chain.key] = chain
            for name in sorted(names):
                out |= self._rules(place, name, there, names[name].__contains__)
        return out

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        """Rules whose comment starts with `prefix`, our chains if their owner does, and strays."""
        out: dict[Key, Resource] = {}
        at = self._generation(session)
        for place in ((f, t) for f in (4, 6) for t in iptables.TABLES):
            there = self._read(session, place, None, at)
            theirs = _entered(there)
            for name in sorted(there):
                chain = self._chain(place, name, theirs)
                if (chain.owner or "").startswith(prefix):
                    out[chain.key] = chain
                rules = self._rules(place, name, there, lambda _: True)
                out |= {k: r for k, r in rules.items() if (r.owner or "").startswith(prefix)}
        named = [r.args for r in out.values() if isinstance(r, Rule)]
        bridges = {b for args in named for flag, b in pairwise(args) if flag == "-o"}
        reader = partial(self._table, session)
        return {**out, **self._strays.owned(session, self.tools, reader, bridges, prefix)}

    def _table(self, session: Session, name: str) -> Chains:
        return self._read(session, (4, name), None)

    def remove_strays(self, session: Session, ops: Sequence[Op]) -> None:
        self._strays.remove(session, self.tools, partial(self._table, session), ops)

    def _chain(self, place: Place, name: str, theirs: frozenset[str]) -> Chain:
        family, table = place
        named = name.startswith(self._names) and name not in BUILTIN[table]
        ours = self._names and named and name not in theirs
        return Chain(family=family, table=table, name=name, owner=self._owner if ours else None)

    def _rules(
        self, place: Place, name: str, there: Chains, wanted: Callable[[str], bool]
    ) -> dict[Key, Resource]:
        family, table = place
        out: dict[Key, Resource] = {}
        entries = there.get(name, [])
        strays = misplaced(entries)
        for e in entries:
            if e.owner is None or not wanted(e.digest):
                continue
            args = self._arguments(place, e)
            rule = Rule(
                family=family,
                table=table,
                chain=name,
                args=args,
                rank=e.rank,
                digest=e.digest,
                owner=e.owner,
                placed=e.digest not in strays,
            )
            out[rule.key] = rule
        return out

    def _arguments(self, place: Place, e: Entry) -> tuple[str, ...]:
        """Return arguments as given when we made it, or, after a restart, as iptables prints them.

        Empty where iptables cannot list a table to which nft added rules of another form.
        """
        if (place, e.digest) not in self._known:
            for s in self.tools.save(*place).rules:
                if mark := IN_TEXT.search(s.spec):
                    self._known.setdefault((place, mark[2]), without_comment(s.spec))
        return self._known.get((place, e.digest), ())

    # -- read ----------------------------------------------------------------

    def _read(
        self, session: Session, place: Place, names: Collection[str] | None, at: int | None = None
    ) -> Chains:
        """Read the rules of some chains of a table, or of all; and the names of its other chains.

        `at` is the generation of the rules where the caller has just read it.
        """
        if self.tools.variant == "legacy":
            return from_save(self.tools.save(*place))
        netlink = session.nftables()
        now = nft_compat.generation(netlink) if at is None else at
        return self._cache.read(netlink, place, names, now)

    def _generation(self, session: Session) -> int | None:
        """Return the generation of nf_tables: what is read afterwards is of that one, or newer."""
        if self.tools.variant == "legacy":
            return None
        return nft_compat.generation(session.nftables())

    # -- apply ---------------------------------------------------------------

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one commit a table, or KernelError with `done` leading ones in effect."""
        for r in (op.after for op in ops):
            if isinstance(r, Rule):
                # As given: iptables-save prints some arguments in another form.
                self._known[_place(r), r.digest] = r.args
        error = None if self._at_once(session, ops) else self._commit(session, ops)
        if error is None:
            for r in (op.before for op in ops if op.after is None):
                if isinstance(r, Rule):
                    self._known.pop((_place(r), r.digest), None)
            return
        places = {_place(op.subject) for op in ops}
        there = {p: self._read(session, p, self._concerned(ops, p)) for p in places}
        effective = [_in_effect(op, there[_place(op.subject)]) for op in ops]
        error.done = done = effective.index(False) if False in effective else len(ops)
        # Another table may have been committed before this one failed.
        rest = zip(ops[done:], effective[done:], strict=True)
        late = [op.inverse() for op, yes in rest if yes][::-1]
        if late and (bad := self._commit(session, late)):
            error.add_note(f"could not undo {len(late)} later steps: {bad}")
        raise error

    def _at_once(self, session: Session, ops: Sequence[Op]) -> bool:
        """Add or delete rules in one transaction, without the tool; False: nothing was done.

        So it is where that is not enough, and where the rules changed meanwhile.
        """
        if self.tools.variant != "nft" or len({_place(op.subject)[0] for op in ops}) > 1:
            return False
        change = by_netlink.removal(ops) or (by_netlink.addition(ops) if self._direct else None)
        return change is not None and self._make(session, change)

    def _rewrite(self, session: Session, ops: Sequence[Op]) -> None:
        """Write rules that the tool wrote in the form that takes the kernel less time."""
        change = by_netlink.rewriting(ops) if self._direct else None
        if change is None or self.tools.variant != "nft":
            return
        with suppress(KernelError):  # they hold in either form
            any(self._make(session, change) for _ in range(TRIES))

    def _make(self, session: Session, change: by_netlink.Change) -> bool:
        netlink = session.nftables()
        at = nft_compat.generation(netlink)
        there = {p: self._read(session, p, names, at) for p, names in change.chains.items()}
        if not change.make(netlink, at, there):
            return False
        self._cache.changed(at, change.chains)
        return True

    def _commit(self, session: Session, ops: Sequence[Op]) -> KernelError | None:
        error: KernelError | None = None
        for _ in range(TRIES):
            places = {_place(op.subject): True for op in ops}
            at = self._generation(session)
            before = {p: self._read(session, p, self._concerned(ops, p), at) for p in places}
            for family in sorted({f for f, _ in places}):
                here = {p: before[p] for p in before if p[0] == family}
                error = self._restore(family, here, ops)
                if error is not None:
                    break
            if error is None:
                self._rewrite(session, ops)
                return None
            if error.errno == errno.EAGAIN:
                continue  # it may have happened all the same
            if before == {p: self._read(session, p, self._concerned(ops, p)) for p in places}:
                break  # no other change came between: it would fail again
        return error

    def _restore(
        self, family: int, there: dict[Place, Chains], ops: Sequence[Op]
    ) -> KernelError | None:
        script = Script()
        try:
            for place in sorted(there):
                mine = [op for op in ops if _place(op.subject) == place]
                write(script, place, {c: list(e) for c, e in there[place].items()}, mine)
            if script.lines:
                self.tools.restore(family, script.text)
        except RestoreFailed as e:
            op = script.blamed(e.line)
            said = f"{op} failed: {e}" if op else str(e)
            return KernelError(said, errno=e.errno)
        except KernelError as e:
            return e
        return None

    def _concerned(self, ops: Sequence[Op], place: Place) -> set[str] | None:
        here = [op for op in ops if _place(op.subject) == place]
        if any(isinstance(op.before, Chain) for op in here):
            return None  # all: a rule of any may jump to it
        return {_chain_name(op.subject) for op in here}


def _entered(there: Chains) -> frozenset[str]:
    """Return chains that foreign rules are in or jump to."""
    foreign = [(name, e.target) for name, es in there.items() for e in es if e.owner is None]
    return frozenset(name for pair in foreign for name in pair if name is not None)


def _in_effect(op: Op, there: Chains) -> bool:
    match op.after or op.before:
        case Chain(name=name):
            return op.after is None or name in there  # one in use stays, and that is right
        case Rule() as r:
            present = any(is_rule(e, r) for e in there.get(r.chain, ()))
            return present == (op.after is not None)
    return False


def _place(r: Resource) -> Place:
    assert isinstance(r, Chain | Rule)
    return r.family, r.table


def _chain_name(r: Resource) -> str:
    assert isinstance(r, Chain | Rule)
    return r.name if isinstance(r, Chain) else r.chain
