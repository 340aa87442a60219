"""Change links, addresses, routes and settings of a running lab, by the planner of networks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.lab import fabric
from netkit.lab.impairing import plugged, wanted
from netkit.lab.links import End
from netkit.lab.model import UNDERLAY, Lab, LabHost, Places
from netkit.model import Addr, Key, Link, Resource, Route, State, state
from netkit.model.impairment import TwoWay
from netkit.reconcile.converge import Change, converge, fill_unobservable
from netkit.reconcile.plan import Plan, diff

MTU = 1500  # bytes: of a segment that has none in lab.yml


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What of the wires is changed.  Interfaces are (host, name).

    Of one in `links` the link alone, of one in `interfaces` its addresses and routes as well.
    """

    segments: Collection[str] = ()
    interfaces: Collection[tuple[str, str]] = ()
    links: Collection[tuple[str, str]] = ()
    routes: Collection[str] = ()  # hosts
    sysctls: Collection[str] = ()  # hosts

    def has(self, host: str, r: Resource) -> bool:
        match r:
            case Link() if r.peer is not None:
                mine = (host, r.peer.name)
                return mine in self.interfaces or mine in self.links
            case Addr():
                return (host, r.dev) in self.interfaces
            case Route():
                return (host, r.dev) in self.interfaces or host in self.routes
        return host in self.sysctls


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewiring:
    """From any of `old` to `new`.  `exact`: links have the usual MTU where none is given."""

    old: Sequence[Lab]
    new: Lab
    places: Places
    scope: Scope
    exact: bool = False

    def changes(self) -> tuple[Change, ...]:
        """In this order: addresses that others take the place of must go first, for the first
        address of a subnet takes the later ones with it."""
        desired = state(self._wires(self._sized()))
        before: dict[Key, Resource] = {}
        for lab in self.old:
            before |= {r.key: r for r in self._wires(lab)}
        added = {r.key[1:3] for k, r in desired.items() if isinstance(r, Addr) and k not in before}
        gone: dict[Key, Resource] = {
            k: r for k, r in before.items()
            if isinstance(r, Addr) and k not in desired and r.key[1:3] in added
        }  # fmt: skip
        gone |= {
            k: r for k, r in before.items()
            if isinstance(r, Route) and not gone.keys().isdisjoint(r.needs)
        }  # fmt: skip
        first = (Change.of({}, gone),) if gone else ()
        return (*first, Change.of(desired, before))

    def plan(self) -> Plan:
        """The steps, from what is there now."""
        seen: dict[Key, Resource] = {}
        changes = self.changes()
        known = {k: r for change in changes for k, r in change.known.items()}
        scope = frozenset().union(*(change.scope for change in changes))
        if netns.exists(self.places.netns(UNDERLAY)):
            seen |= fill_unobservable(self._kernel().observe(scope), known)
        out: list[Plan] = []
        for change in changes:
            now = {k: r for k, r in seen.items() if k in change.scope}
            out.append(steps := diff(change.desired, now, self._mine))
            for op in steps:
                seen.pop(op.subject.key, None)
                if op.after is not None:
                    seen[op.after.key] = op.after
        return tuple(op for steps in out for op in steps)

    def apply(self) -> Plan:
        """Do it; what is cut short is completed by the next one.  KernelError, Conflict."""
        kernel = self._kernel()
        return tuple(op for c in self.changes() for op in converge(c, kernel, self._mine))

    def _mine(self, r: Resource) -> bool:
        return r.owner == fabric.owner(self.new.name)

    def _kernel(self) -> Host:
        return Host(self.places.netns(UNDERLAY))

    def _sized(self) -> Lab:
        """A segment that had an MTU and has none any more gets the usual one."""
        sized = {s.name for lab in self.old for s in lab.segments if s.mtu or self.exact}
        return replace(
            self.new,
            segments=tuple(
                replace(s, mtu=s.mtu or (MTU if s.name in sized else None))
                for s in self.new.segments
            ),
        )

    def _wires(self, lab: Lab) -> Iterator[Resource]:
        there = [s for s in lab.segments if s.name in self.scope.segments]
        if there:
            yield from fabric.segments(replace(lab, segments=tuple(there)))
        ways = {link: way for link, way in wanted(lab, self.places).items() if way}
        for host in lab.hosts:
            for r in fabric.wires(lab, host, self.places.netns(host.name)):
                if self.scope.has(host.name, r):
                    yield self._plugged(lab, host, r, ways)

    def _plugged(
        self, lab: Lab, host: LabHost, r: Resource, ways: Mapping[str, TwoWay]
    ) -> Resource:
        """The end of a pair that is impaired is a port of its relay's, or down."""
        if not isinstance(r, Link) or r.peer is None:
            return r
        name = r.peer.name
        end = End(host=host, interface=next(i for i in host.interfaces if i.name == name))
        if str(end) not in ways:
            return r
        now = plugged(lab, self.places, end, ways[str(end)])
        return replace(r, master=now.master, up=now.up)


def new_wires(lab: Lab, places: Places, host: str) -> Plan:
    """The steps for a host that is not there."""
    found = lab.host(host)
    wires = fabric.wires(lab, found, places.netns(host)) if found else ()
    nothing: State = {}
    return diff(state(wires), nothing, lambda r: False)
