"""Firewall chains and rules: what there is, and one commit for many changes.

    chain   head                                tail
            ours, rank < 0 | foreign and ours mixed | ours, rank >= 0 in order

Foreign rules are never touched, nor parsed; ours are known by their comment

    netkit:<engine>:<network>[:<endpoint>] <digest>[ <rank>]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from netkit.errors import KernelError
from netkit.kernel import iptables, nftables
from netkit.kernel.iptables import BUILTIN, RestoreFailed, Tools, Variant
from netkit.kernel.session import Session
from netkit.model import Chain, Key, Resource, Rule
from netkit.plan import Op

COMMENT = r"(netkit:[^\s\0\"]+) ([0-9a-f]{16})(?: (-?\d+))?(?=[\0\"])"
IN_TEXT, IN_BYTES = re.compile(COMMENT), re.compile(COMMENT.encode())
JUMP = re.compile(r"(?:^| )-[jg] (\S+)")
LONGEST_COMMENT = 255  # XT_MAX_COMMENT_LEN - 1
TRIES = 2  # positions were counted before somebody else inserted a rule

Place = tuple[int, str]  # family, table


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule in its chain; `owner` is None for a foreign one."""

    owner: str | None = None
    digest: str = ""
    rank: int = 0
    target: str | None = None
    spec: str = ""  # as iptables-save prints it; "" where it was not asked
    handle: int = 0  # by which nf_tables knows it


Chains = dict[str, list[Entry]]


@dataclass(slots=True)
class Script:
    """Input for iptables-restore, and which op each of its lines (from 1) is for."""

    lines: list[str] = field(default_factory=list)
    ops: list[Op | None] = field(default_factory=list)

    def add(self, line: str, op: Op | None = None) -> None:
        self.lines.append(line)
        self.ops.append(op)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


class Rules:
    """The firewall of one namespace.

    `chains` are beginnings of names: such a chain without foreign rules in it or jumps to it
    is ours, and `owner` is said to be its owner; of any other nothing is said.
    """

    def __init__(
        self,
        home: str = "",
        variant: Variant | None = None,
        chains: tuple[str, ...] = (),
        owner: str | None = None,
    ) -> None:
        self._home = home
        self._wish: Variant | None = variant
        self._names = chains
        self._owner = owner
        self._tools: Tools | None = None
        self._cache: dict[tuple[Place, str | None], tuple[int, Chains]] = {}
        self._known: dict[tuple[Place, str], tuple[str, ...]] = {}  # arguments by digest

    @property
    def tools(self) -> Tools:
        if self._tools is None:
            self._tools = Tools(iptables.choose(self._home, self._wish), self._home)
        return self._tools

    # -- observe -------------------------------------------------------------

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        chains: dict[Place, set[str]] = {}
        rules: dict[Place, dict[str, set[str]]] = {}
        for key in keys:
            place = int(key[1]), key[2]
            if key[0] == "chain":
                chains.setdefault(place, set()).add(key[3])
            else:
                rules.setdefault(place, {}).setdefault(key[3], set()).add(key[4])
        out: dict[Key, Resource] = {}
        for place in sorted(chains.keys() | rules.keys()):
            names = rules.get(place, {})
            there = self._read(session, place, None if place in chains else names)
            for name in sorted(chains.get(place, ())):
                if name in there or name in BUILTIN[place[1]]:
                    chain = self._chain(place, name, there)
                    out[chain.key] = chain
            for name in sorted(names):
                out |= self._rules(place, name, there, names[name].__contains__)
        return out

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        """Rules whose comment starts with `prefix`, and our chains if their owner does."""
        out: dict[Key, Resource] = {}
        for place in ((f, t) for f in (4, 6) for t in iptables.TABLES):
            there = self._read(session, place, None)
            for name in sorted(there):
                chain = self._chain(place, name, there)
                if (chain.owner or "").startswith(prefix):
                    out[chain.key] = chain
                rules = self._rules(place, name, there, lambda _: True)
                out |= {k: r for k, r in rules.items() if (r.owner or "").startswith(prefix)}
        return out

    def _chain(self, place: Place, name: str, there: Chains) -> Chain:
        family, table = place
        foreign = any(e.owner is None for e in there.get(name, ())) or any(
            e.owner is None and e.target == name for entries in there.values() for e in entries
        )
        named = name.startswith(self._names) and name not in BUILTIN[table]
        ours = self._names and named and not foreign
        return Chain(family=family, table=table, name=name, owner=self._owner if ours else None)

    def _rules(
        self, place: Place, name: str, there: Chains, wanted: Callable[[str], bool]
    ) -> dict[Key, Resource]:
        family, table = place
        out: dict[Key, Resource] = {}
        for e in there.get(name, ()):
            if e.owner is None or not wanted(e.digest):
                continue
            args = self._arguments(place, e)
            if args is None:
                continue
            rule = Rule(
                family=family,
                table=table,
                chain=name,
                args=args,
                rank=e.rank,
                digest=e.digest,
                owner=e.owner,
            )
            out[rule.key] = rule
        return out

    def _arguments(self, place: Place, e: Entry) -> tuple[str, ...] | None:
        """What we were told when we made it, or, after a restart, what iptables says."""
        if (place, e.digest) not in self._known:
            for s in self.tools.save(*place).rules:
                if mark := IN_TEXT.search(s.spec):
                    self._known.setdefault((place, mark[2]), _without_comment(s.spec))
        return self._known.get((place, e.digest))

    # -- read ----------------------------------------------------------------

    def _read(self, session: Session, place: Place, names: Iterable[str] | None) -> Chains:
        """The rules of some chains of a table, or of all; and the names of its other chains."""
        if self.tools.variant == "legacy":
            return _from_save(self.tools.save(*place))
        netlink = session.nftables()
        now = nftables.generation(netlink)
        out: Chains = {}
        for name in sorted(names) if names is not None else (None,):
            at, have = self._cache.get((place, name), (None, {}))
            if at != now:
                have = _from_netlink(nftables.rules(netlink, *place, name))
                self._cache[place, name] = now, have
            out |= have
        if names is None or any(n not in out and n not in BUILTIN[place[1]] for n in names):
            for chain in nftables.chains(netlink, *place):
                out.setdefault(chain, [])
        return {name: list(entries) for name, entries in out.items()}

    # -- apply ---------------------------------------------------------------

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one commit a table, or KernelError with `done` leading ones in effect."""
        error = None if self._removed_at_once(session, ops) else self._commit(session, ops)
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

    def _removed_at_once(self, session: Session, ops: Sequence[Op]) -> bool:
        """Rules only to be removed need no tool where nf_tables can be told their handles."""
        doomed = [op.before for op in ops if isinstance(op.before, Rule) and op.after is None]
        families = {r.family for r in doomed}
        if self.tools.variant != "nft" or len(doomed) < len(ops) or len(families) > 1:
            return False
        netlink, handles = session.nftables(), []
        at = nftables.generation(netlink)
        for place in sorted({_place(r) for r in doomed}):
            here = {(r.chain, r.digest): r for r in doomed if _place(r) == place}
            there = self._read(session, place, {chain for chain, _ in here})
            for chain, entries in there.items():
                for e in entries:
                    if (r := here.get((chain, e.digest))) and _is(e, r):
                        handles.append((place[1], chain, e.handle))
        try:
            if handles:
                nftables.delete(netlink, families.pop(), at, handles)
        except KernelError:  # somebody changed rules meanwhile; the tool reads them again
            return False
        return True

    def _commit(self, session: Session, ops: Sequence[Op]) -> KernelError | None:
        error: KernelError | None = None
        for _ in range(TRIES):
            places = {_place(op.subject): True for op in ops}
            before = {p: self._read(session, p, self._concerned(ops, p)) for p in places}
            for family in sorted({f for f, _ in places}):
                here = {p: before[p] for p in before if p[0] == family}
                error = self._restore(family, here, ops)
                if error is not None:
                    break
            if error is None:
                return None
            if before == {p: self._read(session, p, self._concerned(ops, p)) for p in places}:
                break  # nobody interfered: it would fail again
        return error

    def _restore(
        self, family: int, there: dict[Place, Chains], ops: Sequence[Op]
    ) -> KernelError | None:
        script = Script()
        try:
            for place in sorted(there):
                mine = [op for op in ops if _place(op.subject) == place]
                self._write(script, place, {c: list(e) for c, e in there[place].items()}, mine)
            if script.lines:
                self.tools.restore(family, script.text)
        except RestoreFailed as e:
            line = e.line if e.line is not None and e.line <= len(script.ops) else None
            op = script.ops[line - 1] if line else None
            return KernelError(f"{op} failed: {_words(op)}: {e}" if op else str(e))
        except KernelError as e:
            return e
        return None

    def _concerned(self, ops: Sequence[Op], place: Place) -> set[str] | None:
        here = [op for op in ops if _place(op.subject) == place]
        if any(isinstance(op.before, Chain) for op in here):
            return None  # who jumps to it?
        return {_chain_name(op.subject) for op in here}

    def _write(self, script: Script, place: Place, there: Chains, ops: Sequence[Op]) -> None:
        """Append what brings about `ops` of one table; `there` follows as it is written."""
        start = len(script.lines)
        script.add(f"*{place[1]}")
        _drop(script, ops, there)
        for op in ops:
            match op.after:
                case Chain(name=name) if name not in there and name not in BUILTIN[place[1]]:
                    script.add(f"-N {name}", op)
                    there[name] = []
                case Rule() as r:
                    self._put(script, op, r, there)
        for op in ops:
            if isinstance(op.before, Chain) and op.after is None:
                _discard(script, op, op.before, there)
        if len(script.lines) == start + 1:
            del script.lines[start:], script.ops[start:]
        else:
            script.add("COMMIT")

    def _put(self, script: Script, op: Op, r: Rule, there: Chains) -> None:
        entries = there.setdefault(r.chain, [])
        if any(e.digest == r.digest and e.owner is not None for e in entries):
            return
        self._known[_place(r), r.digest] = r.args
        at = _position(entries, r.rank)
        how = f"-A {r.chain}" if at == len(entries) else f"-I {r.chain} {at + 1}"
        spec = _spec(r)
        script.add(f"{how} {spec}", op)
        found = JUMP.search(spec)
        entries.insert(at, Entry(r.owner, r.digest, r.rank, found[1] if found else None, spec))


def _drop(script: Script, ops: Sequence[Op], there: Chains) -> None:
    """In order of the chain: iptables looks for each from the head, and finds it there."""
    doomed = {(op.before.chain, op.before.digest): op for op in ops if isinstance(op.before, Rule)}
    for chain in sorted({c for c, _ in doomed}):
        stay: list[Entry] = []
        for e in there.get(chain, ()):
            op = doomed.get((chain, e.digest))
            if op is None or not isinstance(op.before, Rule) or not _is(e, op.before):
                stay.append(e)
                continue
            script.add(f"-D {chain} {e.spec or _spec(op.before)}", op)
        there[chain] = stay


def _in_effect(op: Op, there: Chains) -> bool:
    match op.after or op.before:
        case Chain(name=name):
            return op.after is None or name in there  # one in use stays, and that is right
        case Rule() as r:
            present = any(_is(e, r) for e in there.get(r.chain, ()))
            return present == (op.after is not None)
    return False


def _is(e: Entry, r: Rule) -> bool:
    return e.digest == r.digest and e.owner == r.owner


def _position(entries: Sequence[Entry], rank: int) -> int:
    """Where a rule of this rank goes: an index into the chain."""
    if rank < 0:
        before = [i for i, e in enumerate(entries) if e.owner is not None and e.rank <= rank]
        return before[-1] + 1 if before else 0
    behind = (i for i, e in enumerate(entries) if e.owner is not None and e.rank > rank)
    return next(behind, len(entries))


def _discard(script: Script, op: Op, r: Chain, there: Chains) -> None:
    """Only if it is empty and nobody jumps to it; else it stays."""
    used = any(e.target == r.name for entries in there.values() for e in entries)
    if r.name in there and not there[r.name] and not used:
        script.add(f"-X {r.name}", op)
        del there[r.name]


def _spec(r: Rule) -> str:
    rank = f" {r.rank}" if r.rank else ""
    comment = f"{r.owner} {r.digest}{rank}"
    found = IN_TEXT.match(f'{comment}"')
    if found is None or found.end() != len(comment):
        raise KernelError(f"rule of {r.owner!r}: an owner starts with netkit: and has no blanks")
    if len(comment) > LONGEST_COMMENT:
        raise KernelError(f"rule of {r.owner}: the comment is over {LONGEST_COMMENT} characters")
    args = iptables.quoted((*r.args, "-m", "comment", "--comment"))
    return f'{args} "{comment}"'


def _without_comment(spec: str) -> tuple[str, ...]:
    """The arguments of one of our rules as iptables-save printed it."""
    args = list(iptables.arguments(spec))
    at = args.index("--comment")
    del args[at - 2 : at + 2]
    return tuple(args)


def _from_save(table: iptables.SavedTable) -> Chains:
    out: Chains = {name: [] for name in table.chains}
    for rule in table.rules:
        mark, jump = IN_TEXT.search(rule.spec), JUMP.search(rule.spec)
        target = jump[1] if jump else None
        entry = Entry(target=target, spec=rule.spec)
        if mark:
            entry = Entry(mark[1], mark[2], int(mark[3] or 0), target, rule.spec)
        out.setdefault(rule.chain, []).append(entry)
    return out


def _from_netlink(rules: Sequence[nftables.RawRule]) -> Chains:
    out: Chains = {}
    for rule in rules:
        mark = IN_BYTES.search(rule.raw)
        entry = Entry(target=rule.target, handle=rule.handle)
        if mark:
            owner, digest = mark[1].decode(), mark[2].decode()
            entry = Entry(owner, digest, int(mark[3] or 0), rule.target, handle=rule.handle)
        out.setdefault(rule.chain, []).append(entry)
    return out


def _place(r: Resource) -> Place:
    assert isinstance(r, Chain | Rule)
    return r.family, r.table


def _chain_name(r: Resource) -> str:
    assert isinstance(r, Chain | Rule)
    return r.name if isinstance(r, Chain) else r.chain


def _words(op: Op) -> str:
    r = op.subject
    return " ".join(r.args) if isinstance(r, Rule) else ""
