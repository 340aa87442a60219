"""Routes of netkit's own: traces of packets.  Nothing is sent or changed."""

from __future__ import annotations

import msgspec
from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route


async def leg(call: ApiRequest) -> web.StreamResponse:
    """`ask` is an Ask in JSON."""
    try:
        from netkit.diagnose.trace.leg import Ask  # first used here: see runtime.deferred

        ask = msgspec.json.decode(call.text("ask"), type=Ask)
    except msgspec.DecodeError as e:
        raise InvalidSpec(f"bad parameter: ask: {e}") from None
    return responses.data(
        msgspec.to_builtins(await call.executors.operate(call.engine.trace.leg, ask))
    )


async def place(call: ApiRequest) -> web.StreamResponse:
    found = await call.executors.read(call.engine.trace.locate, call.text("name"))
    return responses.data(msgspec.to_builtins(found))


ROUTES = [
    Route("GET", "/netkit/trace", leg),
    Route("GET", "/netkit/trace/place", place),
]
