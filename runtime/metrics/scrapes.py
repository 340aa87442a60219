"""Collect off the event loop, one collection at a time, however many scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from netkit import threads
from netkit.errors import NetkitError
from runtime import limits

SHARE = 4  # collections take at most a quarter of one processor
R = TypeVar("R")
T = TypeVar("T")


class TooSlow(NetkitError):
    """A collection takes longer than a scrape waits."""

    status = 503


class Scrapes(Generic[R]):
    """For the event loop.  Requests during a collection get its outcome, and so do later ones, for
    `SHARE` - 1 times as long as it took."""

    def __init__(self, collect: Callable[[], R]) -> None:
        self._collect = collect
        self._pool = ThreadPoolExecutor(1, "netkit-metrics")
        self._running: asyncio.Future[R] | None = None
        self._last: R | None = None
        self._until = 0.0  # when `_last` is too old, in the loop's seconds

    async def collected(self) -> R:
        """TooSlow after limits.METRICS_SECONDS; the collection goes on."""
        loop = asyncio.get_running_loop()
        if self._last is not None and loop.time() < self._until:
            return self._last
        if self._running is None:
            begin = loop.time()
            self._running = loop.run_in_executor(self._pool, self._collect)
            self._running.add_done_callback(lambda done: self._done(done, begin))
        return await _within(self._running)

    async def rendered(self, render: Callable[[], bytes]) -> bytes:
        """In the same thread.  TooSlow, as `collected`."""
        loop = asyncio.get_running_loop()
        return await _within(loop.run_in_executor(self._pool, render))

    def _done(self, done: asyncio.Future[R], begin: float) -> None:
        now = asyncio.get_running_loop().time()
        self._running = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            threads.report("collecting metrics", error)
        else:
            self._last, self._until = done.result(), now + (SHARE - 1) * (now - begin)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _within(work: asyncio.Future[T]) -> T:
    try:
        async with asyncio.timeout(limits.METRICS_SECONDS):
            return await asyncio.shield(work)  # which another scrape may wait for, too
    except TimeoutError:
        raise TooSlow(
            f"metrics are not collected within {limits.METRICS_SECONDS} s: try again later"
        ) from None
