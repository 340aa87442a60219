"""netkit's networks as the front ends see them: with events, and pruning by filters."""

from __future__ import annotations

from collections.abc import Callable

from netkit.errors import Conflict, Forbidden, InvalidSpec, NotFound
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, NetworkRecord, NetworkSpec
from runtime.clock import epoch_ns, parse_moment
from runtime.ports import Filters
from runtime.ports.engine import Events


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
        if unknown := set(filters) - {"until", "label", "label!"}:
            raise InvalidSpec(f"invalid filter '{sorted(unknown)[0]}'")
        limits = [parse_moment(t) for t in filters.get("until", ())]
        removed = []
        for record in self._service.all():
            old = all(epoch_ns(record.created) / 1e9 < limit for limit in limits)
            if record.builtin or not old or not _labelled(record, filters):
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


def _labelled(record: NetworkRecord, filters: Filters) -> bool:
    def has(text: str) -> bool:
        key, eq, value = text.partition("=")
        return key in record.spec.labels and (not eq or record.spec.labels[key] == value)

    return all(map(has, filters.get("label", ()))) and not any(map(has, filters.get("label!", ())))
