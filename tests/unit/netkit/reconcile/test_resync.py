"""Changes by other tools are repaired; foreign rules and running operations are left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netkit.model import BridgeRedirect, Chain, Rule
from netkit.network.config import NetworkConfig
from netkit.reconcile.plan import Op, Plan
from netkit.reconcile.resync import ResyncLoop
from netkit.spec import NetworkSpec
from tests.unit.netkit.network.test_controller import IP, Bench, box, on, tcp

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    for holder in list(b.ports._by_holder):
        b.ports.release(holder)
    b.database.close()


def flush(bench: Bench) -> None:
    for key, r in list(bench.kernel.things.items()):
        if isinstance(r, Rule | Chain):
            del bench.kernel.things[key]


def test_a_flushed_firewall_comes_back_and_nothing_else_changes(bench: Bench) -> None:
    bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    before = dict(bench.kernel.things)
    assert bench.net.drift() == ()
    flush(bench)
    drift = bench.net.drift()
    assert all(op.before is None for op in drift)
    plan, busy = bench.net.repair()
    assert (plan, busy) == (drift, False)
    assert bench.kernel.things == before
    assert bench.net.repair() == ((), False)


def test_a_filter_at_a_port_comes_back_and_rules_do_not_wait_for_one_without_its_bridge(
    bench: Bench,
) -> None:
    icc = "com.docker.network.bridge.enable_icc"
    apart, _ = bench.net.create(NetworkSpec(name="apart", options={icc: "false"}))
    bench.net.open(box(), [on(apart)], [tcp(80)])
    before = dict(bench.kernel.things)
    ((key, redirect),) = [(k, r) for k, r in before.items() if isinstance(r, BridgeRedirect)]
    del bench.kernel.things[key]
    assert bench.net.drift() == (Op(None, redirect),)
    assert bench.net.repair() == ((Op(None, redirect),), False)
    assert bench.kernel.things == before
    bench.kernel._forget_link("", redirect.bridge)
    flush(bench)
    drift = bench.net.drift()
    assert {type(op.subject) for op in drift} == {Rule, Chain}
    assert bench.net.repair() == (drift, False)


def test_rules_of_ours_that_are_not_desired_go_and_foreign_ones_stay(bench: Bench) -> None:
    bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    foreign = Rule(table="filter", chain="DOCKER", args=("-j", "DROP"))
    mine = next(
        r for r in bench.kernel.things.values()
        if isinstance(r, Rule) and (r.owner or "").count(":") == 3
    )  # fmt: skip
    bench.kernel.things[foreign.key] = foreign
    bench.net.close(box().id)
    before = dict(bench.kernel.things)
    bench.kernel.things[mine.key] = mine  # from an old dump
    ((op,), busy) = bench.net.repair()
    assert (op.before, op.after, busy) == (mine, None, False)
    assert bench.kernel.things == before


def test_what_is_under_way_is_left_alone(bench: Bench) -> None:
    """While an operation on a sandbox is running, its rules are neither restored nor deleted."""
    bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    mine = {k: r for k, r in bench.kernel.things.items()
            if isinstance(r, Rule) and (r.owner or "").count(":") == 3}  # fmt: skip
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with bench.net._sandboxes.locks.hold(box().id):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        assert bench.net.repair() == ((), True)
        key, rule = next(iter(mine.items()))
        del bench.kernel.things[key]
        assert bench.net.repair() == ((), True)
    finally:
        done.set()
        thread.join()
    assert bench.net.repair() == ((Op(None, replace(rule)),), False)


class Script:
    """A watch and repairs that the test controls."""

    def __init__(self) -> None:
        self.hints = threading.Semaphore(0)
        self.looks = threading.Semaphore(0)
        self.answers: list[tuple[Plan, bool] | Exception] = []
        self.waited: list[float] = []
        self.closed = False

    def wait(self, seconds: float) -> bool:
        if seconds == 0:
            return False
        self.waited.append(seconds)
        return self.hints.acquire(timeout=min(seconds, 60))

    def wake(self) -> None:
        self.hints.release()

    def close(self) -> None:
        self.closed = True

    def repair(self) -> tuple[Plan, bool]:
        answer = self.answers.pop(0) if self.answers else ((), False)
        self.looks.release()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("busy", [True, False])
def test_the_guard_looks_at_hints_and_soon_again_where_something_was_under_way_or_repaired(
    caplog: pytest.LogCaptureFixture, busy: bool
) -> None:
    script = Script()
    rule = Rule(table="filter", chain="DOCKER", args=("-j", "DROP"), owner="netkit:e:x")
    script.answers = [((Op(None, rule),), busy), ((), False)]
    guard = ResyncLoop(script, script)
    guard.start()
    script.hints.release()
    assert script.looks.acquire(timeout=30)
    assert script.looks.acquire(timeout=30)  # without another hint
    guard.close()
    assert script.closed
    assert (guard.tally.repairs, guard.tally.steps) == (1, 1)
    assert (guard.tally.looks, guard.tally.failures) == (2, 0)
    assert guard.drift.counts().found == guard.drift.counts().repaired == {"rule": 1}
    assert "repaired: + iptables -t filter -A DOCKER -j DROP" in caplog.text


def test_the_guard_survives_what_fails_and_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    from netkit.errors import KernelError

    script = Script()
    script.answers = [KernelError("the lock is held"), KernelError("the lock is held"), ((), False)]
    guard = ResyncLoop(script, script)
    guard.start()
    script.hints.release()
    for _ in range(3):
        assert script.looks.acquire(timeout=30)
    guard.close()
    assert caplog.text.count("the lock is held") == 1
    assert guard.tally.error == ""
    assert (guard.tally.looks, guard.tally.failures) == (3, 2)
