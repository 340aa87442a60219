"""Drift of our links, addresses, routes and neighbours, and its repair.

Left alone, and shown only:

    inside a container that has CAP_NET_ADMIN    it may have done that itself, and it may; unless
    or that another engine runs                  the host's end of its pair is missing as well
    an address of the host that was replaced     the link has one that it had not before: from the
                                                 next start on, docker0 has that one
    what exists and is not netkit's              another tool's link, route or neighbour
    what another tool changes again and again    until the pause is over: netkit.reconcile.backoff
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from netkit.errors import NetkitError
from netkit.model import (
    HOST,
    Addr,
    ConnectedRoute,
    IPInterface,
    Key,
    Link,
    Netns,
    Resource,
    Route,
    State,
    Sysctl,
)
from netkit.model.uplink import EnslavedNic
from netkit.network.deviation import ETHERNET, MISSING, Drift, LinkCheck, Wanted, changes, follows
from netkit.network.link_scope import Scope, Scopes
from netkit.reconcile.backoff import Attempts, Backoff
from netkit.reconcile.converge import Change, Converger
from netkit.reconcile.plan import Op, Plan

SOON = 0.4  # seconds until the next look at what an operation was in progress on
ADMINISTERED = "left alone: the container may change its own interfaces (CAP_NET_ADMIN)"
OF_ENGINE = "left alone: {}, which runs the container, may have changed its interfaces"
FOREIGN = "left alone: what is there is not netkit's"
REQUIRED = "must exist, and is not netkit's to create"
UNFOUNDED = "waits for what it needs"
UNNAMED = "waits until {} says whose it is, and has named the container's end"


@dataclass(slots=True)
class Repaired:
    """Outcome of one look.  `again`: when to look at these owners once more, if ever."""

    plan: Plan = ()
    scope: Scope = field(default_factory=Scope)
    drifts: list[Drift] = field(default_factory=list)
    again: dict[str, float] = field(default_factory=dict)
    attempts: dict[Key, Attempts] = field(default_factory=dict)


class Look(NamedTuple):
    """What is not as it should be, of what was looked at."""

    drifts: list[Drift]
    scope: Scope


class LinkDrift:
    """`addresses_of` lists the IPv4 addresses of a link of the host, whichever tool added them;
    `port_mtus` the MTUs of a bridge's ports, by name; `marked_links` the names of the host's links
    that bear one of these owner marks."""

    def __init__(
        self, converger: Converger, scopes: Scopes, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._converger = converger
        self._now = now
        self.scopes = scopes
        self.backoff = Backoff()
        self.addresses_of: Callable[[str], Iterable[IPInterface]] = lambda _: ()
        self.port_mtus: Callable[[str], Mapping[str, int]] = lambda _: {}
        self.marked_links: Callable[[Collection[str]], Collection[str]] = lambda _: ()
        self._others: dict[str, frozenset[IPInterface]] = {}  # by link, beside ours

    def look(self, owners: Collection[str] | None = None) -> Look:
        """What is not as it should be.  Nothing is changed; for the kernel's thread."""
        scope = self.scopes.of(owners)
        needed = {n for w in scope.things.values() for n in w.resource.needs
                  if n[0] in {"link", "netns"}}  # fmt: skip
        there = self._converger.observe({*scope.things, *needed})
        own = {w.near for w in scope.things.values() if w.administered and w.near}
        alone = self._converger.observe(own) if own else {}  # the near ends by themselves
        found = [
            d for w in scope.things.values() if (d := self._drift(w, scope, there, alone))
        ]  # fmt: skip
        return Look(_founded(found, there), scope)

    def _drift(self, w: Wanted, scope: Scope, there: State, alone: State) -> Drift | None:
        r, have = w.resource, there.get(w.resource.key)
        if any(n[0] == "netns" and n not in there for n in r.needs):
            return None  # the container has ended this moment
        if isinstance(r, ConnectedRoute) and not _routed(r, there):
            return None  # it comes with its address, or when the link is up
        if isinstance(r, Sysctl) and have is None and all(n in there for n in r.needs):
            return None  # the kernel has no such setting: no IPv6 below an MTU of 1,280 bytes
        if isinstance(r, Link) and isinstance(have, Link) and follows(r):
            r = self._sized(r, have, scope)
            w = replace(w, resource=r)
        names = changes(r, have) | self._parted(r, have)
        if (
            isinstance(r, EnslavedNic)
            and names == {"routed"}
            and not (_is_up(("link", HOST, r.bridge), there))
        ):
            return None  # its routes come back once the bridge is up: see `_change`
        if not names:
            if isinstance(r, Addr) and r.ns == HOST:
                self._others[r.dev] = self._beside(r.dev, scope)
            return None
        d = Drift(wanted=w, have=have, names=names)
        return replace(d, note=self._note(d, scope, alone))

    def _parted(self, r: Resource, have: Resource | None) -> frozenset[str]:
        """Is it the host's end of a pair whose far end is not in its namespace any more?"""
        if not isinstance(r, Link) or not isinstance(have, Link) or r.peer is None or have.peer:
            return frozenset()
        if r.peer.leaves:
            return frozenset()
        far: Key = ("link", r.peer.ns, r.peer.name)
        return frozenset() if far in self._converger.observe([far]) else frozenset({"peer"})

    def _sized(self, r: Link, have: Link, scope: Scope) -> Link:
        """`r`, a bridge, with the MTU that follows from its ports if `have` has another one."""
        if have.mtu == ETHERNET:
            return r
        ports = self.port_mtus(r.name)
        if have.mtu == min(ports.values(), default=ETHERNET):
            return r
        ours = {k[2]: w.resource.mtu for k, w in scope.things.items()
                if isinstance(w.resource, Link) and k[1] == HOST and w.resource.mtu}  # fmt: skip
        return replace(r, mtu=min((ours.get(p, n) for p, n in ports.items()), default=ETHERNET))

    def _note(self, d: Drift, scope: Scope, alone: State) -> str:
        w, r = d.wanted, d.wanted.resource
        if r.owner is None:
            return REQUIRED
        if d.have is None and r.key in scope.waiting:
            return UNNAMED.format(w.engine)
        if w.administered and w.near in alone:
            inside = getattr(r, "ns", HOST) != HOST
            if inside or (r.key == w.near and not changes(r, alone[w.near])):
                return OF_ENGINE.format(w.engine) if w.engine else ADMINISTERED
        if isinstance(r, Addr) and r.ns == HOST and d.have is None:
            new = self._beside(r.dev, scope) - self._others.get(r.dev, frozenset())
            if new:
                return f"left alone: {r.dev} was given {', '.join(map(str, sorted(new)))} instead"
        if _is_foreign(d.have, d.names):
            return FOREIGN
        attempts = self.backoff.of(d.thing, now := self._now())
        if attempts is not None and now < attempts.next:
            return _pause(attempts, now)
        return ""

    def _beside(self, dev: str, scope: Scope) -> frozenset[IPInterface]:
        """Addresses of a link of the host, without ours."""
        ours = {
            w.resource.address
            for w in scope.things.values()
            if isinstance(w.resource, Addr) and (w.resource.ns, w.resource.dev) == (HOST, dev)
        }
        return frozenset(a for a in self.addresses_of(dev) if a not in ours)

    # -- repair ------------------------------------------------------------

    def repair(self, owners: Collection[str] | None = None) -> Repaired:
        """Repair drift; where that fails as a whole, owner by owner."""
        out = Repaired()
        try:
            self._converge(out, owners)
        except NetkitError as error:
            todo = {str(d.wanted.resource.owner) for d in out.drifts if not d.note}
            if not todo:  # the look itself failed
                raise
            for owner in sorted(todo):
                self._one(out, owner, error if len(todo) == 1 else None)
        else:
            self._attempted(out, [d for d in out.drifts if not d.note])
        for d in out.drifts:
            attempts = self.backoff.of(d.thing, self._now())
            if attempts is not None and (attempts.count > 1 or attempts.error):
                _earlier(out.again, str(d.wanted.resource.owner), attempts.next)
        waiting = (d.wanted.resource for d in out.drifts if d.have is None)
        unnamed = {str(r.owner) for r in waiting if r.key in out.scope.waiting}
        for owner in out.scope.busy | unnamed:
            _earlier(out.again, owner, self._now() + SOON)
        return out

    def _one(self, out: Repaired, owner: str, error: NetkitError | None) -> None:
        mine = [d for d in out.drifts if not d.note and d.wanted.resource.owner == owner]
        if error is None:
            part = Repaired()
            try:
                self._converge(part, [owner], only=owner)
            except NetkitError as bad:
                error = bad
            out.plan += part.plan
        self._attempted(out, mine, str(error or ""))

    def _converge(self, out: Repaired, owners: Collection[str] | None, only: str = "") -> None:
        late = self._converger.converge_lazily
        misplaced: dict[Key, Resource] = {}

        def first() -> Change:
            change = self._change(out, owners, only)
            misplaced.update(self._misplaced(out, only))
            return Change.of({}, misplaced) if misplaced else change

        out.plan = late(first)
        if misplaced:  # the names of pairs are free now
            out.plan += late(lambda: self._change(out, owners, only))

    def _misplaced(self, out: Repaired, only: str) -> State:
        """Links that another tool has renamed or moved, by their marks, and ends without the other.

        They are deleted, and made anew where they should be.
        """
        drifts = [d for d in out.drifts if not d.note and isinstance(d.wanted.resource, Link)
                  and only in {"", d.wanted.resource.owner}]  # fmt: skip
        parted = {d.have.key: d.have for d in drifts if d.have is not None and "peer" in d.names}
        lost = [d.wanted.resource for d in drifts if d.have is None]
        if not lost:
            return parted
        shared = self.scopes.shared_owner  # also of networks that are not in the scope
        owners = {(str(r.owner), r.kind) for r in lost if isinstance(r, Link) and r.owner != shared}
        keys: set[Key] = {("link", HOST, n) for n in self.marked_links({o for o, _ in owners})}
        ends = [out.scope.pairs.get(r.key, r) for r in lost]
        keys |= {("link", r.peer.ns, r.peer.name) for r in ends if isinstance(r, Link) and r.peer}
        seen = self._converger.observe(keys - out.scope.things.keys())
        found = {k: r for k, r in seen.items() if isinstance(r, Link)
                 and (str(r.owner), r.kind) in owners}  # fmt: skip
        here = {r.owner for r in found.values() if r.ns == HOST}  # the other end goes with it
        return parted | {k: r for k, r in found.items() if r.ns == HOST or r.owner not in here}

    def _attempted(self, out: Repaired, drifts: Iterable[Drift], error: str = "") -> None:
        lost = {d.wanted.resource.key for d in out.drifts}
        for d in drifts:
            r = d.wanted.resource
            if not lost.intersection(r.needs):  # what only went with another thing does not count
                out.attempts[r.key] = self.backoff.note(d.thing, self._now(), error)

    def _change(self, out: Repaired, owners: Collection[str] | None, only: str = "") -> Change:
        out.drifts, out.scope = self.look(owners)
        desired: dict[Key, Resource] = {}
        for d in (d for d in out.drifts if not d.note):
            w, r = d.wanted, d.wanted.resource
            if only and r.owner != only:
                continue
            if d.have is None and r.key in out.scope.pairs:
                r = out.scope.pairs[r.key]
                if not self._converger.observe(n for n in r.needs if n[0] == "netns"):
                    continue  # the container has ended
            desired[r.key] = r
            if isinstance(r, Link) and r.peer and r.peer.ns != HOST and not w.administered:
                inside = Netns(path=r.peer.ns, owner=r.owner)  # or the far end is not seen
                desired[inside.key] = inside
        risen = {d.wanted.resource.key[2] for d in out.drifts
                 if not d.note and "up" in d.names}  # fmt: skip
        for w in out.scope.things.values():  # their routes went when the bridge was set down
            if isinstance(w.resource, EnslavedNic) and w.resource.bridge in risen and (
                not only or w.resource.owner == only
            ):  # fmt: skip
                desired[w.resource.key] = w.resource
        missing = {d.wanted.resource.key for d in out.drifts if d.have is None}
        made = {k for k, r in desired.items() if isinstance(r, Link) and k in missing}
        desired |= {r.key: r for r in out.scope.inside.values() if made.intersection(r.needs)}
        # A switch does not notice that the link of a port was replaced: the repair of
        # the link makes the port anew.
        anew = {
            k: w.resource
            for k, w in out.scope.beside.items()
            if made.intersection(w.resource.needs)
        }
        return Change.of(desired, anew)

    def check(self, owners: Collection[str] | None = None) -> LinkCheck:
        """Compare the host with the rows, also in what is no link (Open vSwitch)."""
        out, failures = Repaired(), []

        def nothing() -> Change:
            out.drifts, out.scope = self.look(owners)
            return Change.of({})

        late = self._converger.converge_lazily
        late(nothing, dry=True)
        beside = {k: w.resource for k, w in out.scope.beside.items()}
        try:
            plan = late(lambda: Change.of(beside), dry=True) if beside else ()
        except NetkitError as error:
            plan, failures = (), [str(error)]
        for op in plan:
            w = out.scope.beside[op.subject.key]
            names = changes(w.resource, op.before)
            out.drifts.append(Drift(wanted=w, have=op.before, names=names))
        return LinkCheck(out.drifts, failures)

    # -- for others that repair a whole driver -------------------------------

    def restrained(self, desired: State) -> State:
        """`desired` without what is to be left alone now, and what stands on that."""
        drifts = self.look({r.owner for r in desired.values() if r.owner}).drifts
        away = {d.wanted.resource.key for d in drifts if d.note}
        size = -1
        while len(away) != size:
            size = len(away)
            missing = {d.wanted.resource.key for d in drifts if d.have is None} & away
            away |= {k for k, r in desired.items() if any(n in missing for n in r.needs)}
        return {k: r for k, r in desired.items() if k not in away}

    def applied(self, plan: Plan) -> None:
        """Count the steps of a repair by others as attempts."""
        for op in plan:
            if op.after is not None and not op.subject.is_firewall:
                self.backoff.note((op.subject.key, _names(op)), self._now())


def _names(op: Op) -> frozenset[str]:
    return changes(op.after, op.before) if op.after is not None else MISSING


def _routed(r: ConnectedRoute, there: State) -> bool:
    """Whether the kernel should have such a route: the address is there, and the link up."""
    near = next(n for n in r.needs if n[0] == "link")
    return ("addr", r.ns, r.dev, str(r.address)) in there and _is_up(near, there)


def _is_up(link: Key, there: State) -> bool:
    have = there.get(link)
    return isinstance(have, Link) and bool(have.up)


def _is_foreign(have: Resource | None, names: frozenset[str]) -> bool:
    match have:
        case Link():
            return "owner" in names
        case EnslavedNic():
            return True  # a port of another bridge
        case Route():
            return have.ns == HOST and have.owner is None
    return False


def _founded(drifts: list[Drift], there: State) -> list[Drift]:
    """With a note on those whose links are neither there nor made anew with them."""
    made = {d.wanted.resource.key: d.wanted.resource for d in drifts if not d.note}
    size = -1
    while len(made) != size:
        size = len(made)
        made = {
            k: r for k, r in made.items()
            if all(n in there or n in made for n in r.needs if n[0] == "link")
        }  # fmt: skip
    return [
        d if d.note or d.wanted.resource.key in made else replace(d, note=UNFOUNDED) for d in drifts
    ]


def _pause(attempts: Attempts, now: float) -> str:
    why = f"failed: {attempts.error}" if attempts.error else "changed again by another tool"
    if attempts.insists and not attempts.error:
        why = f"another tool insists, repaired {attempts.count} times"
    return f"{why}; next attempt in {max(1, round(attempts.next - now))} s"


def _earlier(times: dict[str, float], owner: str, when: float) -> None:
    times[owner] = min(times.get(owner, when), when)
