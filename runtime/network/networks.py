"""Implement the API's network calls on netkit's networks, with events and prune."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec

from netkit.errors import Conflict, Forbidden, KernelError, NoRoom, NotFound, Unreachable
from netkit.network.address_use import SubnetUse
from netkit.network.api import Networks
from netkit.network.remote import SCOPE_GLOBAL
from netkit.spec import CreatedNetwork, EndpointRecord, NetworkRecord, NetworkSpec
from runtime import limits
from runtime.events import Events
from runtime.filters import Filters, PrunedNetworks, PruneFilter
from runtime.footprint import estimate
from runtime.network import planned

log = logging.getLogger("netkit.networks")


class NetworksService:
    """Implements ports.Networks."""

    def __init__(
        self,
        service: Networks,
        events: Events,
        peers: Callable[[NetworkRecord], list[dict[str, str]]] = lambda _: [],
        defaults: Mapping[str, Mapping[str, str]] = MappingProxyType({}),  # options by driver
    ) -> None:
        self.findings: list[Callable[[Sequence[str]], list[str]]] = []
        """What `drift` finds besides, of networks by name, or of all where none is named."""
        self._service = service
        self._events = events
        self._peers = peers
        self._defaults = defaults
        self.completed: Callable[[NetworkSpec], NetworkSpec] = lambda spec: spec
        """With what other hosts have of a network of that name."""
        self.kept: Callable[[NetworkRecord], bool] = lambda _: False  # `prune` leaves these

    def create(self, spec: NetworkSpec) -> CreatedNetwork:
        created = self._service.create(self._admitted(spec))
        self._emit("create", created.record)
        return created

    def _admitted(self, spec: NetworkSpec) -> NetworkSpec:
        """With the options that the daemon and other hosts give it.  NoRoom."""
        if defaults := self._defaults.get(spec.driver):
            spec = replace(spec, options={**defaults, **spec.options})
        spec = self.completed(spec)
        self._check_room(spec)
        return spec

    def plan(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        return planned.repair(self._service.plans.repair(refs))

    def plan_creation(self, spec: NetworkSpec) -> dict[str, Any]:
        return planned.creation(self._service.plans.create(self._admitted(spec)))

    def plan_removal(self, ref: str) -> dict[str, Any]:
        return planned.removal(*self._service.plans.remove(ref))

    def _check_room(self, spec: NetworkSpec) -> None:
        """NoRoom beyond the bound on memory: labels and options of networks are kept in it."""
        held = sum(estimate(msgspec.json.encode(r.spec)) for r in self._service.all())
        size = estimate(msgspec.json.encode(spec))
        if held + size > limits.NETWORKS_BYTES:
            raise NoRoom(
                f"no room for network {spec.name} of {size} bytes: all networks may take "
                f"{limits.NETWORKS_BYTES} bytes of memory, and take {held}: remove networks, or "
                "give less labels"
            )

    def reconfigure(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord:
        return self._service.reconfigure(ref, options, gateway=gateway)

    def remove(self, ref: str) -> NetworkRecord:
        record = self._service.remove(ref)
        self._emit("destroy", record)
        return record

    def find(self, ref: str) -> NetworkRecord:
        return self._service.find(ref)

    def all(self) -> list[NetworkRecord]:
        return self._service.all()

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        return self._service.endpoints(network=network, sandbox=sandbox)

    def endpoints_of(self, sandboxes: Sequence[str]) -> list[EndpointRecord]:
        return self._service.endpoints_around((), sandboxes)

    def occupied(self) -> set[str]:
        return self._service.occupied()

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        return self._peers(record)

    def address_use(self, record: NetworkRecord) -> Sequence[SubnetUse]:
        return self._service.address_use([record.id])

    def drift(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        checked = self._service.check_links(refs)
        drifts = [
            {
                "Network": d.wanted.network,
                "Container": d.wanted.container,
                "Step": str(d),
                "Note": d.note,
            }
            for d in sorted(checked.drifts, key=lambda d: (d.wanted.network, d.wanted.container))
        ]
        names = [self._service.find(ref).spec.name for ref in refs]
        findings = [line for look in self.findings for line in look(names)]
        return {"Drift": drifts, "Findings": [*checked.failures, *findings]}

    def prune(self, filters: Filters) -> PrunedNetworks:
        pruning = PruneFilter(filters)
        removed: list[str] = []
        stay: dict[str, list[str]] = {}  # why, and which
        silent = ""  # error of an unreachable cluster: waited for once, local networks first
        for record in sorted(self._service.all(), key=_shared):
            if record.builtin or self.kept(record):
                continue
            if not pruning.matches(record.created, record.spec.labels):
                continue
            if self._service.endpoints(network=record.id):
                continue
            name = record.spec.name
            if silent and _shared(record):
                stay[silent].append(name)
                continue
            try:
                self.remove(record.id)
            except (Conflict, Forbidden, NotFound):
                continue  # in use or removed meanwhile
            except KernelError as error:
                stay.setdefault(str(error), []).append(name)
                if isinstance(error, Unreachable) and _shared(record):
                    silent = str(error)
            else:
                removed.append(name)
        warnings = [f"not removed: {', '.join(names)}: {why}" for why, names in stay.items()]
        if warnings and not removed:
            raise KernelError("; ".join(warnings))
        for warning in warnings:
            log.warning("network prune: %s", warning)
        self._events.emit("network", "prune", "", {"reclaimed": "0"})
        return PrunedNetworks(removed, warnings)

    def _emit(self, action: str, record: NetworkRecord) -> None:
        what = {"name": record.spec.name, "type": record.spec.driver}
        self._events.emit("network", action, record.id, what)


def _shared(record: NetworkRecord) -> bool:
    return record.spec.scope == SCOPE_GLOBAL
