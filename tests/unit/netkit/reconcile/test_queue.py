"""Waiting changes are applied together, with the outcome of one after the other."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netkit.errors import (
    Conflict,
    Foreign,
    KernelError,
    NetkitError,
    NotConverged,
    Unreachable,
)
from netkit.model import Addr, Link, Resource, state
from netkit.reconcile import queue
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.testing.kernel import FakeKernel

MINE = ownership("0", "/run/netkit/netns")
OURS, FOREIGN = "netkit:0:x", "netkit:9:x"


class Gated(FakeKernel):
    """Blocks every observation before it is opened; counts commits."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.begun = threading.Event(), threading.Event()
        self.commits = 0

    def observe(self, keys):
        self.begun.set()
        assert self.gate.wait(20)
        return super().observe(keys)

    def apply(self, ops):
        self.commits += 1
        super().apply(ops)


def _bridge(n: int, mtu: int | None = None, owner: str = OURS) -> Link:
    return Link(name=f"br{n}", kind="bridge", mtu=mtu, owner=owner)


def _outcome(work) -> object:
    try:
        return tuple(map(str, work()))
    except NetkitError as e:
        return type(e)


def _together(kernel: Gated, changes: list[Change]) -> list[object]:
    """Return the outcomes of changes that were queued, in this order, during the first one."""
    with ReconcileQueue(kernel, MINE) as worker, ThreadPoolExecutor(len(changes) + 1) as pool:
        pool.submit(worker.converge, Change({}, frozenset({("link", "", "busy")})))
        assert kernel.begun.wait(20)
        waiting = []
        for n, change in enumerate(changes, 1):
            waiting.append(pool.submit(_outcome, lambda c=change: worker.converge(c)))
            deadline = time.monotonic() + 20
            while len(worker._waiting) < n and time.monotonic() < deadline:
                time.sleep(0.0002)
        kernel.gate.set()
        return [w.result() for w in waiting]


@pytest.mark.slow
def test_fifty_that_wait_are_one_commit():
    kernel = Gated()
    changes = [Change.of(state([_bridge(n)])) for n in range(50)]
    assert _together(kernel, changes) == [(f"+ bridge br{n}",) for n in range(50)]
    assert kernel.commits == 1


@pytest.mark.slow
def test_one_that_conflicts_does_not_spoil_the_rest():
    kernel = Gated()
    theirs = Link(name="br1", kind="dummy", owner=FOREIGN)
    kernel.things[theirs.key] = theirs
    changes = [Change.of(state([_bridge(n)])) for n in range(3)]
    assert _together(kernel, changes) == [("+ bridge br0",), Foreign, ("+ bridge br2",)]
    assert kernel.things[theirs.key] == theirs


def test_one_that_fails_does_not_spoil_the_rest():
    kernel = Gated()
    bad = Addr(dev="nosuch", address=ip_interface("10.0.0.1/24"), owner=OURS)
    changes = [Change.of(state([r])) for r in (_bridge(0), bad, _bridge(2))]
    assert _together(kernel, changes) == [("+ bridge br0",), KernelError, ("+ bridge br2",)]


def test_one_that_never_takes_hold_does_not_spoil_the_rest():
    class Forgets(Gated):
        def apply(self, ops):
            super().apply(ops)
            self.things.pop(("link", "", "br1"), None)

    changes = [Change.of(state([_bridge(n)])) for n in range(3)]
    kernel = Forgets()
    assert _together(kernel, changes) == [("+ bridge br0",), NotConverged, ("+ bridge br2",)]
    assert set(kernel.things) == {("link", "", "br0"), ("link", "", "br2")}


def test_a_defect_reaches_the_caller_and_the_worker_lives_on():
    class Defect(FakeKernel):
        def observe(self, keys):
            if ("link", "", "br1") in keys:
                raise ZeroDivisionError("defect")
            return super().observe(keys)

    with ReconcileQueue(Defect(), MINE) as worker:
        with pytest.raises(KernelError, match="unexpected ZeroDivisionError: defect") as raised:
            worker.converge(Change.of(state([_bridge(1)])))
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert len(worker.converge(Change.of(state([_bridge(2)])))) == 1


@pytest.mark.slow
def test_a_change_that_does_not_get_its_turn_is_not_made():
    kernel = Gated()
    with ReconcileQueue(kernel, MINE) as worker, ThreadPoolExecutor(1) as pool:
        first = pool.submit(worker.converge, Change.of(state([_bridge(0)])))
        assert kernel.begun.wait(20)
        with pytest.raises(KernelError, match=r"busy for 0\.05 s"):
            worker.converge(Change.of(state([_bridge(1)])), timeout=0.05)
        kernel.gate.set()
        first.result()
    assert set(kernel.things) == {("link", "", "br0")}


def test_closing_finishes_what_waits_and_refuses_what_comes():
    kernel = Gated()
    worker = ReconcileQueue(kernel, MINE)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(worker.converge, Change.of(state([_bridge(0)])))
        assert kernel.begun.wait(20)
        closing = pool.submit(worker.close)
        kernel.gate.set()
        assert len(first.result()) == 1
        closing.result()
    with pytest.raises(KernelError, match="shutting down"):
        worker.converge(Change.of(state([_bridge(1)])))


def test_changes_are_counted_by_their_outcome_and_looks_for_drift_are_not():
    kernel = FakeKernel()
    kernel.things["link", "", "br1"] = _bridge(1, owner=FOREIGN)
    with ReconcileQueue(kernel, MINE) as worker:
        worker.converge(Change.of(state([_bridge(0)])))
        worker.converge(Change.of(state([_bridge(0)])))
        with pytest.raises(Conflict):
            worker.converge(Change.of(state([_bridge(1)])))
        worker.converge_lazily(lambda: Change.of(state([_bridge(2)])))
        worker.converge_lazily(lambda: Change.of({}), dry=True)
        counts = worker.statistics.counts()
        assert worker.waiting == 0
    with pytest.raises(KernelError):
        worker.converge(Change.of({}))
    counted = {name: n for name, n in counts.outcomes.items() if n}
    assert counted == {"changed": 1, "unchanged": 1, "conflict": 1}
    assert counts.steps == 1
    assert sum(counts.durations.counts) == 3
    assert 0 < counts.durations.total < 20
    assert worker.statistics.counts().outcomes["failed"] == 1


def test_a_change_that_is_not_begun_in_time_is_counted_as_late():
    kernel = Gated()
    with ReconcileQueue(kernel, MINE) as worker, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(worker.converge, Change({}, frozenset({("link", "", "busy")})))
        assert kernel.begun.wait(20)
        with pytest.raises(KernelError, match="was not begun"):
            worker.converge(Change.of(state([_bridge(0)])), timeout=0.01)
        assert worker.waiting == 1
        kernel.gate.set()
        busy.result(20)
        assert worker.statistics.counts().outcomes["late"] == 1


def _resources() -> st.SearchStrategy[Resource]:
    link = st.builds(_bridge, st.integers(0, 3), st.sampled_from([None, 1400, 1500]))
    addr = st.builds(
        lambda n, a: Addr(dev=f"br{n}", address=ip_interface(f"10.{a}.0.1/24"), owner=OURS),
        st.integers(0, 3),
        st.integers(0, 1),
    )
    return st.one_of(link, addr)


def _by_key(resources) -> dict:
    return {r.key: r for r in resources}


changes = st.builds(
    lambda want, before: Change.of(_by_key(want), _by_key(before)),
    st.lists(_resources(), max_size=3),
    st.lists(_resources(), max_size=2),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(changes, min_size=1, max_size=5))
def test_the_host_ends_as_if_they_had_come_one_by_one(several):
    alone = FakeKernel()
    theirs = Link(name="br3", kind="dummy", owner=FOREIGN)
    alone.things[theirs.key] = theirs
    outcomes = [_outcome(lambda c=c: converge(c, alone, MINE)) for c in several]
    kernel = Gated()
    kernel.things[theirs.key] = theirs
    got = _together(kernel, several)
    if all(isinstance(o, tuple) for o in outcomes):
        assert all(isinstance(o, tuple) for o in got)
        assert kernel.things == alone.things
    elif got == outcomes:
        assert kernel.things == alone.things
    else:  # together, one may stand on what a later one makes: then more came true, not less
        assert sum(isinstance(o, tuple) for o in got) > sum(isinstance(o, tuple) for o in outcomes)


def test_who_waits_for_a_service_holds_up_no_other_change():
    """The wait is on the caller's thread, for what it asks to be made alone."""
    answers = threading.Event()

    def ready(kinds: frozenset[str]) -> None:
        if "addr" in kinds and not answers.wait(20):
            raise AssertionError("not in this test")

    kernel = FakeKernel()
    address = Addr(dev="br0", address=ip_interface("10.0.0.1/24"), owner=OURS)
    with ReconcileQueue(kernel, MINE, ready) as worker, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.converge, Change.of(state([_bridge(0), address])))
        worker.converge(Change.of(state([_bridge(1)])))
        worker.converge(Change.of({}, state([address])))  # a removal does not wait either
        assert set(kernel.things) == {("link", "", "br1")}
        answers.set()
        assert len(waiting.result()) == 2


def test_a_service_that_does_not_answer_is_reported_before_anything_is_begun():
    def ready(kinds: frozenset[str]) -> None:
        raise Unreachable("nothing there", kinds)

    kernel = FakeKernel()
    with (
        ReconcileQueue(kernel, MINE, ready) as worker,
        pytest.raises(Unreachable, match="nothing there") as failed,
    ):
        worker.converge(Change.of(state([_bridge(0)])))
    assert failed.value.nothing_applied
    assert kernel.things == {}


def test_a_change_is_begun_again_where_a_service_is_lost_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    class Electing(FakeKernel):
        left = 2

        def apply(self, ops):
            if self.left:
                self.left -= 1
                raise Unreachable("an election", frozenset({"link"}))
            super().apply(ops)

    kernel = Electing()
    with ReconcileQueue(kernel, MINE) as worker:
        assert len(worker.converge(Change.of(state([_bridge(0)])))) == 1
        monkeypatch.setattr(queue, "SERVICES", 0.0)
        kernel.left = 1
        with pytest.raises(Unreachable, match="an election"):
            worker.converge(Change.of(state([_bridge(1)])))
    assert set(kernel.things) == {("link", "", "br0")}


def test_a_change_that_was_undone_behind_its_back_is_made_once_more():
    class Forgets(FakeKernel):
        left = 1

        def apply(self, ops):
            super().apply(ops)
            if self.left and any(op.after is not None for op in ops):
                self.left -= 1
                self.things.pop(("link", "", "br0"), None)

    kernel = Forgets()
    with ReconcileQueue(kernel, MINE) as worker:
        assert len(worker.converge(Change.of(state([_bridge(0)])))) == 1
        assert set(kernel.things) == {("link", "", "br0")}
        worker.converge(Change.of({}, state([_bridge(0)])))
        kernel.left = 2
        with pytest.raises(NotConverged):
            worker.converge(Change.of(state([_bridge(0)])))
