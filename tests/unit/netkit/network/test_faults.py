"""Every call below a use case fails in turn, once, in three ways: kernel, database, ports, names.

After each fault: an error or a line in the log, no half of a change after the next resync, and the
same request succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.netkit.network.fault_bench import (
    CASES,
    MOST,
    Act,
    Case,
    FaultBench,
    both,
    connect,
    create,
    create_z,
    empty,
    enter,
)
from tests.unit.netkit.network.test_controller import box
from tests.unit.points import ERRORS

KINDS = [type(make()).__name__ for make in ERRORS]


@pytest.fixture
def bench(memory: Path) -> Iterator[FaultBench]:
    b = FaultBench(memory / "db")
    b.net.start()
    yield b
    b.stop()


def _order(b: FaultBench) -> tuple[object, ...]:
    """Return the state after the next resync."""
    b.points.begin()
    b.net.repair()
    assert b.net.repair() == ((), False)
    return b.state()


def _fails(b: FaultBench, act: Act, at: int, kind: str) -> bool | None:
    """Return whether the act failed with a fault at this point; None without such a point."""
    b.points.begin(fail=(at, ERRORS[KINDS.index(kind)]()))
    try:
        act(b)
    except Exception:
        assert b.points.failed
        return True
    finally:
        failed, met = b.points.failed, b.points.met
        b.points.begin()
        b.points.met = met
    return False if failed else None


def _every_point(b: FaultBench, case: Case, kind: str, caplog: pytest.LogCaptureFixture) -> int:
    case.before(b)
    for at in range(MOST):
        before = b.state()
        caplog.clear()
        failed = _fails(b, case.act, at, kind)
        if failed is None:
            return at
        where = (kind, at, b.points.met[at])
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
            empty(b)
            case.before(b)
        else:
            case.back(b)
            assert _order(b) == before, ("not undone", *where)
    raise AssertionError("more points than there may be")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_whatever_fails_in_a_use_case_nothing_is_half_done(
    bench: FaultBench, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    points = _every_point(bench, CASES[name], kind, caplog)
    assert points > 5
    print(f"{name}, {kind}: {points} points")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_fails_in_a_repair_the_next_one_repairs(bench: FaultBench, kind: str) -> None:
    both(create, enter)(bench)
    there = bench.state()
    for at in range(MOST):
        deleted = [k for k, r in bench.kernel.things.items() if r.is_firewall][at % 5 :: 7]
        for key in deleted:
            bench.kernel.things.pop(key)
        if _fails(bench, lambda b: b.net.repair(), at, kind) is None:
            assert at > 10
            print(f"repair, {kind}: {at} points")
            return
        assert _order(bench) == there
    raise AssertionError("more points than there may be")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_fails_in_a_start_the_next_one_gives_order(bench: FaultBench, kind: str) -> None:
    both(create, create_z, enter, connect)(bench)
    there = bench.state()
    for at in range(MOST):
        bench.again()
        failed = _fails(bench, lambda b: b.net.restore({box().id: box()}), at, kind)
        if failed is None:
            assert at > 10
            print(f"restore, {kind}: {at} points")
            return
        if failed:
            bench.again()
            bench.net.restore({box().id: box()})
        assert _order(bench) == there
    raise AssertionError("more points than there may be")
