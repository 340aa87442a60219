"""Stream data between the event loop and worker threads, with backpressure."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

from aiohttp import StreamReader, web

from netkit import threads
from netkit.errors import InvalidSpec
from runtime import limits
from runtime.api.server.executors import Executors
from runtime.api.server.upgrade_guard import want_body
from runtime.apitypes import Upload

T = TypeVar("T")

READ_AHEAD = 1 << 18  # bytes that a worker takes in hand at a time
MOST_AHEAD = 1 << 19  # bytes that have come and no worker has taken; then the client waits


class _Body(io.RawIOBase):
    """A request body as a file for a worker thread.  ConnectionResetError after a disconnect.

    From the first read on the event loop reads ahead: a switch of threads for each piece would take
    longer than most of them take to arrive.
    """

    def __init__(self, request: web.Request, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._request = request
        self._content: StreamReader = request.content
        self._loop = loop
        self._rest = memoryview(b"")
        self._changed = threading.Condition()
        self._ahead: list[bytes] = []
        self._size = 0
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._begun = self._over = False
        self._error: BaseException | None = None
        self.left = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(self._next())
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    # on the worker thread

    def _next(self) -> bytes:
        """All that has come; waits for something.  b"" at the end."""
        if not self._begun:
            self._begun = True
            threads.post(self._loop, "receiving a body", self._begin)
        with self._changed:
            self._changed.wait_for(lambda: self._ahead or self._over or self.left)
            if self.left:
                raise ConnectionResetError("the client disconnected during the upload")
            full = self._size >= MOST_AHEAD
            data, self._ahead, self._size = b"".join(self._ahead), [], 0
        if full:
            threads.post(self._loop, "receiving a body", self._room.set)
        if data or self._error is None:
            return data
        if isinstance(self._error, TimeoutError):
            raise InvalidSpec(
                f"the client has sent nothing for {limits.UPLOAD_IDLE_SECONDS} s"
            ) from None
        raise ConnectionResetError(
            f"the client disconnected during the upload: {self._error}"
        ) from self._error

    # on the event loop

    def _begin(self) -> None:
        if not self.left:
            self._task = threads.task("receiving a body", self._receive())

    async def _receive(self) -> None:
        try:
            want_body(self._request)  # not earlier: it may have waited long for a thread
            while not self._content.at_eof():
                async with asyncio.timeout(limits.UPLOAD_IDLE_SECONDS):
                    data = await self._content.readany()
                await self._keep(data)
        except Exception as error:  # noqa: BLE001  the worker raises it
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    async def _keep(self, data: bytes) -> None:
        with self._changed:
            self._ahead.append(data)
            self._size += len(data)
            full = self._size >= MOST_AHEAD
            if full:
                self._room.clear()
            self._changed.notify_all()
        if full:
            await self._room.wait()

    def leave(self) -> None:
        """The handler is over: reads fail from now on."""
        with self._changed:
            self.left = True
            self._ahead.clear()
            self._changed.notify_all()
        if self._task is not None:
            self._task.cancel()


class _Upload(io.BufferedReader):
    """Implements ports.images.Upload."""

    def __init__(self, body: _Body) -> None:
        super().__init__(body, READ_AHEAD)
        self._body = body

    def check(self) -> None:
        if self._body.left:
            raise ConnectionResetError("the client disconnected before the operation was done")


@contextmanager
def uploading(request: web.Request) -> Iterator[Upload]:
    """The body as a file for a worker thread; it is not stored.

    If the handler is cancelled inside, because its client disconnected, reads in the thread fail.
    """
    body = _Body(request, asyncio.get_running_loop())
    try:
        yield _Upload(body)
    finally:
        body.leave()


class _Pull(Generic[T]):
    """An iterator stepped by one thread and closed by another."""

    END = object()

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def next(self) -> T | object:
        with self._lock:
            return next(self._source, self.END)

    def close(self) -> None:
        with self._lock:  # waits for a step in progress
            if (close := getattr(self._source, "close", None)) is not None:
                close()


async def pulled(
    executors: Executors, source: Iterator[T], *, taking: bool = False
) -> AsyncGenerator[T, None]:
    """Yield the items of a blocking iterator.  No thread is occupied while the client is slow.

    `taking`: its steps read what the client sends.  The iterator is always closed, in a thread.
    """
    pull = _Pull(source)
    lane = executors.receive if taking else executors.send
    try:
        while (item := await lane(pull.next)) is not _Pull.END:
            yield cast(T, item)
    finally:
        executors.run_later(pull.close)
