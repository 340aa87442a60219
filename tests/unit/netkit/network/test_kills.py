"""A daemon killed at any call of a use case on networks: what the next one makes of it.

The use case is cut before each call on the kernel, the database, ports and names in turn: from
there on nothing the daemon does has an effect, and SQLite loses what was not committed.  A new
daemon starts on the same rows and the same kernel.  Then host, rows, leases of addresses, host
ports and names agree, nothing is half done, what the use case was about is as before it or as
after it, and the same command works again.  On one firewall its container lives on, on the other
it ends meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from tests.unit.netkit.network.fault_bench import (
    CASES,
    MOST,
    TABLES,
    Act,
    Case,
    FaultBench,
    Live,
    both,
    connect,
    create,
    create_z,
    empty,
    enter,
)
from tests.unit.netkit.network.test_controller import box
from tests.unit.points import Killed

FIREWALLS = {"iptables": Iptables, "nftables": Nftables}


@pytest.fixture(params=FIREWALLS)
def bench(request: pytest.FixtureRequest, memory: Path) -> Iterator[FaultBench]:
    b = FaultBench(memory / "db", FIREWALLS[request.param]())
    b.net.start()
    yield b
    b.stop()


def killed(b: FaultBench, act: Act, at: int) -> str:
    """Return the point at which the daemon was killed; "" if there is no such point."""
    b.points.begin(cut=at)
    try:
        act(b)
    except Killed:
        pass
    finally:
        where = b.points.met[at] if b.points.killed else ""
        b.again()
    return where


def alive(b: FaultBench, lives: bool) -> Live:
    """Return containers with a process: those with an open sandbox, unless they ended meanwhile."""
    rows = b.database.rows("SELECT id FROM sandboxes WHERE state='ready'")
    return {row["id"]: box() for row in rows if lives}


def had_endpoints(state: tuple[object, ...]) -> bool:
    rows: Any = state[1]
    return bool(rows[TABLES.index("endpoints")])


def wrong_after(b: FaultBench, case: Case, before: tuple[object, ...], live: Live) -> list[str]:
    b.net.restore(live)
    wrong = b.untrue() + b.unlike_new(live)
    undone = b.state() == before
    try:
        if had_endpoints(before) and not live and not undone:  # the container ended
            wrong += [f"{r.owner_name} is on a network" for r in b.net.endpoints()]
            enter(b)
        elif undone:
            case.act(b)
        else:
            case.back(b)
            if b.state() != before and not case.removes:
                wrong.append("neither as before nor as after")
    except Exception as error:
        wrong.append(f"the same again: {error}")
    return wrong + [f"the same again: {text}" for text in b.untrue()]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_call_the_next_daemon_finds_it_whole_or_not_at_all(
    bench: FaultBench, name: str
) -> None:
    case, wrong = CASES[name], {}
    for at in range(MOST):
        empty(bench)
        case.before(bench)
        before = bench.state()
        if not (where := killed(bench, case.act, at)):
            break
        live = alive(bench, lives=isinstance(bench.firewall, Iptables))
        if found := wrong_after(bench, case, before, live):
            wrong[where] = found
        bench.again()
        bench.net.start()
    print(f"{name}, killed: {at} points, {len(wrong)} wrong")
    assert at > 5
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


@pytest.mark.slow
def test_killed_at_any_call_of_a_start_the_next_start_does_it(bench: FaultBench) -> None:
    wrong = {}
    for at in range(MOST):
        empty(bench)
        both(create, create_z, enter)(bench)
        there = bench.state()
        killed(bench, both(connect), 18)  # in the middle of its steps on the host
        if not (where := killed(bench, lambda b: b.net.restore({box().id: box()}), at)):
            break
        bench.net.restore({box().id: box()})
        if found := bench.untrue() + ["not as before"] * (bench.state() != there):
            wrong[where] = found
    print(f"restore, killed: {at} points, {len(wrong)} wrong")
    assert at > 20
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())
