"""Render replies: JSON, empty ones, errors, and streams of objects or bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import hdrs, web

from runtime.api.server.backlog import REPLIES, Unsent
from runtime.api.server.upgrade_guard import UpgradeGuard

T = TypeVar("T")

STREAMS = web.AppKey("streams", set[asyncio.Task[object]])  # handlers that are sending one

JSON = "application/json"  # clients compare the whole header: no charset may follow
TAR = "application/x-tar"

_PIECE = 1 << 16  # bytes of a long reply that are passed to the transport at a time


def small(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value) + b"\n"
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})


def data(value: object, status: int = 200) -> web.StreamResponse:
    body = msgspec.json.encode(value) + b"\n"
    if len(body) > _PIECE:
        return Long(body, status)
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})


async def rendered(request: web.Request, render: Callable[[], object]) -> web.StreamResponse:
    """Render the reply to a read, which may be large.

    Without room for a large one it is dropped and rendered again when there is room: waiting
    requests then hold no memory.  Later requests for the same target wait before rendering.
    """
    replies = request.app[REPLIES]
    if replies.was_large(request.path_qs):
        await replies.room()
    response = data(render())
    if isinstance(response, Long):
        replies.large(request.path_qs)
        if not replies.roomy:
            del response
            await replies.room()
            response = data(render())
        if (unsent := _unsent(request)) is not None and isinstance(response, Long):
            unsent.sending(response.content_length or 0)
    return response


def _unsent(request: web.BaseRequest) -> Unsent | None:
    front = request.transport.get_protocol() if request.transport is not None else None
    return front.unsent if isinstance(front, UpgradeGuard) else None


class Long(web.StreamResponse):
    """A body written in pieces: the transport copies what the client does not read at once."""

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__(status=status, headers={"Content-Type": JSON})
        self.content_length = len(body)
        self._whole = body
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> Any:
        self._request = request
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        request, self._request = self._request, None
        if request is not None and request.method != hdrs.METH_HEAD:
            rest = memoryview(self._whole)
            while rest:
                piece, rest = rest[:_PIECE], rest[_PIECE:]
                await write(request, self, piece, more=len(rest))
        await super().write_eof(data)


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status)


def error(status: int, message: str) -> web.Response:
    # a header may hold bytes that are not UTF-8, which JSON cannot
    text = message.encode(errors="backslashreplace").decode()
    return small({"message": text}, status)


def line(value: object) -> bytes:
    """Render one object of a stream of objects."""
    return msgspec.json.encode(value) + b"\r\n"


async def large_line(request: web.Request, value: object) -> bytes:
    """Like `line`; a large one waits until there is room for it."""
    text, replies = line(value), request.app[REPLIES]
    if len(text) > _PIECE and not replies.roomy:
        del text
        await replies.room()
        text = line(value)
    return text


def failure(message: str) -> bytes:
    """The object that ends a progress stream when it is too late for a status."""
    return line({"errorDetail": {"message": message}, "error": message})


async def write(
    request: web.BaseRequest,
    response: web.StreamResponse,
    data: bytes | memoryview,
    *,
    more: int = 0,
) -> None:
    """Write, and wait for a slow client; `data` and `more` bytes are accounted meanwhile."""
    unsent = _unsent(request)
    if unsent is None:
        await response.write(data)
        return
    unsent.sending(len(data) + more)
    try:
        await response.write(data)
        if unsent.crowded:
            await request.writer.drain()
    finally:
        unsent.sending(more)


async def open_stream(
    request: web.Request, content_type: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send status and headers at once.  The handler is cancelled when the server stops."""
    if (task := asyncio.current_task()) is not None:
        streams = request.app[STREAMS]
        streams.add(task)
        task.add_done_callback(streams.discard)
    response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
    await response.prepare(request)
    return response


class StartedStream(Generic[T]):
    """An async iterator whose first step has been started; `aclose` works in any state."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self.first: asyncio.Future[T] | None = asyncio.ensure_future(anext(source))

    def __aiter__(self) -> StartedStream[T]:
        return self

    async def __anext__(self) -> T:
        if self.first is None:
            return await anext(self._source)
        first, self.first = self.first, None
        try:
            return await first
        except asyncio.CancelledError:
            await _stopped(first)
            raise
        finally:
            del first  # an error it holds has this frame in its traceback

    async def aclose(self) -> None:
        if self.first is not None:
            await _stopped(self.first)
        if (close := getattr(self._source, "aclose", None)) is not None:
            await close()


async def _stopped(task: asyncio.Future[T]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # retrieved: else asyncio logs it as never retrieved


async def start_stream(source: AsyncIterator[T]) -> StartedStream[T]:
    """Start `source`: it runs up to its first wait, and may raise.

    So a subscription is active before the client receives the headers.
    """
    started = StartedStream(source)
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        # The client disconnected: the caller never gets `started`, so it is closed here.
        await started.aclose()
        raise
    if (
        started.first is not None
        and started.first.done()
        and (error := started.first.exception()) is not None
        and not isinstance(error, StopAsyncIteration)
    ):
        try:
            raise error
        finally:
            del error, started  # its traceback has this frame
    return started


async def send_objects(request: web.Request, source: AsyncIterator[object]) -> web.StreamResponse:
    """Send an object a line, each as it comes.  An error before the first one sets the status."""
    stream = await start_stream(source)
    async with aclosing(stream):
        response = await open_stream(request, JSON)
        async for found in stream:
            text = await large_line(request, found)
            await write(request, response, text)
            del text
        await response.write_eof()
    return response


async def send(
    request: web.Request,
    source: AsyncGenerator[bytes, None],
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send a body of unknown length.  An error before its first byte still sets the status."""
    replies = request.app[REPLIES]
    async with aclosing(source) as chunks:
        await replies.room()
        first = await anext(chunks, b"")
        response = await open_stream(request, content_type, headers)
        if first:
            await write(request, response, first)
        del first
        async for chunk in chunks:
            await write(request, response, chunk)
            del chunk
            await replies.room()
        await response.write_eof()
        return response
