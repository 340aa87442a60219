"""Write the input of iptables-restore for a list of steps.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from netkit.kernel.iptables import tools
from netkit.kernel.iptables.chains import JUMP, Chains, Entry, Place, is_rule, position, spec_of
from netkit.kernel.iptables.tools import BUILTIN
from netkit.model import Chain, Rule
from netkit.reconcile.plan import Op


@dataclass(slots=True)
class Script:
    """Input for iptables-restore, and the op of each of its lines (from 1)."""

    lines: list[str] = field(default_factory=list)
    ops: list[Op | None] = field(default_factory=list)

    def add(self, line: str, op: Op | None = None) -> None:
        self.lines.append(line)
        self.ops.append(op)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def blamed(self, line: int | None) -> Op | None:
        """Return the op of a line; for a COMMIT, the only op of its table, if it has but one."""
        if line is None or not 0 < line <= len(self.lines):
            return None
        if self.lines[line - 1] != "COMMIT":
            return self.ops[line - 1]
        start = max(i for i in range(line) if self.lines[i].startswith("*"))
        return self.ops[start + 1] if line - start == 3 else None


def write(script: Script, place: Place, there: Chains, ops: Sequence[Op]) -> None:
    """Append the lines for `ops` of one table; `there` is updated along."""
    start = len(script.lines)
    script.add(f"*{place[1]}")
    _drop(script, ops, there)
    present = {c: {e.digest for e in entries} for c, entries in there.items()}
    for op in ops:
        match op.after:
            case Chain(name=name) if name not in there and name not in BUILTIN[place[1]]:
                script.add(f"-N {name}", op)
                there[name] = []
            case Rule() as r if r.digest not in present.setdefault(r.chain, set()):
                present[r.chain].add(r.digest)
                _put(script, op, r, there)
    gone = [op for op in ops if isinstance(op.before, Chain) and op.after is None]
    used = {e.target for entries in there.values() for e in entries} if gone else set()
    for op in gone:
        _discard(script, op, there, used)
    if len(script.lines) == start + 1:
        del script.lines[start:], script.ops[start:]
    else:
        script.add("COMMIT")


def _put(script: Script, op: Op, r: Rule, there: Chains) -> None:
    entries = there.setdefault(r.chain, [])
    at = position(entries, r.rank)
    how = f"-A {r.chain}" if at == len(entries) else f"-I {r.chain} {at + 1}"
    spec = spec_of(r)
    script.add(f"{how} {spec}", op)
    found = JUMP.search(spec)
    entries.insert(at, Entry(r.owner, r.digest, r.rank, found[1] if found else None, spec))


def _drop(script: Script, ops: Sequence[Op], there: Chains) -> None:
    """Delete rules in the order of the chain: iptables searches each from the head.

    Of many, a chain that goes with all that is in it is flushed: a line, not thousands to
    compare.  Only the tool can (`iptables.MOST`).
    """
    doomed = {(op.before.chain, op.before.digest): op for op in ops if isinstance(op.before, Rule)}
    whole = {r.name: op for op in ops if isinstance(r := op.before, Chain) and op.after is None}
    for chain in sorted({c for c, _ in doomed}):
        stay: list[Entry] = []
        go: list[tuple[Entry, Op]] = []
        for e in there.get(chain, ()):
            op = doomed.get((chain, e.digest))
            if op is None or not isinstance(op.before, Rule) or not is_rule(e, op.before):
                stay.append(e)
            else:
                go.append((e, op))
        if len(doomed) > tools.MOST and go and not stay and chain in whole:
            script.add(f"-F {chain}", whole[chain])
        else:
            for e, op in go:
                assert isinstance(op.before, Rule)
                script.add(f"-D {chain} {e.spec or spec_of(op.before, e.comment)}", op)
        there[chain] = stay


def _discard(script: Script, op: Op, there: Chains, used: Collection[str | None]) -> None:
    """Delete a chain if it is empty and no rule jumps to it; else it stays."""
    assert isinstance(op.before, Chain)
    name = op.before.name
    if name in there and not there[name] and name not in used:
        script.add(f"-X {name}", op)
        del there[name]
