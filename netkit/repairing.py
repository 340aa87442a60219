"""What the firewall should be at this moment, for putting right what somebody else changed.

Made while no change of ours is under way in the kernel, from rows alone:

    ready rows          what they say should be there, and nothing else of theirs
    rows in between     (an operation has begun, its change has come or will) are left alone
    no row              rules marked ours are of nobody: an old dump was restored
    strays              rules without a mark where only ours belong, or copies of ours: never right
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from netkit.allocating import Parts
from netkit.converge import Change
from netkit.entry import Entry
from netkit.errors import NetkitError, Unreachable
from netkit.joining import Joined
from netkit.locks import Locks
from netkit.model import Chain, Key, Resource, Rule, State, Stray
from netkit.plan import Plan
from netkit.records import READY
from netkit.spec import EndpointRecord

GLOBAL = "global"
TREE_ID = 8  # digits of an endpoint's id in the names of its chains


def nothing(_prefix: str) -> State:
    return {}


def repair_driver(
    parts: Parts, sandboxes: Locks, driver: str, marked: Callable[[str], State]
) -> tuple[Plan, bool]:
    """What is too much goes first, for it may be in the way; and where not everything can be had,
    each network has what it can have by itself.

    The steps taken, and whether anybody was at work; an error is the first one.
    """
    repair, late = Repair(parts, sandboxes, driver, marked), parts.converger.converge_late
    swept, busy = late(repair.sweep), repair.busy
    try:
        return swept + late(repair.change), busy or repair.busy
    except Unreachable:
        raise
    except NetkitError:
        for entry in (e for e in parts.catalog.all() if e.record.spec.driver == driver):
            with suppress(NetkitError):
                late(partial(repair.one, entry.record.id))
        raise


@dataclass(slots=True)
class Repair:
    """`change` is for the kernel's thread; `busy` tells afterwards if anything was left out.

    With a `driver`, of all that its networks need, or one of them; else of the firewall alone.
    `marked` finds, of what the driver keeps elsewhere, all with our mark.
    """

    parts: Parts
    sandboxes: Locks
    driver: str = ""
    marked: Callable[[str], State] = nothing
    busy: bool = False

    def change(self) -> Change:
        desired, free = self._wanted()
        if self.driver:
            return Change.of(desired)
        desired = {k: r for k, r in desired.items() if r.policy}
        stale = self._stale(desired, free)
        return Change.of(desired, {**stale, **desired})

    def sweep(self) -> Change:
        """What is too much in `marked`, away."""
        return Change.of({}, self._left_behind(*self._wanted()))

    def one(self, network: str) -> Change:
        """As `change`, of this network alone."""
        return Change.of(self._wanted(network)[0])

    def _wanted(self, network: str = "") -> tuple[dict[Key, Resource], set[str]]:
        """Also the ids, shortened, of what nobody is at work on."""
        self.busy = False
        p = self.parts
        unfinished = {entry.record.id for _, entry in p.catalog.unfinished()}
        networks = [e for e in p.catalog.all() if e.record.id not in unfinished]
        if network:
            networks = [e for e in networks if e.record.id == network]
        if self.driver:
            networks = [e for e in networks if e.record.spec.driver == self.driver]
        self.busy |= bool(unfinished)
        desired: dict[Key, Resource] = dict(p.wiring.networks(networks))
        if not self.driver:
            desired |= p.wiring.setup()
        free: set[str] = {e.record.id[:12] for e in networks}
        for state, opened in p.records.sandboxes():
            with self.sandboxes.attempt(opened.sandbox.id) as ours:
                if not ours or state != READY:
                    self.busy = True
                    continue
                records = p.records.of(sandbox=opened.sandbox.id, ready=True)
                joined = self._joined(records, networks)
                if self.driver and not joined:
                    continue
                access = p.policies.wanted(joined)
                desired |= p.wiring.endpoints(opened.sandbox, joined, access)
                p.policies.note(access)
                free |= {r.id[:12] for r in records}
        return desired, free

    def _left_behind(self, desired: dict[Key, Resource], free: set[str]) -> dict[Key, Resource]:
        """What has a mark of no row; and parts without marks of what is ours, unless rows are in
        between, whose parts they may be."""
        rows = {r.id[:12] for r in self.parts.records.of()}
        known = {e.record.id[:12] for _, e in self.parts.catalog.unfinished()}
        known |= {e.record.id[:12] for e in self.parts.catalog.all()}
        out: dict[Key, Resource] = {}
        for key, r in self.marked(self.parts.wiring.prefix).items():
            if key in desired:
                continue
            network, _, endpoint = (
                (r.owner or "").removeprefix(self.parts.wiring.prefix).partition(":")
            )
            gone = endpoint not in rows if endpoint else network not in known
            if network != GLOBAL and (gone or (not self.busy and (endpoint or network) in free)):
                out[key] = r
        return out

    def _joined(self, records: list[EndpointRecord], networks: list[Entry]) -> list[Joined]:
        known = {e.record.id: e for e in networks}
        return [(known[r.network], r) for r in records if r.network in known]

    def _stale(self, desired: dict[Key, Resource], free: set[str]) -> dict[Key, Resource]:
        p = self.parts
        rows = {r.id[:12] for r in p.records.of()}
        nets = {e.record.id[:12] for e in p.catalog.all()}
        nets |= {e.record.id[:12] for _, e in p.catalog.unfinished()}
        out: dict[Key, Resource] = {}
        found = p.converger.owned(p.wiring.prefix, policy=True)
        # A copy of a rule is recognised as one once the rule itself is there.
        whole = all(key in found for key, r in desired.items() if isinstance(r, Rule))
        for key, r in found.items():
            if key in desired:
                continue
            if isinstance(r, Stray):
                if whole:
                    out[key] = r
                continue
            if isinstance(r, Chain):  # of one endpoint, by its name
                if not any(row[:TREE_ID] in r.name for row in rows):
                    out[key] = r
                continue
            network, _, endpoint = (r.owner or "").removeprefix(p.wiring.prefix).partition(":")
            whose = endpoint or network
            if whose == GLOBAL:  # what a network that is being made stands on, perhaps
                stale = not self.busy
            else:
                stale = whose in free or whose not in (rows if endpoint else nets)
            if stale:
                out[key] = r
        return out
