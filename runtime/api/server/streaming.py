"""Stream data between the event loop and worker threads, with backpressure."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

from aiohttp import StreamReader, web

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.api.server.executors import Executors
from runtime.api.server.upgrade_guard import want_body
from runtime.apitypes import Upload

T = TypeVar("T")

READ_AHEAD = 1 << 18  # bytes per read from the loop: fewer switches between threads


class _Body(io.RawIOBase):
    """A request body as a file for a worker thread.  ConnectionResetError after a disconnect."""

    def __init__(self, request: web.Request, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._request = request
        self._content: StreamReader = request.content
        self._loop = loop
        self._rest = memoryview(b"")
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

    def _next(self) -> bytes:
        if self.left:
            raise ConnectionResetError("the client disconnected during the upload")
        try:
            return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result()
        except TimeoutError:
            raise InvalidSpec(
                f"the client has sent nothing for {limits.UPLOAD_IDLE_SECONDS} s"
            ) from None
        except Exception as error:
            raise ConnectionResetError(
                f"the client disconnected during the upload: {error}"
            ) from error

    async def _read(self) -> bytes:
        data = b""
        want_body(self._request)  # not earlier: it may have waited long for a thread
        async with asyncio.timeout(limits.UPLOAD_IDLE_SECONDS):
            while not data and not self._content.at_eof():
                data = await self._content.readany()
        return data


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
        body.left = True


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
