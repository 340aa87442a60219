"""What failed and could not be undone is cleaned up later, by this daemon or the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.network.config import NetworkConfig
from netkit.reconcile.plan import Op
from netkit.spec import NetworkSpec
from netkit.testing.kernel import FakeKernel, Inline
from tests.unit.netkit.network.test_controller import IP, Bench, box, on, tcp


@dataclass
class Jammed(FakeKernel):
    """A kernel on which every step from the n-th on fails, until `left` is None again."""

    left: int | None = None

    def _step(self, op: Op) -> None:
        if self.left is not None:
            if self.left == 0:
                raise KernelError(f"jammed at {op}")
            self.left -= 1
        super()._step(op)


class JammedBench(Bench):
    def __init__(self, path: Path) -> None:
        super().__init__(path, NetworkConfig(ip=IP))
        self.kernel: Jammed = Jammed()
        self.inline = Inline(self.kernel, "e1")
        self.net = self.made()

    def jam(self, step: int, act: Callable[[], object]) -> bool:
        """Return whether it failed."""
        self.kernel.left = step
        try:
            act()
        except KernelError:
            return True
        finally:
            self.kernel.left = None
        return False


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[JammedBench]:
    b = JammedBench(tmp_path / "db")
    b.net.start()
    yield b
    for holder in list(b.ports._by_holder):
        b.ports.release(holder)
    b.database.close()


def steps(bench: JammedBench, act: Callable[[], object]) -> Iterator[int]:
    """Fail at every step in turn, and at every step of the undoing; end when it succeeds."""
    for step in range(100):
        if not bench.jam(step, act):
            assert step > 1
            return
        yield step
    raise AssertionError("never finished")


@pytest.mark.slow
def test_a_network_half_made_goes_and_gives_its_name_back(bench: JammedBench) -> None:
    before = bench.things()
    for _ in steps(bench, lambda: bench.net.create(NetworkSpec(name="x"))):
        bench.net.repair()
        assert bench.things() == before
        assert bench.net.repair() == ((), False)
    bench.net.remove("x")
    assert bench.things() == before


def test_a_container_half_connected_is_let_go(bench: JammedBench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    records = bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    before = bench.things()
    for _ in steps(bench, lambda: bench.net.connect(box(), on(net, gw_priority=1))):
        bench.net.repair()
        assert bench.things() == before
        assert bench.net.endpoints() == records
        assert bench.held() == 1
    assert len(bench.net.endpoints()) == 2


def test_a_container_half_opened_is_closed(bench: JammedBench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    before = bench.things()
    for _ in steps(bench, lambda: bench.net.open(box(), [on(net)], [tcp(80)])):
        bench.net.repair()
        assert bench.things() == before
        assert (bench.held(), bench.net.endpoints()) == (0, [])


def test_a_container_half_closed_is_closed(bench: JammedBench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    before = bench.things()

    def come_and_go() -> None:
        bench.kernel.left, left = None, bench.kernel.left
        bench.net.open(box(), [on(net)], [tcp(80)])
        bench.kernel.left = left
        bench.net.close(box().id)

    for _ in steps(bench, come_and_go):
        bench.net.repair()
        assert bench.things() == before
        assert (bench.held(), bench.net.endpoints()) == (0, [])


def test_who_came_back_meanwhile_is_not_closed(bench: JammedBench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    bench.net.open(box(), [on(net)], [tcp(80)])
    assert bench.jam(1, lambda: bench.net.close(box().id))
    records = bench.net.open(box(), [on(net)], [tcp(80)])
    there = bench.things()
    assert bench.net.repair() == ((), False)
    assert bench.net.endpoints() == records
    assert bench.things() == there


@pytest.mark.slow
def test_a_caller_that_retries_at_once_is_not_in_the_way_of_what_failed(bench: JammedBench) -> None:
    bridge, before = bench.net.find("bridge"), bench.things()
    for _ in steps(bench, lambda: bench.net.create(NetworkSpec(name="x"))):
        pass
    net = bench.net.find("x")
    bench.net.open(box(), [on(bridge)], [tcp(80)])
    for _ in steps(bench, lambda: bench.net.connect(box(), on(net))):
        pass
    assert bench.held() == 2
    bench.net.close(box().id)
    assert bench.jam(4, lambda: bench.net.open(box(), [on(net)], []))
    bench.net.remove("x")
    assert bench.net.repair() == ((), False)
    assert bench.things() == before


def test_what_a_start_cannot_undo_is_undone_later(bench: JammedBench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    records = bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    before = bench.things()
    assert bench.jam(1, lambda: bench.net.connect(box(), on(net)))
    assert bench.jam(2, lambda: bench.net.create(NetworkSpec(name="y")))
    bench.killed()
    bench.jam(0, lambda: bench.net.restore({box().id: box()}))
    bench.net.repair()
    assert bench.net.endpoints() == records
    assert bench.things() == before
    bench.net.create(NetworkSpec(name="y"))
