"""Each call in the life of a container fails in turn: its state stays consistent.

The points are found by a run in which nothing fails.  Then each of them raises, in a run of its
own, an OSError, an sqlite3.OperationalError and a RuntimeError.  Afterwards

- the container counts as running if, and only if, its process lives; a row says the same as memory
  once what is owed was done;
- callers that waited for its end have an answer;
- the error was raised to the caller or logged;
- it can be removed, and nothing of it is left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.container.model import Container
from runtime.lifecycle import launch, operations
from tests.unit.points import ERRORS, Killed
from tests.unit.runtime.lifecycle.container_world import ID, World

SLOW = 5.0  # seconds; what takes longer hangs


class Story:
    """The life of a container; errors of a step are noted, and the next step is taken."""

    patience: Any = 1  # seconds to wait for ends

    def __init__(self, world: World) -> None:
        self.world = world
        self.raised: list[Exception] = []
        self.wrong: list[str] = []
        self.now = ""

    def step(self, name: str, act: Callable[[], object]) -> None:
        self.now = name
        begin = time.monotonic()
        try:
            act()
        except Exception as error:
            self.raised.append(error)
        self.world.settle()
        if self.world.points.killed:
            raise Killed
        if time.monotonic() - begin > SLOW:
            self.wrong.append(f"{name} hung")
        self._check(name)

    def _check(self, name: str) -> None:
        c = self.world.store.get(ID)
        runs = ID in self.world.host.alive
        if c is not None and c.state.alive != runs:
            self.wrong.append(f"after {name}: {c.state.status}, and the process runs: {runs}")
        if c is None and runs:
            self.wrong.append(f"after {name}: no container, and its process runs")
        if c is not None and c.state.status == "restarting" and ID not in self.world.timers.due:
            self.wrong.append(f"after {name}: restarting, and no restart is due")
        if c is not None and c.state.status == "removing":
            self.wrong.append(f"after {name}: being removed, and no removal is under way")

    def run_all(self) -> None:
        w = self.world
        w.supervisor.waiters.add(ID, "removed")
        self.step("create", lambda: w.supervisor.create(w.container()))
        self.step("start", lambda: w.life.start(ID))
        ends = self._waiting()
        w.log(3)
        self.step("rotation", w.timers.fire)
        self.step("failure", lambda: w.end(ID, 3))
        self._answered("failure", ends)
        self.step("restart by policy", w.timers.fire)
        w.log(9)
        ends = self._waiting()
        self.step("success", lambda: w.end(ID, 0))
        self._answered("success", ends)
        self.step("start again", lambda: w.life.start(ID))
        self.step("pause", lambda: w.life.pause(ID))
        self.step("unpause", lambda: w.life.unpause(ID))
        self.step("rename", lambda: w.store.rename(w.store.find(ID), "db"))
        self.step("restart", lambda: w.life.restart(ID, self.patience))
        ends = self._waiting()
        self.step("stop", lambda: w.life.stop(ID, self.patience))
        self._answered("stop", ends)
        self.step("last start", lambda: w.life.start(ID))
        self._row_agrees()
        self.step("remove", lambda: w.life.remove(ID, force=True))
        if w.store.get(ID) is not None:
            self.step("remove again", lambda: w.life.remove(ID, force=True))
        self._nothing_left()

    def _waiting(self) -> list[Future[tuple[int, str]]]:
        c = self.world.store.get(ID)
        if c is None or not c.state.alive:
            return []
        future: Any = self.world.supervisor.waiters.add(ID, "next-exit")
        return [future]

    def _answered(self, name: str, ends: list[Future[tuple[int, str]]]) -> None:
        c = self.world.store.get(ID)
        if not all(end.done() for end in ends) and (c is None or not c.state.alive):
            self.wrong.append(f"after {name}: who waits for the end has no answer")

    def _row_agrees(self) -> None:
        """List what is wrong once owed work is done."""
        for _ in range(3):
            self.world.timers.fire()
            self.world.settle()
        c = self.world.store.get(ID)
        rows = self.world.database.rows("SELECT name, doc FROM container")
        if c is None:
            if rows:
                self.wrong.append("a row of a container that there is not")
        elif not rows:
            self.wrong.append("a container without a row")
        elif msgspec.json.decode(rows[0]["doc"], type=Container) != c or rows[0]["name"] != c.name:
            self.wrong.append(f"the row is not what is so: {rows[0]['doc'].decode()}")

    def _nothing_left(self) -> None:
        self.world.points.fail = None
        self._row_agrees()
        if self.world.store.get(ID) is not None:
            self.wrong.append("it cannot be removed")
        if left := self.world.host.left():
            self.wrong.append(f"left behind: {', '.join(left)}")
        if self.world.paths.container(ID).exists():
            self.wrong.append("its folder is left behind")


def played(folder: Path, fail: tuple[str, Exception] | None = None) -> tuple[World, Story]:
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "KILL_WAIT", 0.2)
        patch.setattr(launch, "LOOK_AGAIN", (0.0,))
        world = World(folder, patch)
        world.points.fail = fail
        try:
            story = Story(world)
            story.run_all()
        finally:
            world.close()
    return world, story


def test_a_life_in_which_nothing_fails(memory: Path) -> None:
    world, story = played(memory / "w")
    assert (story.wrong, story.raised) == ([], [])
    assert len(world.points.met) > 100


@pytest.mark.slow
def test_whatever_fails_the_state_stays_consistent_and_no_caller_waits_in_vain(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world, _ = played(memory / "w")
    wrong: dict[str, list[str]] = {}
    caplog.set_level(logging.WARNING)
    points = dict.fromkeys(world.points.met)
    for number, point in enumerate(points):
        for kind, make in enumerate(ERRORS):
            error = make()
            caplog.clear()
            world, story = played(memory / f"{number}-{kind}", (point, error))
            reported = error in story.raised or any(
                str(error) in r.getMessage() for r in caplog.records
            )
            if world.points.failed and not reported:
                story.wrong.append("silence")
            if story.wrong:
                wrong[f"{point}: {type(error).__name__}"] = story.wrong
    text = "\n".join(f"{k}: {'; '.join(v)}" for k, v in wrong.items())
    print(f"{len(points)} points, {len(points) * len(ERRORS)} runs, {len(wrong)} wrong")
    assert not wrong, f"{len(points)} points, {len(wrong)} wrong:\n{text}"
