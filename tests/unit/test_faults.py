"""Every call below a use case fails in turn, once, in three ways: kernel, database, ports, names.

The points are counted by running the use case on a kernel and a database that count.  After each
fault: an error or a line in the log, no half of a change after the next resync, and the same
request succeeds.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netkit.model import Key, State
from netkit.plan import Op
from netkit.ports import HostPorts
from netkit.settings import Settings
from netkit.spec import EndpointRecord, NetworkSpec
from netkit.testing import FakeKernel, Inline
from tests.unit.test_service import Bench, Told, box, on, tcp

FAULTS: dict[str, Callable[[], Exception]] = {
    "oserror": lambda: OSError(28, "No space left on device"),
    "sqlite": lambda: sqlite3.OperationalError("disk I/O error"),
    "runtime": lambda: RuntimeError("defect"),
}
MOST = 400  # points of one use case


@dataclass
class Points:
    """Raises at the `at`-th call from now, once."""

    at: int = -1
    fault: Callable[[], Exception] = RuntimeError
    seen: list[str] = field(default_factory=list)

    def hit(self, what: str) -> None:
        self.seen.append(what)
        self.at -= 1
        if self.at == -1:
            raise self.fault()

    @property
    def reached(self) -> bool:
        return self.at < 0


@dataclass
class FailingKernel(FakeKernel):
    points: Points = field(default_factory=Points)

    def _step(self, op: Op) -> None:
        self.points.hit(f"kernel {op}")
        super()._step(op)

    def observe(self, keys: Iterable[Key]) -> State:
        self.points.hit("kernel observe")
        return super().observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        self.points.hit("kernel owned")
        return super().owned(prefix, policy=policy)


class FailingConnection:
    """A connection to SQLite; what it does by itself, rolling back, does not fail."""

    def __init__(self, real: sqlite3.Connection, points: Points) -> None:
        self._real, self._points = real, points

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql != "ROLLBACK":
            self._points.hit(f"store {sql.split(' WHERE', maxsplit=1)[0][:50]}")
        return self._real.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class FailingPorts(HostPorts):
    points: Points

    def reserve(self, *args: Any) -> Any:
        self.points.hit("ports reserve")
        return super().reserve(*args)


class FailingNames(Told):
    points: Points

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        self.points.hit("names publish")
        super().publish(joined, left)


class FaultBench(Bench):
    def __init__(self, path: Path) -> None:
        super().__init__(path, Settings(ip="127.56.77.1"))
        self.points = Points()
        self.kernel = FailingKernel(points=self.points)
        self.inline = Inline(self.kernel, "e1")
        self.ports = FailingPorts(lambda: range(21700, 21750), frozenset)
        self.ports.points = self.points
        self.told = FailingNames()
        self.told.points = self.points
        self.again()

    def again(self) -> None:
        """A new daemon on the same host, as after a kill."""
        for holder in list(self.ports._by_holder):
            self.ports.release(holder)
        self.database = type(self.database)(self.path)
        self.database._db = FailingConnection(self.database._db, self.points)  # type: ignore
        self.net = self.made()

    def stop(self) -> None:
        self.points.at = -1
        for holder in list(self.ports._by_holder):
            self.ports.release(holder)

    def state(self) -> tuple[object, ...]:
        """What there is, for comparisons."""
        rows = [
            [tuple(row) for row in self.database.rows(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in ("networks", "sandboxes", "endpoints", "addresses", "pools")
        ]
        shown = sorted(r.id for r in self.net.all())
        return (self.things(), rows, shown, sorted(self.ports._by_holder))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[FaultBench]:
    b = FaultBench(tmp_path / "db")
    b.net.start()
    yield b
    b.stop()


# -- use cases: what is there before, the act, and the way back ------------------------


Act = Callable[[FaultBench], object]


@dataclass(frozen=True)
class Case:
    before: Act
    act: Act
    back: Act
    removes: bool = False  # where it fails, it may have been done all the same


def _create(b: FaultBench) -> None:
    b.net.create(NetworkSpec(name="y"))


def _remove(b: FaultBench) -> None:
    b.net.remove("y")


def _open(b: FaultBench) -> None:
    b.net.open(box(), [on(b.net.find("y"))], [tcp(80)])


def _close(b: FaultBench) -> None:
    b.net.close(box().id)


def _connect(b: FaultBench) -> None:
    b.net.connect(box(), on(b.net.find("z"), gw_priority=1))


def _disconnect(b: FaultBench) -> None:
    b.net.disconnect(box().id, b.net.find("z").id)


def _both(*acts: Act) -> Act:
    def do(b: FaultBench) -> None:
        for act in acts:
            act(b)

    return do


def _nothing(b: FaultBench) -> None:
    return None


def _create_z(b: FaultBench) -> None:
    b.net.create(NetworkSpec(name="z"))


CASES = {
    "create": Case(_nothing, _create, _remove),
    "remove": Case(_create, _remove, _nothing, removes=True),
    "publish": Case(_create, _open, _close),
    "close": Case(_both(_create, _open), _close, _nothing, removes=True),
    "connect": Case(_both(_create, _create_z, _open), _connect, _disconnect),
    "disconnect": Case(
        _both(_create, _create_z, _open, _connect), _disconnect, _nothing, removes=True
    ),
}


def _order(b: FaultBench) -> tuple[object, ...]:
    """After the next resync."""
    b.points.at = -1
    b.net.repair()
    assert b.net.repair() == ((), False)
    return b.state()


def _fails(b: FaultBench, act: Act, at: int, fault: Callable[[], Exception]) -> bool | None:
    """Did the act fail, with the fault at this point?  None where it has no such point."""
    b.points.seen.clear()
    b.points.at, b.points.fault = at, fault
    try:
        act(b)
    except Exception:
        assert b.points.reached
        return True
    finally:
        reached, b.points.at = b.points.reached, -1
    return False if reached else None


def _every_point(b: FaultBench, case: Case, kind: str, caplog: pytest.LogCaptureFixture) -> int:
    case.before(b)
    for at in range(MOST):
        before = b.state()
        caplog.clear()
        failed = _fails(b, case.act, at, FAULTS[kind])
        if failed is None:
            return at
        where = (kind, at, b.points.seen[at])
        assert failed or caplog.records, ("silence", *where)
        now = _order(b)
        if failed and now != before:
            assert case.removes, ("half done", *where)
        if now == before:
            case.act(b)  # nothing is in the way of it
        _order(b)
        if case.removes:
            b.again()
            b.net.restore({s.id: s for s in [box()] if b.net.endpoints(sandbox=s.id)})
            _empty(b)
            case.before(b)
        else:
            case.back(b)
            assert _order(b) == before, ("not undone", *where)
    raise AssertionError("more points than there may be")


def _empty(b: FaultBench) -> None:
    b.net.close(box().id)
    for record in b.net.all():
        if not record.builtin:
            b.net.remove(record.id)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", CASES)
def test_whatever_fails_in_a_use_case_nothing_is_half_done(
    bench: FaultBench, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    points = _every_point(bench, CASES[name], kind, caplog)
    assert points > 10
    print(f"{name}, {kind}: {points} points")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_whatever_fails_in_a_repair_the_next_one_repairs(bench: FaultBench, kind: str) -> None:
    _both(_create, _open)(bench)
    there = bench.state()
    for at in range(MOST):
        gone = [k for k, r in bench.kernel.things.items() if r.policy][at % 5 :: 7]
        for key in gone:
            bench.kernel.things.pop(key)
        if _fails(bench, lambda b: b.net.repair(), at, FAULTS[kind]) is None:
            assert at > 10
            print(f"repair, {kind}: {at} points")
            return
        assert _order(bench) == there
    raise AssertionError("more points than there may be")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_whatever_fails_in_a_start_the_next_one_gives_order(bench: FaultBench, kind: str) -> None:
    _both(_create, _create_z, _open, _connect)(bench)
    there = bench.state()
    for at in range(MOST):
        bench.again()
        failed = _fails(bench, lambda b: b.net.restore({box().id: box()}), at, FAULTS[kind])
        if failed is None:
            assert at > 10
            print(f"restore, {kind}: {at} points")
            return
        if failed:
            bench.again()
            bench.net.restore({box().id: box()})
        assert _order(bench) == there
    raise AssertionError("more points than there may be")
