"""Address lists that firewall rules refer to, as values."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import ClassVar

from netkit.model import Key, Resource

IPSET_PREFIX = "nks-"  # then 12 hex digits
HASH_NET = "hash:net"  # of IPv4


@dataclass(frozen=True, slots=True, kw_only=True)
class IpSet(Resource):
    """An ipset of type hash:net, matched by `-m set --match-set NAME src`.

    Its members change all at once.  Ours carry `owner` as a comment at each member; a set
    without members has no owner.  Names of this form are ours: a set that has one, no mark and
    no rule that refers to it is owned by `stray`.  0.0.0.0/0 cannot be a member (ipset(8)).
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"members"})
    unobservable_fields: ClassVar[frozenset[str]] = frozenset({"owner"})
    carries_owner: ClassVar[bool] = True
    is_firewall: ClassVar[bool] = True
    order: ClassVar[int] = -1  # before chains and rules, which are one transaction
    name: str  # at most 30 characters, see kernel/ipsets.py
    members: tuple[IPv4Network, ...]  # sorted, each once
    family: int = 4
    kind: str = HASH_NET  # another tool's set with a name of ours may be of another

    @property
    def key(self) -> Key:
        return ("ipset", str(self.family), self.name)

    def describe(self) -> str:
        return f"ipset {self.name}"
