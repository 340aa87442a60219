"""Pruning where a server does not answer: the rest is removed, what stays is reported."""

from __future__ import annotations

from typing import Any, cast

import pytest

from netkit.errors import Forbidden, KernelError, Unreachable
from netkit.network.api import Networks
from netkit.spec import NetworkRecord, NetworkSpec
from runtime.network.networks import NetworksService

SILENT = "the cluster does not answer"


class Service:
    """Networks without endpoints; those of `errors` cannot be removed."""

    def __init__(self, *names: str, errors: dict[str, Exception]) -> None:
        self.there = [
            NetworkRecord(
                id=name * 8,
                spec=NetworkSpec(name=name, driver="ovs", scope=name.rstrip("0123456789")),
                created="2024-01-01T00:00:00Z",
            )
            for name in names
        ]
        self.errors = errors
        self.asked: list[str] = []

    def all(self) -> list[NetworkRecord]:
        return list(self.there)

    def endpoints(self, *, network: str) -> list[object]:
        return []

    def remove(self, id: str) -> NetworkRecord:
        record = next(r for r in self.there if r.id == id)
        self.asked.append(record.spec.name)
        if error := self.errors.get(record.spec.name):
            raise error
        self.there.remove(record)
        return record


class Events:
    def emit(self, *_: Any) -> None:
        """No subscriber."""


def pruned(service: Service) -> tuple[list[str], list[str]]:
    return NetworksService(cast(Networks, service), cast(Any, Events())).prune({})


def test_local_networks_go_and_the_cluster_is_asked_once() -> None:
    silent = Unreachable(SILENT, frozenset())
    service = Service("global1", "local1", "global2", "local2", errors={"global1": silent})
    removed, warnings = pruned(service)
    assert removed == ["local1", "local2"]
    assert warnings == [f"not removed: global1, global2: {SILENT}"]
    assert service.asked == ["local1", "local2", "global1"]


def test_a_network_that_is_used_elsewhere_is_not_reported() -> None:
    service = Service("global1", "global2", errors={"global1": Forbidden("active endpoints")})
    assert pruned(service) == (["global2"], [])


def test_one_that_cannot_be_removed_keeps_no_other() -> None:
    broken = KernelError("device is busy")
    service = Service("local1", "local2", "global1", errors={"local1": broken})
    removed, warnings = pruned(service)
    assert removed == ["local2", "global1"]
    assert warnings == ["not removed: local1: device is busy"]


def test_where_nothing_could_be_removed_it_is_an_error() -> None:
    service = Service("global1", "global2", errors={"global1": Unreachable(SILENT, frozenset())})
    with pytest.raises(KernelError, match=f"not removed: global1, global2: {SILENT}"):
        pruned(service)
