"""Replies: JSON, nothing, errors, and streams of objects or bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

T = TypeVar("T")

STREAMS = web.AppKey("streams", set[asyncio.Task[object]])  # handlers that are sending one

JSON = "application/json"  # clients compare the whole header: no charset may follow
TAR = "application/x-tar"


def data(value: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value) + b"\n", headers={"Content-Type": JSON}
    )


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status)


def error(status: int, message: str) -> web.Response:
    # a header may hold bytes that are not UTF-8, which JSON cannot
    text = message.encode(errors="backslashreplace").decode()
    return data({"message": text}, status)


def line(value: object) -> bytes:
    """One object of a stream of objects."""
    return msgspec.json.encode(value) + b"\r\n"


def failure(message: str) -> bytes:
    """The object that ends a progress stream when it is too late for a status."""
    return line({"errorDetail": {"message": message}, "error": message})


async def open_stream(
    request: web.Request, content_type: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Status and headers go out at once.  The handler is cancelled when the server ends."""
    if (task := asyncio.current_task()) is not None:
        streams = request.app[STREAMS]
        streams.add(task)
        task.add_done_callback(streams.discard)
    response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
    await response.prepare(request)
    return response


class Primed(Generic[T]):
    """An async iterator whose first step is under way; `aclose` ends it in any state."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self.first: asyncio.Future[T] | None = asyncio.ensure_future(anext(source))

    def __aiter__(self) -> Primed[T]:
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

    async def aclose(self) -> None:
        if self.first is not None:
            await _stopped(self.first)
        if (close := getattr(self._source, "aclose", None)) is not None:
            await close()


async def _stopped(task: asyncio.Future[T]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen, and of no interest any more


async def primed(source: AsyncIterator[T]) -> Primed[T]:
    """`source`, started: what it does before it first waits has been done, and may have failed.

    So a subscription is in force before the client sees our headers.
    """
    started = Primed(source)
    await asyncio.sleep(0)
    if (
        started.first is not None
        and started.first.done()
        and (error := started.first.exception()) is not None
        and not isinstance(error, StopAsyncIteration)
    ):
        raise error
    return started


async def send(
    request: web.Request,
    source: AsyncGenerator[bytes, None],
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """A body of unknown length.  A failure before its first byte still becomes a status."""
    async with aclosing(source) as chunks:
        first = await anext(chunks, b"")
        response = await open_stream(request, content_type, headers)
        if first:
            await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response


def compact(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Without those of the named keys whose value is empty (Go's omitempty)."""
    return {k: v for k, v in value.items() if k not in names or v not in (None, "", 0, [], {})}
