"""What a start does at once, and what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.container.model import Container
from tests.unit.runtime.lifecycle import container_world
from tests.unit.runtime.lifecycle.container_world import ID, World


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    world = World(tmp_path, monkeypatch)
    world.supervisor.create(world.container())
    yield world
    world.close()


def calls(world: World) -> list[str]:
    """What was called, in the order in which the calls began."""
    return [point.split()[0] for point in world.points.met]


def test_networks_are_joined_while_the_runtime_creates(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    create, join = container_world.Shim.create, container_world.Network.open

    def noted_create(self: Any, id: str, meanwhile: Any) -> int:
        order.append("runtime started")
        pid = create(self, id, meanwhile)
        order.append("runtime done")
        return pid

    def noted_join(self: Any, c: Container) -> list[Any]:
        order.append("joined")
        return join(self, c)

    monkeypatch.setattr(container_world.Shim, "create", noted_create)
    monkeypatch.setattr(container_world.Network, "open", noted_join)
    made.life.start(ID)
    assert order == ["runtime started", "joined", "runtime done"]
    assert made.store.find(ID).state.status == "running"


def test_conmon_is_loaded_while_all_else_is_prepared(made: World) -> None:
    names = ["shim.begin", "mounted.acquire", "sandboxes.prepare", "shim.create"]
    made.life.start(ID)
    assert [name for name in calls(made) if name in names] == names


def test_a_start_that_fails_before_the_runtime_withdraws_conmon(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise OSError("no namespace")

    monkeypatch.setattr(container_world.Network, "prepare", fail)
    with pytest.raises(OSError, match="no namespace"):
        made.life.start(ID)
    assert made.host.left(ID) == ["reserved", "snapshots", "volumes"]


def test_the_command_waits_for_both(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for kind, name in ((container_world.Network, "open"), (container_world.Shim, "create"),
                       (container_world.Shim, "start")):  # fmt: skip
        real = getattr(kind, name)

        def noted(*args: Any, _real: Any = real, _name: str = name) -> Any:
            done = _real(*args)
            order.append(_name)
            return done

        monkeypatch.setattr(kind, name, noted)
    made.life.start(ID)
    assert sorted(order[:2]) == ["create", "open"]
    assert order[2:] == ["start"]


def test_the_runtime_waits_for_links_it_needs(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["sandboxes.open", "shim.create"]
    monkeypatch.setattr(container_world.Network, "prepare", lambda *_: False)
    made.life.start(ID)
    assert [name for name in calls(made) if name in names] == names


def test_a_join_that_fails_meanwhile_undoes_all(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(container_world.Network, "open", fail)
    with pytest.raises(OSError, match="no network"):
        made.life.start(ID)
    assert made.host.left(ID) == ["reserved", "snapshots", "volumes"]


def test_a_run_that_has_ended_is_cleaned_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    try:
        world.supervisor.create(world.container(rm=True))
        world.life.start(ID)
        world.points.met.clear()
        world.end(ID, 0)
        world.settle()
        assert world.host.left(ID) == []
        met = calls(world)
        assert {name: met.count(name) for name in ("sandboxes.close", "shim.delete")} == {
            "sandboxes.close": 1,
            "shim.delete": 1,
        }
    finally:
        world.close()


def test_a_removal_by_force_is_saved_before_the_layer_goes_with_the_run(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with --rm the layer goes while links are awaited; a killed daemon completes that."""
    made.life.start(ID)
    stored: list[str] = []
    real = container_world.Mounted.remove

    def noted(self: Any, id: str) -> None:
        row = made.database.rows("SELECT doc FROM container WHERE id=?", (id,))[0]
        stored.append(msgspec.json.decode(row["doc"], type=Container).state.status)
        real(self, id)

    monkeypatch.setattr(container_world.Mounted, "remove", noted)
    made.points.met.clear()
    made.life.remove(ID, force=True)
    assert stored[0] == "removing"
    assert made.host.left() == []
    assert made.store.get(ID) is None
    met = calls(made)
    assert met.index("mounted.remove") < met.index("sandboxes.forget"), "it waited for links"
    assert {name: met.count(name) for name in ("shim.delete", "sandboxes.close")} == {
        "shim.delete": 1,
        "sandboxes.close": 1,
    }


def test_a_removal_by_force_that_fails_is_the_answer(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.life.start(ID)

    def fail(*_: object) -> None:
        raise OSError("the addresses are in use")

    with monkeypatch.context() as patch:
        patch.setattr(container_world.Network, "forget", fail)
        with pytest.raises(OSError, match="the addresses are in use"):
            made.life.remove(ID, force=True)
    assert made.store.find(ID).state.status == "dead"
    made.life.remove(ID, force=True)
    assert made.host.left() == []
