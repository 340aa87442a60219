"""Containers: attach, logs, stats."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from aiohttp import web

from netkit import threads
from netkit.errors import InvalidSpec, NetkitError, NotFound, NotSupported
from runtime.api.query import timestamp
from runtime.api.server import responses
from runtime.api.server.attach_session import run_session
from runtime.api.server.hijack import frame, stream_type
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.container.options import AttachOptions, LogOptions
from runtime.numbers import natural

_ERROR = 3  # the channel for errors, on which Docker's client fails
_PERIOD = 1.0  # seconds between samples of stats
_NO_CPU: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_NEVER = "0001-01-01T00:00:00Z"


async def attach(call: ApiRequest) -> web.StreamResponse:
    options = AttachOptions(
        stdin=call.flag("stdin"),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        logs=call.flag("logs"),
        stream=call.flag("stream"),
        detach_keys=call.text("detachKeys") or None,
    )
    attachment = await call.executors.read(call.engine.containers.attach, call.ref, options)
    return await run_session(call, attachment, error_channel=_ERROR)


async def attach_websocket(call: ApiRequest) -> web.StreamResponse:
    raise NotSupported("attaching over a websocket is not supported: use POST .../attach")


async def logs(call: ApiRequest) -> web.StreamResponse:
    options = LogOptions(
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        since=timestamp("since", call.text("since")),
        until=timestamp("until", call.text("until")),
        timestamps=call.flag("timestamps"),
        follow=call.flag("follow"),
        tail=_tail(call.text("tail")),
        details=call.flag("details"),
    )
    if not (options.stdout or options.stderr):
        raise InvalidSpec("Bad parameters: you must choose at least one stream")
    container = await call.executors.read(call.engine.containers.find, call.ref)
    tty = container.config.tty
    lines = await responses.start_stream(call.engine.containers.logs(container.id, options))
    async with aclosing(lines):
        response = await responses.open_stream(call.request, stream_type(tty=tty, api=call.api))
        try:
            async for channel, data in lines:
                await responses.write(call.request, response, data if tty else frame(channel, data))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  too late for a status
            if not isinstance(error, NetkitError):
                threads.report(f"reading the log of container {container.name}", error)
            text = f"Error grabbing logs: {error}\n".encode()
            await responses.write(call.request, response, text if tty else frame(_ERROR, text))
        await response.write_eof()
    return response


def _tail(text: str) -> int | None:
    return natural(text)  # as Docker: all for what is no number


async def stats(call: ApiRequest) -> web.StreamResponse:
    stream, once = call.flag("stream", default=True), call.flag("one-shot")
    if stream and once:
        raise InvalidSpec("cannot have stream=true and one-shot=true")
    container = await call.executors.read(call.engine.containers.find, call.ref)
    sample = await call.executors.read(call.engine.containers.stats, container.id)
    if not stream:
        if once or not container.state.alive:
            return responses.data(since_last(sample, None))
        await asyncio.sleep(_PERIOD)  # as Docker: clients need two samples for CPU rates
        second = await call.executors.read(call.engine.containers.stats, container.id)
        return responses.data(since_last(second, sample))
    response = await responses.open_stream(call.request, responses.JSON)
    last: dict[str, Any] | None = None
    try:
        while True:
            line = responses.line(since_last(sample, last))
            await responses.write(call.request, response, line)
            last = sample
            await asyncio.sleep(_PERIOD)
            sample = await call.executors.read(call.engine.containers.stats, container.id)
    except NotFound:  # removed: the stream ends
        await response.write_eof()
    return response


def since_last(sample: dict[str, Any], last: dict[str, Any] | None) -> dict[str, Any]:
    """A sample with the one before it, from which clients compute rates."""
    return {
        **sample,
        "preread": last.get("read", _NEVER) if last else _NEVER,
        "precpu_stats": last.get("cpu_stats", _NO_CPU) if last else _NO_CPU,
    }


ROUTES = [
    Route("GET", "/containers/{ref}/attach/ws", attach_websocket),
    Route("POST", "/containers/{ref}/attach", attach),
    Route("GET", "/containers/{ref}/logs", logs),
    Route("GET", "/containers/{ref}/stats", stats),
]
