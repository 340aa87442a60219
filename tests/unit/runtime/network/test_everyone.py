"""Containers of netkit and of other engines, by name and id."""

from __future__ import annotations

from pathlib import Path

import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.spec import EndpointRecord, EndpointSpec, PortMapping, Sandbox
from netkit.store import Database
from runtime.container.store import ContainerStore
from runtime.network.everyone import Everyone

NET = "a" * 64


def endpoint(
    sandbox: str, name: str, container: str = "", engine: str = "docker"
) -> EndpointRecord:
    return EndpointRecord(
        id=sandbox, network=NET, sandbox=sandbox, owner_name=name, engine=engine,
        container=container, spec=EndpointSpec(network=NET),
        ports=(PortMapping(proto="tcp", container_port=80, host_ip="0.0.0.0", host_port=8080),),
    )  # fmt: skip


class Networks:
    def __init__(self, *records: EndpointRecord) -> None:
        self.records = records

    def all(self) -> list[object]:
        return []

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        return [r for r in self.records if sandbox in {None, r.sandbox, r.container}]

    def sandbox(self, id: str) -> Sandbox | None:
        return Sandbox(id=id, name="", ns=f"/ns/{id[0]}", engine="docker")


def everyone(tmp_path: Path, *records: EndpointRecord) -> Everyone:
    store = ContainerStore(Database(tmp_path / "db"))
    return Everyone(store, Networks(*records), lambda id: f"/own/{id}")  # type: ignore[arg-type]


def test_one_container_with_two_endpoints_is_one(tmp_path: Path) -> None:
    all_ = everyone(tmp_path, endpoint("1" * 64, "web", "c1"), endpoint("2" * 64, "web", "c1"))
    (found,) = all_.all()
    assert (found.id, found.name, found.state.alive) == ("c1", "web", True)
    assert all_.find("web").id == all_.find("/web").id == all_.find("c1").id == "c1"
    assert all_.namespace("c1") == "/ns/1"
    assert all_.namespace("9") == "/own/9"
    assert list(found.host_config.port_bindings or {}) == ["80/tcp"]


def test_one_that_is_not_known_by_its_engine_yet_is_known_by_its_sandbox(tmp_path: Path) -> None:
    all_ = everyone(tmp_path, endpoint("1" * 64, "docker-123"))
    assert all_.find("docker-123").id == "1" * 64
    assert all_.find("111").id == "1" * 64
    assert all_.get("1" * 64) is not None


def test_names_that_two_have_and_names_that_none_has(tmp_path: Path) -> None:
    all_ = everyone(tmp_path, endpoint("1" * 64, "web"), endpoint("2" * 64, "web", engine="cni"))
    with pytest.raises(InvalidSpec, match="several containers of other engines are web"):
        all_.find("web")
    with pytest.raises(NotFound, match="No such container: shop"):
        all_.find("shop")
    own = endpoint("3" * 64, "own", engine="")
    assert everyone(tmp_path, own).all() == []
