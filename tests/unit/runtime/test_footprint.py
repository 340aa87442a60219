"""What clients send stays in memory within bounds: configurations of containers, execs, images
and networks, one by one and all together."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NetkitError, NoRoom, NotFound
from netkit.spec import CreatedNetwork, NetworkRecord, NetworkSpec
from netkit.store import Database
from runtime import limits
from runtime.container.arguments import check_arguments
from runtime.container.config import Config, EndpointSettings, HostConfig, Mount, PortBinding
from runtime.container.model import Container
from runtime.container.options import Exec, ExecConfig
from runtime.container.store import ContainerStore
from runtime.footprint import estimate
from runtime.images.store import ImageStore
from runtime.lifecycle.exec_store import ExecStore
from runtime.network.networks import NetworksService

COUNT = 4000


def container(id: str = "c", config: Any = None, host: Any = None, **more: Any) -> Container:
    return Container(
        id=id, name=id, created="", image="", config=Config(**config or {}),
        host_config=HostConfig(**host or {}), **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "large",
    [
        container(config={"labels": {f"{n:x}": "" for n in range(COUNT)}}),
        container(config={"env": [f"{n:x}" for n in range(COUNT)]}),
        container(config={"volumes": {f"/{n:x}": {} for n in range(COUNT)}}),
        container(config={"exposed_ports": {f"{n}/tcp": {} for n in range(COUNT)}}),
        container(host={"port_bindings": {f"{n}/tcp": [PortBinding()] for n in range(COUNT)}}),
        container(host={"port_bindings": {f"{n}/tcp": None for n in range(COUNT)}}),
        container(host={"tmpfs": {f"/{n:x}": "" for n in range(COUNT)}}),
        container(host={"mounts": [Mount(type="tmpfs", target=f"/{n}") for n in range(COUNT)]}),
        container(networks={f"{n:x}": EndpointSettings() for n in range(COUNT)}),
        container(config={"labels": {"a": "\u0394" * 100_000}}),
    ],
    ids=["labels", "env", "volumes", "exposed", "ports", "null ports", "tmpfs", "mounts",
         "networks", "one long value"],
)  # fmt: skip
def test_a_container_takes_no_more_memory_than_estimated(large: Container) -> None:
    document = msgspec.json.encode(large)
    decode = msgspec.json.Decoder(Container).decode
    decode(document)
    tracemalloc.start()
    kept = decode(document)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept == large
    assert taken < 1.1 * estimate(document)


def test_an_ordinary_container_counts_with_its_text() -> None:
    document = msgspec.json.encode(container(config={"env": ["A=b"] * 30}))
    assert estimate(document) < len(document) + 10_000


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db.sqlite")


def labelled(id: str, size: int) -> Container:
    return container(id, config={"labels": {"a": "b" * size}})


def test_containers_are_refused_once_they_fill_their_memory(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONTAINER_BYTES", 60_000)
    monkeypatch.setattr(limits, "CONTAINERS_BYTES", 100_000)
    store = ContainerStore(database)
    with pytest.raises(InvalidSpec, match=r"at most 0\.1 MiB"):
        store.add(labelled("huge", 70_000))
    first = labelled("first", 40_000)
    store.add(first)
    store.add(labelled("second", 40_000))
    with pytest.raises(NoRoom, match="remove containers") as refused:
        store.add(labelled("third", 40_000))
    assert refused.value.status == 507
    assert [c.id for c in ContainerStore(database).all()] == ["first", "second"]
    with pytest.raises(NoRoom):  # what is there counts after a start of the daemon, too
        ContainerStore(database).add(labelled("third", 40_000))
    first.state.error = "x" * 50_000  # what the engine has to write down it writes
    store.save(first)
    with pytest.raises(NoRoom):
        store.admit(labelled("second", 45_000))
    store.admit(labelled("second", 10))  # smaller always fits
    store.remove(first)
    store.add(labelled("third", 40_000))


def test_a_container_that_cannot_be_stored_leaves_its_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONTAINERS_BYTES", 60_000)
    store = ContainerStore(database)
    with monkeypatch.context() as broken:
        broken.setattr(database, "execute", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            store.add(labelled("first", 40_000))
    store.add(labelled("first", 40_000))


def exec_(id: str, size: int, *, running: bool = False) -> Exec:
    return Exec(id=id, container="c", config=ExecConfig(cmd=["a" * size]), running=running)


def test_execs_that_do_not_run_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXEC_BYTES", 60_000)
    monkeypatch.setattr(limits, "EXECS_BYTES", 100_000)
    store = ExecStore()
    with pytest.raises(InvalidSpec):
        store.add(exec_("huge", 70_000))
    store.add(exec_("run", 40_000, running=True))
    for n in range(5):
        store.add(exec_(f"idle{n}", 40_000))
        assert store.find(f"idle{n}").id == f"idle{n}"
    with pytest.raises(NotFound):
        store.find("idle3")
    store.find("idle4").running = True
    with pytest.raises(NoRoom, match="have to end first"):
        store.add(exec_("more", 40_000))
    assert store.running("c") == ["idle4", "run"]


def test_an_argument_is_what_the_kernel_takes() -> None:
    check_arguments("argument", ["\u0394" * (limits.ARGUMENT_BYTES // 2)])
    with pytest.raises(InvalidSpec, match=r"argument 'aaaa.* has 131072 bytes"):
        check_arguments("argument", ["a" * (limits.ARGUMENT_BYTES + 1)])


def test_images_are_refused_once_they_fill_their_memory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGES_BYTES", 100_000)

    def document(n: int, size: int = 40_000) -> bytes:
        config = {"Labels": {"a": "b" * size, "n": str(n)}}
        return json.dumps({"rootfs": {"type": "layers"}, "config": config}).encode()

    store = ImageStore(tmp_path / "images", database, lambda _: [])
    ids = [store.add(document(n), [], []) for n in range(2)]
    assert [store.add(document(n), [], []) for n in range(2)] == ids  # the same ones again
    with pytest.raises(NoRoom, match="remove images"):
        store.add(document(2), [], [])
    again = ImageStore(tmp_path / "images", database, lambda _: [])
    with pytest.raises(NoRoom):
        again.add(document(2), [], [])
    assert sorted(image.id for image in again.all()) == sorted(ids)
    again.remove(ids[0], force=False, prune=True)
    again.add(document(2), [], [])


def test_networks_are_refused_once_their_labels_fill_their_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "NETWORKS_BYTES", 100_000)
    there: list[NetworkRecord] = []

    def create(spec: NetworkSpec) -> CreatedNetwork:
        there.append(NetworkRecord(id=spec.name, spec=spec, created=""))
        return CreatedNetwork(there[-1], [])

    service: Any = SimpleNamespace(create=create, all=lambda: there)
    networks = NetworksService(service, SimpleNamespace(emit=lambda *_: None))  # type: ignore[arg-type]
    for name in ("a", "b"):
        networks.create(NetworkSpec(name=name, labels={"x": "y" * 40_000}))
    with pytest.raises(NetkitError, match=r"network c .* remove networks"):
        networks.create(NetworkSpec(name="c", labels={"x": "y" * 40_000}))
    networks.create(NetworkSpec(name="d"))
    assert [record.id for record in there] == ["a", "b", "d"]
