"""What can exist in nf_tables, as immutable values.  Imports nothing of ours but the model.

    table netkit                      NftTable: ours by name and mark
      map ports { ... }               NftSet: a set, a map or a verdict map, typed
        192.0.2.1 . tcp . 80 : ...    NftElement: one thing in it, found by its key alone
      chain forward { ... }           NftChain: a base chain if it has a hook
        oifname vmap @into            NftRule: known by the digest in its comment

Everything has its owner as its comment, so all of it is `carries_owner`: what has the key of ours
and no mark of ours is another tool's.  In a table that bears our mark nothing of another tool
belongs: what has no mark there is observed with `stray` as its owner, which is in no row.

A table is named as nft names it, by its family, too, unless that is ip: "netkit",
"bridge netkit".  IPv6 is to come.
Source: nft(8).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from netkit.model import Key, Resource

SET_REFERENCE = re.compile(r"@([\w./-]+)")  # in the text of a rule: sets and maps
CATCH_ALL = ("*",)  # the element for whatever is not in a set; never one of ours
BY_HANDLE = "handle-"  # begins the digest of a rule that bears none
JUMP_TARGET = re.compile(r"\b(?:jump|goto) ([\w./-]+)")  # and chains


@dataclass(frozen=True, slots=True, kw_only=True)
class NftTable(Resource):
    """A table.  Deleting it deletes all that is in it, atomically."""

    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 0
    name: str

    @property
    def key(self) -> Key:
        return ("nft-table", self.name)

    def describe(self) -> str:
        return f"nft table {shown(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where the kernel calls a base chain, before (lower) or after others of that hook."""

    kind: Literal["filter", "nat", "route"]
    point: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int

    def __str__(self) -> str:
        return f"{self.kind} {self.point} {self.priority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NftChain(Resource):
    """A chain of a table of ours.  Deleting it deletes all rules in it, foreign ones included.

    Refused by the kernel while rules elsewhere jump to it.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"default"})
    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 0
    table: str
    name: str
    hook: Hook | None = None
    default: Literal["accept", "drop"] = "accept"  # what nft calls policy; of base chains only

    @property
    def key(self) -> Key:
        return ("nft-chain", self.table, self.name)

    def describe(self) -> str:
        return f"nft chain {shown(self.table)} {self.name}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("nft-table", self.table), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class NftSet(Resource):
    """A set; a map if it has `data`; a verdict map if that is ("verdict",).

    `fields` and `data` name nft's data types: ipv4_addr, ether_addr, inet_proto, inet_service,
    ifname.
    With `ranges`, a field of an element may be a range or a prefix.  There must be at least two
    fields then: the kernel keeps such an element in one piece, and finds it in a time that does
    not depend on their number; of one field alone it would make two half-elements in a tree.
    """

    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 0
    table: str
    name: str
    fields: tuple[str, ...]
    data: tuple[str, ...] = ()
    ranges: bool = False

    @property
    def key(self) -> Key:
        return ("nft-set", self.table, self.name)

    def describe(self) -> str:
        return f"nft {'map' if self.data else 'set'} {shown(self.table)} {self.name}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("nft-table", self.table), *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class NftElement(Resource):
    """One element of a set or map.  It cannot be changed in place, only replaced.

    Each field of `key_fields`, and of `value` in a map, is spelt one way: an address "192.0.2.1",
    "10.0.0.0/8" or "10.0.0.1-10.0.0.9"; a protocol "tcp" or "0-255"; a port "80" or "80-90";
    an interface "br0"; a MAC address "02:42:ac:11:00:02".  In a verdict map `value` is
    ("accept",), ("drop",), ("return",), ("jump", chain) or ("goto", chain).
    """

    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = 1
    table: str
    set: str
    key_fields: tuple[str, ...]
    value: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return ("nft-element", self.table, self.set, *self.key_fields)

    def describe(self) -> str:
        return f"nft element {shown(self.table)} {self.set} {{ {' . '.join(self.key_fields)} }}"

    @property
    def needs(self) -> tuple[Key, ...]:
        there: Key = ("nft-set", self.table, self.set)
        if len(self.value) == 2 and self.value[0] in {"jump", "goto"}:
            return (there, ("nft-chain", self.table, self.value[1]), *self.depends_on)
        return (there, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class NftRule(Resource):
    """One rule in a chain of a table of ours; `expression` is nft syntax without the comment.

    The kernel adapter adds `comment "<owner> <digest>"` (and the rank, unless 0), by which the
    rule is known again, as for `model.Rule`.  And as there, ours stand in order of `rank`, of
    foreign ones those with a negative rank come first, and one that does not is not `placed`.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"placed"})
    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    unobservable_fields: ClassVar[frozenset[str]] = frozenset({"text"})
    order: ClassVar[int] = 1
    table: str
    chain: str
    expression: str = field(compare=False)  # "" in observations: the kernel keeps no text
    rank: int = 0
    digest: str = ""  # 16 hex digits that name this rule; computed unless observed
    placed: bool = True
    origin: str = field(default="", compare=False)  # id of the user's rule that it stands for

    def __post_init__(self) -> None:
        if not self.digest:
            text = "\0".join((self.table, self.chain, str(self.rank), self.expression))
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            object.__setattr__(self, "digest", digest)

    @property
    def key(self) -> Key:
        return ("nft-rule", self.table, self.chain, self.digest)

    def describe(self) -> str:
        return f"nft rule {shown(self.table)} {self.chain} {self.expression or self.digest}"

    @property
    def needs(self) -> tuple[Key, ...]:
        sets = (("nft-set", self.table, name) for name in SET_REFERENCE.findall(self.expression))
        chains = (("nft-chain", self.table, name) for name in JUMP_TARGET.findall(self.expression))
        return (("nft-chain", self.table, self.chain), *sets, *chains, *self.depends_on)


def family_of(table: str) -> tuple[str, str]:
    """Family and name of a table: "netkit" is ("ip", "netkit")."""
    family, _, name = table.rpartition(" ")
    return family or "ip", name


def shown(table: str) -> str:
    """As nft spells it: "ip netkit"."""
    return " ".join(family_of(table))


def stray(table_owner: str) -> str:
    """Return "netkit:ENGINE:stray", the owner of unmarked things in a table with this owner."""
    return ":".join((*table_owner.split(":")[:2], "stray"))
