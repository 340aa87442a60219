"""iptables as lists of lines: input of iptables-restore is applied whole or not at all."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

from netkit.kernel.iptables.rules import Rules
from netkit.kernel.iptables.tools import BUILTIN, RestoreFailed, SavedRule, SavedTable, Tools
from netkit.kernel.session import Session
from netkit.model import Chain, Key, Resource, Rule, State
from netkit.reconcile.plan import Op
from netkit.testing.kernel import FakeKernel

Tables = dict[str, dict[str, list[str]]]  # rules by table and chain, as iptables-save prints them
TARGET = re.compile(r"-[jg] (\S+)")
SESSION = cast(Session, None)  # nothing here asks netlink


@dataclass
class ListedTools:
    variant: str = "legacy"
    tables: Tables = field(
        default_factory=lambda: {t: {c: [] for c in names} for t, names in BUILTIN.items()}
    )

    def save(self, family: int, table: str) -> SavedTable:
        chains = self.tables[table] if family == 4 else {}
        rules = [SavedRule(c, spec) for c, specs in chains.items() for spec in specs]
        return SavedTable(tuple(chains), tuple(rules))

    def restore(self, family: int, text: str) -> None:
        assert family == 4
        draft = copy.deepcopy(self.tables)
        table = ""
        for n, line in enumerate(text.splitlines(), 1):
            try:
                if line.startswith("*"):
                    table = line[1:]
                elif line != "COMMIT":
                    _do(draft[table], line)
            except (LookupError, ValueError) as bad:
                raise RestoreFailed(f"line {n} failed: {line}: {bad}", n) from bad
        self.tables = draft


def _do(chains: dict[str, list[str]], line: str) -> None:
    verb, chain, *rest = line.split(" ", 2)
    if verb == "-N":
        if chain in chains:
            raise ValueError("chain exists")
        chains[chain] = []
    elif verb == "-A":
        chains[chain].append(_sound(chains, rest[0]))
    elif verb == "-I":
        at, spec = rest[0].split(" ", 1)
        if not 0 < int(at) <= len(chains[chain]) + 1:
            raise ValueError("no such place")
        chains[chain].insert(int(at) - 1, _sound(chains, spec))
    elif verb == "-D":
        chains[chain].remove(rest[0])
    elif verb == "-F":
        chains[chain].clear()
    elif verb == "-X":
        if chains[chain] or any(chain in TARGET.findall(s) for c in chains.values() for s in c):
            raise ValueError("chain is in use")
        del chains[chain]
    else:
        raise ValueError("what is that?")


def _sound(chains: dict[str, list[str]], spec: str) -> str:
    for target in TARGET.findall(spec):
        if target.startswith(("DOCKER", "MY-")) and target not in chains:
            raise ValueError(f"no chain {target}")
    return spec


class ListedKernel(FakeKernel):
    """Links in a dict; chains and rules as real text, through netkit.kernel.iptables.rules."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = ListedTools()
        self.forget()

    def forget(self) -> None:
        """Forget what was reported before, as a new process has."""
        self.rules = Rules(chains=("DOCKER",), owner="netkit:e1:global")
        self.rules._tools = cast(Tools, self.tools)

    def observe(self, keys: Iterable[Key]) -> State:
        keys = set(keys)
        ours = {k for k in keys if k[0] in {"chain", "rule"}}
        return {**super().observe(keys - ours), **self.rules.observe(SESSION, ours)}

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        return {**super().owned(prefix, policy=policy), **self.rules.owned(SESSION, prefix)}

    def apply(self, ops: Sequence[Op]) -> None:
        for ruled, members in groupby(ops, key=lambda op: _ruled(op.subject)):
            if ruled:
                self.rules.apply(SESSION, tuple(members))
            else:
                super().apply(tuple(members))


def _ruled(r: Resource) -> bool:
    return isinstance(r, Chain | Rule)
