"""Databases of older versions of netkitd are read without a loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netkit.ipam.dhcp_leases import StoredLease
from netkit.model import Netns
from netkit.network.access import AccessRule
from netkit.network.endpoint_store import SandboxRecord
from netkit.network.remote import RemoteState
from netkit.spec import EndpointRecord, NetworkRecord
from netkit.store import Database
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from tests import databases
from tests.unit.netkit.network.fault_bench import LOWEST
from tests.unit.netkit.network.test_unreadable_rows import LIVE, Town

DOCUMENTS: dict[str, Any] = {
    "networks": NetworkRecord,
    "endpoints": EndpointRecord,
    "sandboxes": SandboxRecord,
    "access": AccessRule,
    "around": RemoteState,
    "dhcp_leases": StoredLease,
    "container": Container,
}
FILES = ("2026-11-networks.json", "2026-11-engine.json")


def documents() -> Iterator[Any]:
    for name in FILES:
        for table, rows in databases.tables(name).items():
            if docs := [row["doc"]["json"] for row in rows if "doc" in row]:
                yield pytest.param(table, docs, id=f"{name.removesuffix('.json')}-{table}")


def missing(old: Any, new: Any, where: str = "") -> list[str]:
    """List where `new` lacks or changes a value of `old`."""
    if isinstance(old, dict) and isinstance(new, dict):
        lost = [f"{where}.{k}" for k in old if k not in new]
        kept = [missing(v, new[k], f"{where}.{k}") for k, v in old.items() if k in new]
        return lost + [m for found in kept for m in found]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and old != new:
        pairs = enumerate(zip(old, new, strict=True))
        return [m for n, (was, now) in pairs for m in missing(was, now, f"{where}.{n}")]
    return [] if old == new else [f"{where}: {old} {new}"]


@pytest.mark.parametrize(("table", "docs"), list(documents()))
def test_a_document_keeps_all_it_says(table: str, docs: list[dict[str, Any]]) -> None:
    for doc in docs:
        read = msgspec.json.decode(json.dumps(doc), type=DOCUMENTS[table])
        assert missing(doc, json.loads(msgspec.json.encode(read))) == []


def test_every_kind_of_document_is_there() -> None:
    found = {t for name in FILES for t, rows in databases.tables(name).items()
             if any("doc" in row for row in rows)}  # fmt: skip
    assert found == DOCUMENTS.keys()


def test_missing_sees_what_is_lost() -> None:
    assert missing({"a": {"b": 1}}, {"a": {"c": 1}}) == [".a.b"]
    assert missing({"a": [1]}, {"a": [2]}) == [".a.0: 1 2"]
    assert missing({"a": [1]}, {"a": []}) == [".a: [1] []"]


def test_networks_go_on_as_they_were(tmp_path: Path) -> None:
    rows = databases.tables("2026-11-networks.json")
    (port,) = {p["host_port"] for row in rows["endpoints"] for p in row["doc"]["json"]["ports"]}
    path = tmp_path / "db"
    databases.restore("2026-11-networks.json", path, {str(port): str(LOWEST + 61)})
    town = Town(path)
    for sandbox in LIVE.values():  # the containers live
        town.kernel.things["netns", sandbox.ns] = Netns(path=sandbox.ns)
    try:
        town.net.restore(LIVE)
        assert not list(town.database.left_out())
        assert town.net.refused() == {}
        assert sorted(r.spec.name for r in town.net.all() if not r.builtin) == sorted(
            row["name"] for row in rows["networks"] if not row["doc"]["json"]["builtin"]
        )
        assert {e.id for e in town.net.endpoints()} == {row["id"] for row in rows["endpoints"]}
        assert {r.id for r in town.net.access()} == {row["id"] for row in rows["access"]}
        assert town.net.drift() == ()
        for sandbox in LIVE:
            town.net.close(sandbox)
        for record in town.net.all():
            if record.spec.scope == "global":
                town.net.global_networks.remove(record.id)
            elif not record.builtin:
                town.net.remove(record.id)
        town.net.repair()
        assert (town.net.drift(), town.net.endpoints()) == ((), [])
    finally:
        for holder in list(town.ports._by_holder):
            town.ports.release(holder)
        town.database.close()


def test_containers_are_found(tmp_path: Path) -> None:
    path = tmp_path / "db"
    databases.restore("2026-11-engine.json", path)
    database = Database(path)
    store = ContainerStore(database)
    names: Callable[[], list[str]] = lambda: sorted(c.name for c in store.all())  # noqa: E731
    assert names() == ["db", "done", "idle", "web"]
    assert store.unreadable == {}
    assert store.find("web").config.hostname == "www"
    assert store.find("done").state.exit_code == 3
    database.close()
