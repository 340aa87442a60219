"""Reads of much state off the event loop: one at a time, however many ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from netkit import threads
from netkit.errors import NetkitError

SHARE = 4  # reads take at most a quarter of one processor
R = TypeVar("R")
T = TypeVar("T")


class TooSlow(NetkitError):
    """A read takes longer than those who ask wait."""

    status = 503


class SharedReads(Generic[R]):
    """For the event loop.  Who asks during a read gets its outcome, and so does who asks later, for
    `SHARE` - 1 times as long as it took.

    `what` is read, as people know it; `thread` is the name of its thread, which there is from the
    first read on; `seconds` that one is waited for.  A NetkitError is for those who wait; another
    error is logged as well.
    """

    def __init__(
        self, read: Callable[[], R], *, what: str, thread: str, seconds: Callable[[], float]
    ) -> None:
        self._read, self._what, self._seconds = read, what, seconds
        self._pool = ThreadPoolExecutor(1, thread)
        self._running: asyncio.Future[R] | None = None
        self._last: R | None = None
        self._until = 0.0  # when `_last` is too old, in the loop's seconds

    async def last(self) -> R:
        """TooSlow where it takes too long; the read goes on."""
        loop = asyncio.get_running_loop()
        if self._last is not None and loop.time() < self._until:
            return self._last
        if self._running is None:
            begin = loop.time()
            self._running = loop.run_in_executor(self._pool, self._read)
            self._running.add_done_callback(lambda done: self._done(done, begin))
        return await self._within(self._running)

    async def work(self, act: Callable[[], T]) -> T:
        """What `act` returns, in the same thread.  TooSlow, as `last`."""
        loop = asyncio.get_running_loop()
        return await self._within(loop.run_in_executor(self._pool, act))

    def _done(self, done: asyncio.Future[R], begin: float) -> None:
        now = asyncio.get_running_loop().time()
        self._running = None
        if done.cancelled():
            return
        if (error := done.exception()) is None:
            self._last, self._until = done.result(), now + (SHARE - 1) * (now - begin)
        elif not isinstance(error, NetkitError):
            threads.report(f"reading {self._what}", error)

    async def _within(self, work: asyncio.Future[T]) -> T:
        try:
            async with asyncio.timeout(seconds := self._seconds()):
                return await asyncio.shield(work)  # which another may wait for, too
        except TimeoutError:
            raise TooSlow(
                f"{self._what} are not read within {seconds:g} s: try again later"
            ) from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
