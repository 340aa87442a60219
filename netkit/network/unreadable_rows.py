"""Find what must stay on the host because a row about it cannot be decoded.  Only reads.

A rule of which the row cannot be read may be the one that blocks traffic.  So nothing is removed
or replaced of

    a network     whose row, or that about other hosts on it, cannot be read, or whose driver is
                  missing or refuses it
    an endpoint   whose row, network or sandbox cannot be read; with an access rule on it that
                  cannot be read, or whose sources are not known; beside another such endpoint,
                  which it may be linked to

until the user removes the row: then nothing in the database names them, and they are stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from netkit.model import Key, Resource, State
from netkit.model.nftables import NftRule
from netkit.model.openvswitch import OvsFlows
from netkit.network.context import NetworkContext
from netkit.reconcile.converge import Converger

GLOBAL_OWNER = "global"  # ends the mark of what networks share
SHORT = 12  # digits of an id in a mark


@dataclass(frozen=True, slots=True)
class Unread:
    """Ids, shortened.  `lost` and `unclear` are kept; `networks` and `endpoints` have a row."""

    prefix: str
    networks: frozenset[str]
    endpoints: frozenset[str]
    lost: frozenset[str]  # networks
    unclear: frozenset[str]  # endpoints
    beside: frozenset[str]  # networks of such endpoints

    def keeps(self, r: Resource) -> bool:
        """Whether `r` is of a network or endpoint about which a row cannot be read."""
        if not (r.owner or "").startswith(self.prefix):
            return False
        network, endpoint = self.parse(r)
        if network == GLOBAL_OWNER:
            return bool(self.lost)  # their driver, and what it needs, may not be known
        if endpoint:
            return endpoint in self.unclear
        # An address of an endpoint on a link of its network has no mark but that of the link.
        return network in self.lost or (network in self.beside and not r.is_firewall)

    def parse(self, r: Resource) -> tuple[str, str]:
        """(network, endpoint or "") of a mark."""
        network, _, endpoint = (r.owner or "").removeprefix(self.prefix).partition(":")
        return network, endpoint

    def gone(self, r: Resource) -> bool:
        """Whether its mark names a network or an endpoint without a row."""
        network, endpoint = self.parse(r)
        return endpoint not in self.endpoints if endpoint else network not in self.networks


def unread(p: NetworkContext) -> Unread:
    lost = {e.record.id for e in p.registry.all() if p.registry.is_driver_missing(e)}
    known = {e.record.id for e in p.registry.all()}
    known |= {e.record.id for _, e in p.registry.unfinished()}
    networks = p.registry.ids()
    lost |= (networks - known) | p.registry.remote_state.unreadable()
    rows = p.records.index()
    readable = {r.id for r in p.records.of_sandbox()}
    opened = {o.sandbox.id for _, o in p.records.sandboxes()}
    bad = [r for r in rows if r.id not in readable or r.network in lost or r.sandbox not in opened]
    beside = {r.network for r in bad}
    targets = p.policies.unclear({r.sandbox for r in bad}, {r.sandbox for r in rows})
    return Unread(
        prefix=p.desired_state.prefix,
        networks=_short(networks),
        endpoints=_short(r.id for r in rows),
        lost=_short(lost),
        beside=_short(beside),
        unclear=_short(r.id for r in rows if r.network in beside or r.sandbox in targets),
    )


def without_kept(converger: Converger, desired: Mapping[Key, Resource], found: Unread) -> State:
    """`desired` without what would replace, or go before, what is there and not known.

    Flows stand for all access rules on an endpoint, or all hosts of a network; a place in a chain
    of nftables counts the rules before it.
    """
    kept = {
        k: r for k, r in desired.items() if found.keeps(r) and found.parse(r)[0] != GLOBAL_OWNER
    }
    flows = {k for k, r in kept.items() if isinstance(r, OvsFlows)}
    there = converger.observe(flows) if flows else {}
    chains = {r.chain for r in kept.values() if isinstance(r, NftRule)}
    owned = converger.owned(found.prefix, policy=True) if chains else {}
    unknown = {r.chain for k, r in owned.items() if isinstance(r, NftRule) and k not in desired}
    return {
        k: r
        for k, r in desired.items()
        if k not in there and not (k in kept and isinstance(r, NftRule) and r.chain in unknown)
    }


def left_by(converger: Converger, prefix: str, owners: Collection[str]) -> State:
    """List all on the host with one of these marks, which begin with `prefix`.

    Of a network that does not say what it consists of.
    """
    if not owners:
        return {}
    found = converger.owned(prefix)
    return {k: r for k, r in found.items() if r.owner in owners}


def _short(ids: Iterable[str]) -> frozenset[str]:
    return frozenset(id[:SHORT] for id in ids)
