"""Worker threads for blocking calls, in lanes so that one kind never waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("netkit.api")


class Lanes:
    """`look` for reads of milliseconds, `work` for operations, `move` for bulk data to clients,
    `take` for that from clients: each holds a thread for as long as its client goes on sending.

    A call that has been handed over runs to its end even if the caller is cancelled: a stop goes
    on when the client leaves.  A call without a caller is logged if it fails.  Only a look
    that has not begun is dropped with its caller.
    """

    def __init__(
        self, *, looks: int = 8, works: int = 64, moves: int = 16, takes: int = 16
    ) -> None:
        self._look = ThreadPoolExecutor(looks, "api-look")
        self._work = ThreadPoolExecutor(works, "api-work")
        self._move = ThreadPoolExecutor(moves, "api-move")
        self._take = ThreadPoolExecutor(takes, "api-take")

    async def look(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._look, partial(call, *args, **kwargs))

    async def work(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._work, partial(call, *args, **kwargs))

    async def move(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._move, partial(call, *args, **kwargs))

    async def take(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._take, partial(call, *args, **kwargs))

    def later(self, call: Callable[[], object]) -> None:
        """Run in the lane for bulk data; nobody waits."""
        self._move.submit(_logged, call)

    def close(self) -> None:
        """Takes no more calls; those under way go on."""
        for pool in (self._look, self._work, self._move, self._take):
            pool.shutdown(wait=False)


async def _run(pool: ThreadPoolExecutor, call: Callable[[], R]) -> R:
    future = asyncio.get_running_loop().run_in_executor(pool, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_report)
        raise
    finally:
        # An error's traceback has this frame, and the future the error: what the request holds,
        # megabytes perhaps, would stay until the cycle is collected.
        del future


def _report(future: asyncio.Future[R]) -> None:
    if future.cancelled() or (error := future.exception()) is None:
        return
    if not isinstance(error, ConnectionError):  # what was done for the client ended with it
        log.warning("an operation failed after its client had left: %s", error)


def _logged(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        log.exception("clean-up after a transfer failed")
