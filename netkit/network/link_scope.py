"""Compute desired links and what needs them, by owner mark: from rows, never the host."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from netkit.locks import KeyedLocks
from netkit.model import (
    HOST,
    Addr,
    ConnectedRoute,
    Fdb,
    Key,
    Link,
    Neigh,
    Resource,
    Route,
    State,
    Sysctl,
)
from netkit.model.openvswitch import Offload, PortOffload
from netkit.model.uplink import EnslavedNic
from netkit.model.vxlan import VxlanFdb
from netkit.network.desired import DesiredState
from netkit.network.deviation import Wanted, explicit
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import NO_NAMESPACE, READY, EndpointStore, SandboxRow
from netkit.network.entry import NetworkEntry
from netkit.network.handover import NAME_LABEL
from netkit.network.policy import PolicyResolver, RulesOn
from netkit.network.registry import NetworkRegistry
from netkit.network.unreadable_rows import GLOBAL_OWNER, SHORT
from netkit.spec import EndpointRecord, Sandbox

WIRES = (Link, Addr, ConnectedRoute, Route, Neigh, Fdb, EnslavedNic, Sysctl, Offload,
         PortOffload, VxlanFdb)  # fmt: skip


@dataclass(slots=True)
class Scope:
    """`busy`: owners left out since an operation is under way on them.

    `pairs`: how a pair is made of which another engine has taken over the far end, and `inside`
    what is made with it; `waiting`: pairs of which that is not known yet.
    `beside`: is there anything of these networks that is no link, and others look after?
    """

    admins: Collection[str] = frozenset()
    things: dict[Key, Wanted] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    beside: dict[Key, Wanted] = field(default_factory=dict)
    pairs: dict[Key, Link] = field(default_factory=dict)
    inside: dict[Key, Resource] = field(default_factory=dict)
    waiting: set[Key] = field(default_factory=set)

    def add(self, resources: Iterable[Resource], **about: object) -> None:
        found = [explicit(r) for r in resources if not r.is_firewall]
        for r in found:
            into = self.things if isinstance(r, WIRES) else self.beside
            into[r.key] = Wanted(resource=r, **about)  # type: ignore[arg-type]
            if isinstance(r, Addr) and r.address.version == 4 and r.address.network.prefixlen < 31:
                route = ConnectedRoute(
                    dev=r.dev, address=r.address, ns=r.ns, via=r.via, owner=r.owner
                )
                self.things[route.key] = Wanted(resource=route, **about)  # type: ignore[arg-type]


class _Rows(NamedTuple):
    """How they are read: each by itself, or all at once."""

    sandbox: Callable[[str], SandboxRow | None]
    rules: RulesOn | None = None


class Scopes:
    """`administered` gives the ids of sandboxes in which a process may have CAP_NET_ADMIN."""

    def __init__(
        self,
        registry: NetworkRegistry,
        records: EndpointStore,
        policies: PolicyResolver,
        desired_state: DesiredState,
        locks: KeyedLocks,
    ) -> None:
        self._registry = registry
        self._records = records
        self._policies = policies
        self.desired_state = desired_state
        self._locks = locks
        self.administered: Callable[[], Collection[str]] = frozenset

    @property
    def shared_owner(self) -> str:
        """The owner mark of what several networks need."""
        return f"{self.desired_state.prefix}{GLOBAL_OWNER}"

    def of(self, owners: Collection[str] | None = None) -> Scope:
        """What should exist with these marks, and what that stands on; None: everything."""
        registry, desired_state = self._registry, self.desired_state
        scope = Scope(admins=self.administered())
        unfinished = {e.record.id for _, e in registry.unfinished()} | registry.changing
        marks = None if owners is None else [self._parsed(o) for o in owners]
        rows = _Rows(self._records.sandbox)
        if marks is None:  # one query for all, not two for each
            rows = _Rows(self._records.opened(), self._policies.at_once())
        for entry in registry.all():
            mine = [m for m in marks or () if m[0] == entry.record.id[:SHORT]]
            if registry.is_driver_missing(entry) or (marks is not None and not mine):
                continue
            if entry.record.id in unfinished:
                scope.busy.add(entry.config.owner)
                continue
            resources = desired_state.networks([entry]).values()
            found = [r for r in resources if r.owner != self.shared_owner]
            scope.add(found, network=entry.name)
            whole = marks is None or any(not m[1] for m in mine)
            self._endpoints(scope, entry, rows, None if whole else {m[1] for m in mine})
        if marks is None or any(m[0] == GLOBAL_OWNER for m in marks):
            ready = [e for e in registry.all() if e.record.id not in unfinished]
            ready = [e for e in ready if not registry.is_driver_missing(e)]
            shared = {**desired_state.base(), **desired_state.networks(ready)}.values()
            scope.add((r for r in shared if r.owner == self.shared_owner), network="")
        return scope

    def _parsed(self, owner: str) -> tuple[str, str]:
        network, _, endpoint = owner.removeprefix(self.desired_state.prefix).partition(":")
        return network, endpoint

    def _endpoints(
        self, scope: Scope, entry: NetworkEntry, rows: _Rows, only: Collection[str] | None
    ) -> None:
        for record in self._records.of_sandbox(network=entry.record.id, ready=True):
            if only is not None and record.id[:SHORT] not in only:
                continue
            with self._locks.try_hold(record.sandbox) as ours:
                row = rows.sandbox(record.sandbox) if ours else None
                if row is None or row.state != READY:
                    scope.busy.add(f"{entry.config.owner}:{record.id[:SHORT]}")
                    continue
                joined = [AttachedEndpoint(entry, record)]
                access = self._policies.resolve(joined, rows.rules)
                made = self.desired_state.endpoints(row.opened.sandbox, joined, access)
                if (sandbox := row.opened.sandbox).handover:
                    self._far_end(scope, sandbox, entry, record, made)
            self._add(scope, entry, record, list(made.values()))

    def _far_end(
        self, scope: Scope, sandbox: Sandbox, entry: NetworkEntry, record: EndpointRecord,
        made: State,
    ) -> None:  # fmt: skip
        """How it is made where another tool deleted it, once that is known of all of a container's:
        which of them has the default route depends on the others."""
        if sandbox.ns == NO_NAMESPACE:
            return  # as it was made at first: in netkitd's
        beside = self._records.of_namespace(sandbox.ns)
        if not all(r.ifname and r.container for r in beside):
            scope.waiting |= {key for key, r in made.items() if isinstance(r, Link) and r.peer}
            return
        pair, inside = self.desired_state.made_inside(sandbox, entry, record)
        taken = self._routed_before(entry, beside) if inside else ()
        scope.pairs |= pair
        scope.inside |= {k: r for k, r in inside.items() if r.key not in taken}

    def _routed_before(
        self, entry: NetworkEntry, beside: Iterable[EndpointRecord]
    ) -> Collection[Key]:
        """Routes that a container has by another network, whose name sorts before this one's.

        That one's pair may be there, or be repaired by another look.
        """
        taken: set[Key] = set()
        for other in beside:
            row, by = self._records.sandbox(other.sandbox), self._registry.get(other.network)
            if row is None or self._registry.is_driver_missing(by):
                continue
            if _called(by) < _called(entry):
                _, inside = self.desired_state.made_inside(row.opened.sandbox, by, other)
                taken |= {r.key for r in inside.values() if isinstance(r, Route)}
        return taken

    def _add(
        self, scope: Scope, entry: NetworkEntry, record: EndpointRecord, made: list[Resource]
    ) -> None:
        scope.add(
            made,
            network=entry.name,
            container=record.owner_name,
            near=next(_near(made), None),
            engine=record.engine,
            administered=record.sandbox in scope.admins or bool(record.engine),
        )


def _called(entry: NetworkEntry) -> str:
    """The network's name in the engine that it was made for."""
    return entry.record.spec.labels.get(NAME_LABEL, entry.name)


def _near(resources: Iterable[Resource]) -> Iterator[Key]:
    return (
        r.key
        for r in resources
        if isinstance(r, Link) and r.ns == HOST and r.peer is not None and r.peer.ns != HOST
    )
