"""Compute what the firewall should be at this moment, to repair what other tools changed.

Made while no change of ours is under way in the kernel, from rows alone:

    ready rows          what follows from them, and nothing else with their mark
    rows in between     (an operation has begun, its change has come or will) are left alone
    a ready row that is changed at this moment: nothing is looked at, for chains may be shared
    no row              rules with our mark are stale: an old dump was restored
    rows not readable   what has a mark of theirs is left alone: it may block traffic
    strays              rules without a mark where only ours belong, or copies of ours: never right
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from netkit.errors import NetkitError, Unreachable
from netkit.locks import KeyedLocks
from netkit.model import Chain, Key, Resource, Rule, State, Stray
from netkit.model.openvswitch import OvsFlows
from netkit.model.ovn import LogicalAcl
from netkit.network.context import NetworkContext
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import READY
from netkit.network.entry import NetworkEntry
from netkit.network.unreadable_rows import GLOBAL_OWNER, Unread, unread, without_kept
from netkit.reconcile.converge import Change
from netkit.reconcile.resync import ResyncResult
from netkit.spec import EndpointRecord, NetworkRecord

BRIDGE = "ovsbridge"  # first word of the keys of switches
Chosen = Callable[[NetworkRecord], bool]  # selects networks


def nothing(_prefix: str) -> State:
    return {}


def repair_networks(
    parts: NetworkContext,
    sandboxes: KeyedLocks,
    chosen: Chosen,
    marked: Callable[[str], State],
    restrained: Callable[[State], State],
) -> ResyncResult:
    """Delete leftovers first, for they may be in the way; where not all can be repaired at once,
    repair each network by itself.

    An error is the first one.
    """
    repair = DriftRepair(parts, sandboxes, chosen, marked, restrained)
    late = parts.converger.converge_lazily
    swept, busy = late(repair.leftover_change), repair.had_operations
    try:
        return ResyncResult(swept + late(repair.desired_change), busy or repair.had_operations)
    except Unreachable as error:
        if BRIDGE not in error.kinds:  # a service beside the switch: that is repaired all the same
            with suppress(NetkitError):
                late(partial(_without, repair, error.kinds))
        raise
    except NetkitError:
        for entry in filter(repair.concerns, parts.registry.all()):
            with suppress(NetkitError):
                late(partial(repair.network_change, entry.record.id))
        raise


def rules_not_in_force(repair: DriftRepair) -> list[str]:
    """Of access rules that drivers render for switches those that these do not have, for people."""
    try:
        plan = repair.parts.converger.converge_lazily(repair.desired_change, dry=True)
    except NetkitError as error:
        return [f"access rules in switches cannot be checked: {error}"]
    rules = (op.after for op in plan if isinstance(op.after, LogicalAcl | OvsFlows))
    return [f"not in force, netkitd tries again: {r}" for r in rules]


def _without(repair: DriftRepair, kinds: frozenset[str]) -> Change:
    return repair.desired_change().without(kinds)


@dataclass(slots=True)
class DriftRepair:
    """Compute what repairs drift.

    `desired_change` is for the kernel's thread; `had_operations` afterwards: some was left out.

    With `chosen`, of all that the networks it selects need, or one of them; else of the
    firewall alone.  `marked` finds, of what drivers keep elsewhere, all with our mark.
    `restrained` leaves out what is not to be repaired now: netkit.network.link_drift.
    """

    parts: NetworkContext
    sandboxes: KeyedLocks
    chosen: Chosen | None = None
    marked: Callable[[str], State] = nothing
    restrained: Callable[[State], State] = lambda desired: desired
    had_operations: bool = False

    def concerns(self, entry: NetworkEntry) -> bool:
        return self.chosen is None or self.chosen(entry.record)

    def desired_change(self) -> Change:
        if self.parts.registry.changing:  # their rows are ahead of the kernel
            self.had_operations = True
            return Change.of({})
        desired, free, rows = self._wanted()
        if self.chosen:
            return Change.of(self.restrained(self._reachable(desired)))
        desired = self._standing({k: r for k, r in desired.items() if r.is_firewall})
        stale = self._stale(desired, free, rows)
        return Change.of(desired, {**stale, **desired})

    def _standing(self, desired: State) -> State:
        """Leave out what needs a missing link: links come back with the next change or
        start, and the rules do not wait for them."""
        links = {n for r in desired.values() for n in r.needs if n[0] == "link"}
        there = self.parts.converger.observe(links) if links else {}
        return {
            k: r for k, r in desired.items() if all(n in there for n in r.needs if n[0] == "link")
        }

    def _reachable(self, desired: State) -> State:
        """Leave out what is in a namespace that has ended, and what stands on that: another
        engine's container may end before its removal is requested, or without it."""
        spaces = {n for r in desired.values() for n in r.needs if n[0] == "netns"}
        away: set[Key] = spaces - desired.keys() - self.parts.converger.observe(spaces).keys()
        size = 0
        while len(away) != size:
            size = len(away)
            away |= {k for k, r in desired.items() if not away.isdisjoint(r.needs)}
        return {k: r for k, r in desired.items() if k not in away}

    def leftover_change(self) -> Change:
        """Delete what `marked` finds and no row needs."""
        return Change.of({}, self._left_behind(*self._wanted()))

    def network_change(self, network: str) -> Change:
        """As `desired_change`, of this network alone."""
        return Change.of(self.restrained(self._reachable(self._wanted(network)[0])))

    def _wanted(self, network: str = "") -> tuple[State, set[str], Unread]:
        """Also the ids, shortened, of what no operation is under way on, and all rows."""
        self.had_operations = False
        p = self.parts
        unfinished = {entry.record.id for _, entry in p.registry.unfinished()}
        networks = [e for e in p.registry.all() if e.record.id not in unfinished]
        networks = [e for e in networks if not p.registry.is_driver_missing(e)]
        if network:
            networks = [e for e in networks if e.record.id == network]
        networks = [*filter(self.concerns, networks)]
        self.had_operations |= bool(unfinished)
        desired: dict[Key, Resource] = dict(p.desired_state.networks(networks))
        if not self.chosen:
            desired |= p.desired_state.base()
        free: set[str] = {e.record.id[:12] for e in networks}
        ready, rules = p.records.ready(), p.policies.at_once()
        for state, opened in p.records.sandboxes():
            # The kernel's thread runs this: to wait for the lock would be to wait for an operation
            # that waits for this thread.
            with self.sandboxes.try_hold(opened.sandbox.id) as ours:
                if not ours or state != READY:
                    self.had_operations = True
                    continue
                records = ready(opened.sandbox.id)
                joined = self._joined(records, networks)
                if self.chosen and not joined:
                    continue
                access = p.policies.resolve(joined, rules)
                desired |= p.desired_state.endpoints(opened.sandbox, joined, access)
                p.policies.set_applied(access)
                free |= {r.id[:12] for r in records}
        rows = unread(p)
        return without_kept(p.converger, desired, rows), free - rows.unclear - rows.lost, rows

    def _left_behind(self, desired: State, free: set[str], rows: Unread) -> State:
        """What has a mark of no row; and parts without marks of what is ours, unless rows are in
        between, whose parts they may be."""
        out: dict[Key, Resource] = {}
        for key, r in self.marked(self.parts.desired_state.prefix).items():
            if key in desired:
                continue
            network, endpoint = rows.parse(r)
            free_now = not self.had_operations and (endpoint or network) in free
            if network != GLOBAL_OWNER and (rows.gone(r) or free_now):
                out[key] = r
        return out

    def _joined(
        self, records: list[EndpointRecord], networks: list[NetworkEntry]
    ) -> list[AttachedEndpoint]:
        known = {e.record.id: e for e in networks}
        return [AttachedEndpoint(known[r.network], r) for r in records if r.network in known]

    def _stale(self, desired: State, free: set[str], rows: Unread) -> State:
        p = self.parts
        out: dict[Key, Resource] = {}
        found = p.converger.owned(p.desired_state.prefix, policy=True)
        # A copy of a rule is recognised as one once the rule itself is there.
        whole = all(key in found for key, r in desired.items() if isinstance(r, Rule))
        for key, r in found.items():
            if key in desired:
                continue
            if isinstance(r, Stray):
                if whole:
                    out[key] = r
                continue
            # A chain has no comment that could hold a mark.  Its endpoint is in its name; one that
            # has a row in any state is left alone: its operation may just have made the chain.
            # Without an endpoint it is of all networks, and stale once none of them needs it.
            if isinstance(r, Chain):
                endpoint = p.desired_state.firewall.owns_chain(r.name)
                if endpoint is None or not any(id.startswith(endpoint) for id in rows.endpoints):
                    out[key] = r
                continue
            network, endpoint = rows.parse(r)
            if network == GLOBAL_OWNER:  # perhaps needed by a network in creation
                stale = not self.had_operations and not rows.keeps(r)
            else:
                # `free`: no operation on it is in progress, which might need this.  `gone`: it has
                # no row in any state.
                stale = (endpoint or network) in free or rows.gone(r)
            if stale:
                out[key] = r
        return out
