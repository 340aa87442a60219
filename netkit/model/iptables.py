"""Chains and rules of iptables and ip6tables.  Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from netkit.model.base import Key, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Resource):
    """A firewall chain of ours, e.g. filter/DOCKER.  Deleting it deletes only an empty chain."""

    unobservable_fields: ClassVar[frozenset[str]] = frozenset({"owner"})
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 0
    table: str  # filter, nat, raw, mangle
    name: str
    family: int = 4  # 4 or 6

    @property
    def key(self) -> Key:
        return ("chain", str(self.family), self.table, self.name)

    def describe(self) -> str:
        return iptables(self.family, self.table, f"-N {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Resource):
    """One firewall rule of ours in a chain that may hold foreign rules too.

    `args` is what follows `-A CHAIN` in iptables syntax, without the comment: the kernel
    adapter adds `-m comment --comment "<owner> <digest>"` (and the rank, unless 0), by which
    the rule is known again, however the kernel spells its arguments.  The `label` at the end of
    it is for people: a rule that has another, or none, is the same.
    Our rules stand in order of `rank`; negative ranks at the head of the chain, others at
    its tail.  Foreign rules are never moved or removed.  One of ours that another tool moved,
    doubled or overtook at the head is not `placed`.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"placed"})
    unobservable_fields: ClassVar[frozenset[str]] = frozenset(
        {"args"}
    )  # iptables may be unable to list it
    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 1
    table: str
    chain: str
    args: tuple[str, ...] = field(compare=False)  # observed: as the kernel spells them
    rank: int = 0
    family: int = 4
    digest: str = ""  # 16 hex digits that name this rule; computed unless observed
    placed: bool = True
    origin: str = field(default="", compare=False)  # id of the user's rule that it stands for
    label: str = field(default="", compare=False)  # names for the administrator, in the comment
    _key: Key = field(init=False, repr=False, compare=False)  # asked for often, of thousands

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", self._digest())
        place = (str(self.family), self.table, self.chain)
        object.__setattr__(self, "_key", ("rule", *place, self.digest))

    def _digest(self) -> str:
        text = "\0".join((str(self.family), self.table, self.chain, str(self.rank), *self.args))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def key(self) -> Key:
        return self._key

    def describe(self) -> str:
        return iptables(self.family, self.table, f"-A {self.chain} {' '.join(self.args)}")

    @property
    def needs(self) -> tuple[Key, ...]:
        family = str(self.family)
        chain, target, found = (
            ("chain", family, self.table, self.chain),
            self.target,
            self.depends_on,
        )
        if target is not None:
            found = (("chain", family, self.table, target), *found)
        if "--match-set" in self.args:
            named = (name for flag, name in pairwise(self.args) if flag == "--match-set")
            found = (*(("ipset", family, name) for name in named), *found)
        return (chain, *found)

    @property
    def target(self) -> str | None:
        """What follows -j or -g: a chain, or something that needs none."""
        for flag in ("-j", "-g"):
            if flag in self.args:
                return self.args[self.args.index(flag) + 1]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray(Resource):
    """A rule without our mark in a place where only ours belong; only ever removed.

    It stands in a chain of ours alone, or is a copy of a rule of ours that lost its comment.
    """

    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 1
    table: str
    chain: str
    number: str  # identifies it among the rules of the chain
    text: str = field(compare=False)  # as the tool prints it, without handle and counters
    family: int = 4

    @property
    def key(self) -> Key:
        return ("stray", str(self.family), self.table, self.chain, self.number)

    def describe(self) -> str:
        return f"rule without netkit's mark in {self.table} {self.chain}: {self.text}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("chain", str(self.family), self.table, self.chain), *self.depends_on)


def iptables(family: int, table: str, words: str) -> str:
    return f"{'iptables' if family == 4 else 'ip6tables'} -t {table} {words}"
