"""A daemon starts after another was killed, and each call fails in turn while it does.

The life of test_container_faults is cut at each of its calls; the next daemon must find the
container as it was before the step that was cut or as it is after it, and everything that belongs
to it accordingly.  Then containers of every state are recovered with each call of the recovery
failing in turn: other containers are recovered all the same, and so is that one, a little later.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netkit.spec import Sandbox
from runtime.lifecycle import launch, operations
from tests.unit.points import ERRORS, Killed
from tests.unit.runtime.lifecycle.container_world import ID, Host, World
from tests.unit.runtime.lifecycle.test_faults import Story

KEPT = {"snapshots", "volumes", "reserved"}  # of one that does not run
HELD = {"alive", "bundles", "mounts", "volumes_up", "open", "on_exit", *KEPT}  # of one that does
BETWEEN = {"restart", "restart by policy", "remove"}  # steps of which a part is without a process


@contextmanager
def daemon(folder: Path, host: Host | None = None) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "KILL_WAIT", 0.2)
        patch.setattr(launch, "LOOK_AGAIN", (0.0,))
        world = World(folder, patch, host)
        try:
            yield world
        finally:
            world.close()


def restore(world: World) -> None:
    world.recovery.restore()
    world.recovery.start_by_policy()
    settle(world)


def settle(world: World) -> None:
    """Until what is owed was done; restarts that are due are not awaited."""
    for _ in range(4):
        world.settle()


def untrue(world: World, id: str) -> list[str]:
    """List disagreements about a container."""
    c, left = world.store.get(id), set(world.host.left(id))
    if c is None:
        return (
            [f"left of none: {sorted(left)}"] if left or world.paths.container(id).exists() else []
        )
    if c.state.alive:
        expected = HELD | ({"paused"} if c.state.status == "paused" else set())
    else:
        expected = KEPT & left if c.state.status == "dead" else KEPT
    if c.state.status == "restarting":
        left.discard("open")
        if id not in world.timers.due:
            return ["restarting, and no restart is due"]
    if left != expected:
        return [
            f"{c.state.status}: {sorted(expected - left)} missing, {sorted(left - expected)} there"
        ]
    if c.extra.get("pending"):
        return ["still pending"]
    return []


def removed(world: World, id: str) -> list[str]:
    c = world.store.get(id)
    if c is not None:
        try:
            world.life.remove(id, force=True)
        except Exception as error:
            return [f"cannot be removed: {error}"]
        settle(world)
    return untrue(world, id)


class Recorded(Story):
    """A life that also records after each step whether the container exists and runs."""

    patience = 0.05

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.states: dict[str, tuple[bool, bool]] = {"": (False, False)}

    def _check(self, name: str) -> None:
        super()._check(name)
        c = self.world.store.get(ID)
        self.states[name] = (c is not None, c is not None and c.state.alive)


def lived(folder: Path, cut: str | None = None) -> tuple[World, Recorded, str]:
    """Return a life, and the step in which the daemon was killed."""
    folder.mkdir()
    with daemon(folder) as world:
        world.points.cut = cut
        story, step = Recorded(world), ""
        try:
            story.run_all()
        except Killed:
            step = story.now
    return world, story, step


@pytest.mark.slow
@pytest.mark.parametrize("ends", [False, True])
def test_killed_at_any_call_the_next_daemon_finds_what_is_so(memory: Path, ends: bool) -> None:
    world, story, _ = lived(memory / "w")
    after = story.states
    steps = list(after)
    wrong: dict[str, list[str]] = {}
    points = dict.fromkeys(world.points.met)
    for number, point in enumerate(points):
        folder = memory / str(number)
        world, story, step = lived(folder, point)
        assert step, point
        host, found = world.host, wrong.setdefault(f"{point}, in {step}", [])
        with daemon(folder, host) as world:
            if ends:
                host.on_exit.clear()
                world.end(ID, 0)
            restore(world)
            found += untrue(world, ID)
            c = world.store.get(ID)
            now = (c is not None, c is not None and c.state.alive)
            allowed = {after[step], after[steps[steps.index(step) - 1]]}
            if ends or step in BETWEEN:
                allowed |= {(True, False)}
            if now not in allowed:
                found.append(f"{now} is neither before nor after it")
            found += removed(world, ID)
    print(f"{len(points)} points, {sum(map(bool, wrong.values()))} wrong")
    assert not any(wrong.values()), "\n".join(f"{k}: {v}" for k, v in wrong.items() if v)


def sharing(world: World) -> None:
    """Prepare ID waiting for its restart, with another container in its network namespace."""
    other = world.container("d" * 64, "sidecar")
    other.host_config.network_mode = f"container:{ID}"
    for c in (world.container(), other):
        world.supervisor.create(c)
        world.life.start(c.id)
    world.host.shared.add(ID)
    world.end(ID, 3)
    world.settle()
    assert world.store.find(ID).state.status == "restarting"


@pytest.mark.parametrize("at", [None, "shim.create 1", "bundler.create 1", "shim.start 1"])
def test_a_network_shared_with_other_containers_outlives_a_daemon(
    memory: Path, at: str | None
) -> None:
    with daemon(memory / "w") as world, suppress(Killed):
        sharing(world)
        world.points.begin(cut=at)
        if at:
            world.timers.due[ID]()
    host = world.host
    with daemon(memory / "w", host) as world:
        restore(world)
        assert ID in host.open
        world.timers.fire()
        assert world.store.find(ID).state.status == "running"


def test_a_network_shared_with_other_containers_outlives_a_restart_that_fails(memory: Path) -> None:
    with daemon(memory / "w") as world:
        sharing(world)
        for left in range(4, -1, -1):
            assert ID in world.host.open
            world.points.begin(fail=("bundler.create 1", OSError("no memory")))
            world.timers.fire()
            assert (ID in world.timers.due) == bool(left)
        assert ID not in world.host.open
        assert world.store.find(ID).state.status == "exited"


@pytest.mark.parametrize("how", ["start", "restart"])
def test_a_start_by_hand_keeps_a_network_shared_with_other_containers(
    memory: Path, how: str
) -> None:
    with daemon(memory / "w") as world:
        sharing(world)
        world.points.begin()
        getattr(world.life, how)(ID)
        assert ID in world.host.open
        assert not any(p.startswith("sandboxes.close") for p in world.points.met)


def test_containers_without_a_run_are_not_looked_at_one_by_one(memory: Path) -> None:
    with daemon(memory / "w") as world:
        for n in range(5):
            world.supervisor.create(world.container(f"{n}" * 64, f"c{n}"))
        world.points.begin()
        restore(world)
        assert [p for p in world.points.met if "leftovers" in p]
        assert not [p for p in world.points.met if p.startswith(("shim.remains", "shim.abort"))]


# -- each call of a recovery fails --------------------------------------------------------

ALL = {"networks.restore 1"}  # without which no daemon is of use: the start fails
AFTER = {  # of each container by its name, after the next start of the daemon
    "runs": "running",
    "paused": "paused",
    "ended": "exited",
    "failed": "restarting",
    "rm": "",
    "making": "",
    "starting": "created",
    "removing": "",
}


def ident(name: str) -> str:
    return f"{list(AFTER).index(name):x}" * 64


def half_done(folder: Path) -> Host:
    """A host on which daemons were killed with containers of every state."""
    folder.mkdir()
    host = Host()
    cuts = {
        "making": "sandboxes.reserve 1",
        "starting": "shim.start 1",
        "removing": "sandboxes.forget 1",
    }
    with daemon(folder, host) as world:
        for name in AFTER.keys() - {"making"}:
            world.supervisor.create(world.container(ident(name), name, rm=name == "rm"))
        for name in ("runs", "paused", "ended", "failed", "rm"):
            world.life.start(ident(name))
        world.life.pause(ident("paused"))
    for name, cut in cuts.items():
        with daemon(folder, host) as world, suppress(Killed):
            world.points.cut = cut
            if name == "making":
                world.supervisor.create(world.container(ident(name), name))
            elif name == "starting":
                world.life.start(ident(name))
            else:
                world.life.remove(ident(name), force=True)
    with daemon(folder, host) as world:
        for name in ("ended", "failed", "rm"):
            world.end(ident(name), 3 if name == "failed" else 0)
    return host


def recovered(world: World) -> list[str]:
    wrong = []
    for name, expected in AFTER.items():
        c = world.store.get(ident(name))
        status = c.state.status if c else ""
        wrong += [f"{name}: {text}" for text in untrue(world, ident(name))]
        if status != expected:
            wrong.append(f"{name} is {status}")
    return wrong


def test_a_daemon_recovers_containers_of_every_state(memory: Path) -> None:
    host = half_done(memory / "w")
    with daemon(memory / "w", host) as world:
        restore(world)
        assert recovered(world) == []
        assert [text for name in AFTER for text in removed(world, ident(name))] == []
    assert host.left() == []


@pytest.mark.slow
def test_whatever_fails_in_a_recovery_all_containers_are_recovered(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = half_done(memory / "w")
    shutil.copytree(memory / "w", memory / "first")
    with daemon(memory / "first", copy.deepcopy(before)) as world:
        restore(world)
    wrong: dict[str, list[str]] = {}
    points = dict.fromkeys(world.points.met)
    for number, point in enumerate(points):
        for kind, make in enumerate(ERRORS):
            folder, host, error = memory / f"{number}-{kind}", copy.deepcopy(before), make()
            shutil.copytree(memory / "w", folder)
            caplog.clear()
            found = wrong.setdefault(f"{point}: {type(error).__name__}", [])
            with daemon(folder, host) as world:
                world.points.fail = (point, error)
                if point in ALL:
                    with pytest.raises(type(error)):
                        restore(world)
                else:
                    restore(world)
                    if not any(str(error) in r.getMessage() for r in caplog.records):
                        found.append("silence")
                    found += recovered(world)
            if point in ALL:
                with daemon(folder, host) as world:
                    restore(world)
                    found += recovered(world)
    print(f"{len(points)} points, {len(wrong)} runs, {sum(map(bool, wrong.values()))} wrong")
    assert not any(wrong.values()), "\n".join(f"{k}: {v}" for k, v in wrong.items() if v)


def test_what_cannot_be_swept_does_not_keep_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    removed = []

    def act(id: str) -> None:
        if id == "a":
            raise OSError("busy")
        removed.append(id)

    launch._each("files", lambda: {"b", "a", "c"}, act)
    assert removed == ["b", "c"]
    assert "removing files of removed containers, a failed" in caplog.text


def test_sandboxes_of_another_engines_containers_stay_open(tmp_path: Path) -> None:
    with daemon(tmp_path) as world:
        world.host.open |= {"a" * 64, "b" * 64}
        theirs = Sandbox(id="a" * 64, name="web", ns="/run/elsewhere/web", engine="cni")
        world.recovery.other_engines.append(lambda: {theirs.id: theirs})
        restore(world)
        assert world.host.open == {theirs.id}
