"""Run blocking calls on worker threads, in separate pools so that no kind starves another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from runtime import limits

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("netkit.api")


class Executors:
    """Thread pools: `read` for reads of milliseconds, `operate` for operations, `send` for bulk
    data to clients, `receive` for bulk data from clients, which occupies a thread while the client
    sends, `fetch` for transfers between registries and the store, `build` for builds,
    which take minutes.

    A submitted call runs to its end even if the caller is cancelled: `docker stop` continues when
    its client disconnects.  Its error is logged if the caller was cancelled.  Only a `read` that
    has not started is dropped with its caller.
    """

    def __init__(
        self, *, looks: int = 8, works: int = 64, moves: int = 16, takes: int = 16, pulls: int = 16
    ) -> None:
        self._look = ThreadPoolExecutor(looks, "api-look")
        self._work = ThreadPoolExecutor(works, "api-work")
        self._move = ThreadPoolExecutor(moves, "api-move")
        self._take = ThreadPoolExecutor(takes, "api-take")
        self._pull = ThreadPoolExecutor(pulls, "api-pull")
        self._build = ThreadPoolExecutor(limits.BUILDS, "api-build")

    async def read(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._look, partial(call, *args, **kwargs))

    async def operate(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._work, partial(call, *args, **kwargs))

    async def send(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._move, partial(call, *args, **kwargs))

    async def receive(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._take, partial(call, *args, **kwargs))

    async def fetch(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._pull, partial(call, *args, **kwargs))

    async def build(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._build, partial(call, *args, **kwargs))

    def run_later(self, call: Callable[[], object]) -> None:
        """Run in the pool for bulk data, without waiting for it."""
        self._move.submit(_logged, call)

    def close(self) -> None:
        """Accept no more calls; those in progress continue."""
        pools = (self._look, self._work, self._move, self._take, self._pull, self._build)
        for pool in pools:
            pool.shutdown(wait=False)


async def _run(pool: ThreadPoolExecutor, call: Callable[[], R]) -> R:
    future = asyncio.get_running_loop().run_in_executor(pool, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_report)
        raise
    finally:
        # The future holds the error and the error's traceback this frame: without `del` the cycle
        # would keep the request's data, perhaps megabytes, until the next garbage collection.
        del future


def _report(future: asyncio.Future[R]) -> None:
    if future.cancelled() or (error := future.exception()) is None:
        return
    if not isinstance(error, ConnectionError):  # expected: the client disconnected
        log.warning("an operation failed after its client had disconnected: %s", error)


def _logged(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        log.exception("clean-up after a transfer failed")
