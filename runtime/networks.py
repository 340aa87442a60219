"""netkit's networks as the front ends see them: with events, and pruning by filters."""

from __future__ import annotations

from collections.abc import Callable

from netkit.errors import Conflict, Forbidden, NotFound
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, NetworkRecord, NetworkSpec
from runtime.ports import Filters
from runtime.ports.engine import Events
from runtime.pruning import Pruning


class EngineNetworks:
    """Implements ports.Networks."""

    def __init__(
        self,
        service: NetworkService,
        events: Events,
        peers: Callable[[NetworkRecord], list[dict[str, str]]] = lambda _: [],
    ) -> None:
        self._service = service
        self._events = events
        self._peers = peers

    def create(self, spec: NetworkSpec) -> tuple[NetworkRecord, list[str]]:
        record, warnings = self._service.create(spec)
        self._tell("create", record)
        return record, warnings

    def remove(self, ref: str) -> NetworkRecord:
        record = self._service.remove(ref)
        self._tell("destroy", record)
        return record

    def find(self, ref: str) -> NetworkRecord:
        return self._service.find(ref)

    def all(self) -> list[NetworkRecord]:
        return self._service.all()

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        return self._service.endpoints(network=network, sandbox=sandbox)

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        return self._peers(record)

    def prune(self, filters: Filters) -> list[str]:
        pruning = Pruning(filters)
        removed = []
        for record in self._service.all():
            if record.builtin or not pruning.takes(record.created, record.spec.labels):
                continue
            if self._service.endpoints(network=record.id):
                continue
            try:
                self.remove(record.id)
            except (Conflict, Forbidden, NotFound):
                continue  # somebody came to use it, or was faster
            removed.append(record.spec.name)
        return removed

    def _tell(self, action: str, record: NetworkRecord) -> None:
        what = {"name": record.spec.name, "type": record.spec.driver}
        self._events.emit("network", action, record.id, what)
