"""Describe the rules of firewalls and drivers, for code that reads them back from the kernel.

A firewall (netkit.driver.Firewall) writes resources; these values state, without any of them at
hand, which chains and sets are its own and what its rules look like.  So does a driver
(netkit.driver.Traits) of the tables with which it checks the frames of containers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern

TableChain = tuple[str, str]  # ("filter", "FORWARD")

# What rules are for.  A trace derives its code from these.
ACCESS_RULE = "an access rule"
INTERNAL = "an internal network is kept apart"
NOT_PUBLISHED = "what is not published is closed"
NOT_OPENED = "what is not opened is closed"
ICC_OFF = "neighbours are kept apart, icc is off"
LOOPBACK_GUARD = "the host's loopback is its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Territory:
    """Which chains of iptables are a firewall's alone, and where its rules stand in shared ones.

    Patterns match whole rules without comment and counters, as `nft list` or as iptables-save
    prints them.
    """

    names: tuple[str, ...] = ()  # beginnings of the names of its chains
    alone: frozenset[TableChain] = frozenset()
    open: frozenset[TableChain] = frozenset()
    trees: tuple[str, ...] = ()  # beginnings of the names of chains of single endpoints
    admits: TableChain | None = None  # the open chain with rules for published ports
    admission: tuple[Pattern[str], ...] = ()  # those; groups br, ip, proto, ports
    translation: tuple[Pattern[str], ...] = ()  # of published ports; groups proto, ports, to
    # What it writes into built-in chains about networks.
    built_in: Mapping[TableChain, tuple[Pattern[str], ...]] = field(default_factory=dict)

    def is_alone(self, table: str, chain: str) -> bool:
        return (table, chain) in self.alone or bool(self.trees and chain.startswith(self.trees))

    def covers(self, table: str, chain: str) -> bool:
        return (table, chain) in self.open or self.is_alone(table, chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallLayout:
    """`port_maps` are sets of nf_tables that translate published ports.  Their elements are

        [host address .] protocol . host port or range : container address [. container port]
    """

    territory: Territory = Territory()
    port_maps: frozenset[str] = frozenset()
    users_chains: frozenset[str] = frozenset()  # made for the administrator's own rules
    purposes: tuple[tuple[Pattern[str], str, str], ...] = ()  # chain, verdict, what for

    def purpose(self, chain: str, verdict: str) -> str:
        """Return the purpose of a rule in this chain, with this verdict; "" if unknown."""
        found = (what for p, does, what in self.purposes if does == verdict and p.fullmatch(chain))
        return next(found, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSecurity:
    """Which tables of nf_tables, of family bridge, say what a bridge port may send.

    The sets `macs` and `sources` have pairs of a port and what it may send from.  Frames of the
    ports in the set `ports` are dropped where their MAC and IPv4 address are in neither.
    """

    tables: str  # beginning of their names
    rules: tuple[tuple[str, int], ...]  # chains, and how many rules each has
    ports: str
    macs: str
    sources: str

    @property
    def sets(self) -> frozenset[str]:
        return frozenset({self.ports, self.macs, self.sources})


def purposes(table: Mapping[tuple[str, str], str]) -> tuple[tuple[Pattern[str], str, str], ...]:
    """`FirewallLayout.purposes` from patterns for whole names of chains, and verdicts."""
    return tuple((re.compile(chain), verdict, what) for (chain, verdict), what in table.items())


__all__ = [
    "ACCESS_RULE", "ICC_OFF", "INTERNAL", "LOOPBACK_GUARD", "NOT_OPENED", "NOT_PUBLISHED",
    "FirewallLayout", "PortSecurity", "Territory", "purposes",
]  # fmt: skip
