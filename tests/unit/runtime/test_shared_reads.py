"""Reads are few, however many ask for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runtime.shared_reads import SharedReads, TooSlow


class Collector:
    """Collects when `gate` is open; each has a number."""

    def __init__(self, *, open: bool = True) -> None:
        self.count = 0
        self.gate = threading.Event()
        if open:
            self.gate.set()
        self.threads: set[str] = set()

    def __call__(self) -> int:
        self.count += 1
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(20)
        return self.count


def run(
    work: Callable[[SharedReads[int]], Coroutine[Any, Any, None]],
    collector: Collector,
    seconds: float = 20,
) -> None:
    async def all() -> None:
        reads = SharedReads(
            collector, what="figures", thread="netkit-figures", seconds=lambda: seconds
        )
        try:
            await work(reads)
        finally:
            collector.gate.set()
            reads.close()

    asyncio.run(all())


def test_those_that_come_together_get_one_collection() -> None:
    collector = Collector(open=False)

    async def work(reads: SharedReads[int]) -> None:
        many = [asyncio.create_task(reads.last()) for _ in range(50)]
        await asyncio.sleep(0)
        collector.gate.set()
        assert await asyncio.gather(*many) == [1] * 50

    run(work, collector)
    assert collector.count == 1
    assert collector.threads == {"netkit-figures_0"}  # not the event loop's


def test_one_that_gives_up_takes_nothing_from_the_others() -> None:
    collector = Collector(open=False)

    async def work(reads: SharedReads[int]) -> None:
        one, other = (asyncio.create_task(reads.last()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.sleep(0)
        collector.gate.set()
        assert await other == 1

    run(work, collector)


def test_what_took_long_is_served_again_for_a_while() -> None:
    collector = Collector()

    async def work(reads: SharedReads[int]) -> None:
        assert await reads.last() == 1
        reads._until = asyncio.get_running_loop().time() + 60
        assert await reads.last() == 1
        reads._until = 0
        assert await reads.last() == 2

    run(work, collector)


def test_a_collection_that_hangs_is_waited_for_in_bounds() -> None:
    collector = Collector(open=False)

    async def work(reads: SharedReads[int]) -> None:
        for _ in range(3):
            with pytest.raises(
                TooSlow, match=r"figures are not read within 0\.01 s"
            ):
                await reads.last()

    run(work, collector, 0.01)
    assert collector.count == 1


def test_an_error_reaches_the_scrape_and_the_next_one_collects_anew() -> None:
    class Failing(Collector):
        def __call__(self) -> int:
            if super().__call__() == 1:
                raise ZeroDivisionError("defect")
            return self.count

    collector = Failing()

    async def work(reads: SharedReads[int]) -> None:
        with pytest.raises(ZeroDivisionError):
            await reads.last()
        assert await reads.last() == 2

    run(work, collector)
