"""Stream the progress of an operation on another thread; it is cancelled when its client leaves."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from netkit import threads
from netkit.errors import NetkitError, disk_fault, unexpected
from runtime.api.server import responses
from runtime.api.server.executors import Executors
from runtime.cancellation import LOOK, Cancel

log = logging.getLogger("netkit.api")

_MOST = 1000  # messages that a slow client has not taken; then the operation waits for it
_MOST_TEXT = 1 << 20  # characters of their texts, likewise
Work = Callable[[Callable[[dict[str, Any]], None], Cancel], object]
Lane = Callable[..., Awaitable[object]]  # one of Executors'


class _Messages:
    """From the operation's threads to the event loop, in order.

    Of progress on one transfer only the newest message is kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, cancel: Cancel) -> None:
        self._loop, self._cancel = loop, cancel
        self._lock = threading.Condition()
        self._waiting: deque[dict[str, Any]] = deque()
        self._size = 0
        self._news = asyncio.Event()

    def send(self, message: dict[str, Any]) -> None:
        """Cancelled once the client has left."""
        with self._lock:
            moving = bool(message.get("progressDetail"))
            if moving and self._waiting and _same(self._waiting[-1], message):
                self._waiting[-1] = message
                return
            while len(self._waiting) >= _MOST or self._size >= _MOST_TEXT:
                if moving:
                    return
                self._cancel.check()
                self._lock.wait(LOOK)
            self._waiting.append(message)
            self._size += len(message.get("stream", ""))
        threads.post(self._loop, "progress", self._news.set)

    async def next(self) -> list[dict[str, Any]]:
        """All that has come since; waits for one."""
        await self._news.wait()
        return self.rest()

    def rest(self) -> list[dict[str, Any]]:
        with self._lock:
            self._news.clear()
            found = list(self._waiting)
            self._waiting.clear()
            self._size = 0
            self._lock.notify_all()
        return found


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(before.get("progressDetail")) and all(
        before.get(name) == after.get(name) for name in ("id", "status")
    )


async def following(executors: Executors, work: Work) -> AsyncGenerator[bytes, None]:
    """As `followed`, for transfers between registries and the store."""
    async with aclosing(followed(executors.fetch, work)) as lines:
        async for line in lines:
            yield line


async def followed(lane: Lane, work: Work) -> AsyncGenerator[bytes, None]:
    """Run `work(progress, cancel)` on a thread of `lane`, and yield lines of what it reports.

    Raises what it raises.
    """
    cancel = Cancel()
    messages = _Messages(asyncio.get_running_loop(), cancel)
    job = threads.task("progress", _run(lane, work, messages, cancel))
    next_: asyncio.Task[list[dict[str, Any]]] | None = None
    try:
        while not job.done():
            next_ = threads.task("messages", messages.next())
            await asyncio.wait({job, next_}, return_when=asyncio.FIRST_COMPLETED)
            if next_.done():
                for message in next_.result():
                    yield responses.line(message)
        for message in messages.rest():
            yield responses.line(message)
        if error := job.result():
            raise error
    finally:
        cancel.set()
        if next_ is not None:
            next_.cancel()
        job.cancel()


async def _run(
    lane: Lane, work: Work, messages: _Messages, cancel: Cancel
) -> Exception | None:
    """What the operation raised is returned: the stream reports it, not the task."""
    try:
        await lane(work, messages.send, cancel)
    except Exception as error:  # noqa: BLE001  the caller raises it
        return error
    return None


def _failure(error: NetkitError) -> bytes:
    return responses.failure(str(error))


async def respond(
    request: web.Request,
    lines: AsyncGenerator[bytes, None],
    failure: Callable[[NetkitError], bytes] = _failure,
) -> web.StreamResponse:
    """Send a stream of objects; an error after the first one is its last, for a status went out."""
    return await responses.send(request, _with_failure(lines, failure), responses.JSON)


async def _with_failure(
    lines: AsyncGenerator[bytes, None], failure: Callable[[NetkitError], bytes]
) -> AsyncGenerator[bytes, None]:
    begun = False
    async with aclosing(lines) as source:
        try:
            async for text in source:
                yield text
                begun = True
        except NetkitError as error:
            if not begun:
                raise
            yield failure(error)
        except ConnectionError:
            raise  # the client has disconnected
        except Exception as error:
            if not begun:
                raise
            if (fault := disk_fault(error)) is None:
                log.exception("an operation failed in the middle of its progress")
                fault = unexpected(error)
            yield failure(fault)
