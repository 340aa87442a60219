"""Address sets of the firewall, for rules with many sources: one look-up instead of a rule each."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import ClassVar

from netkit.model import Key, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class IpSet(Resource):
    """A set of networks (ipset hash:net) that rules match with `-m set --match-set NAME src`.

    The kernel has no room for an owner in it: it is ours by its name, `nks-<12 hex>`.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"members"})
    opaque: ClassVar[frozenset[str]] = frozenset({"owner"})
    phase: ClassVar[int] = 0  # before the rules that match with it
    name: str
    members: tuple[IPv4Network, ...]  # sorted
    family: int = 4

    @property
    def key(self) -> Key:
        return ("ipset", str(self.family), self.name)
