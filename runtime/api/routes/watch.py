"""Route of netkit's own: networks and endpoints as a stream of what changes."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route

INTERVAL = 1.0  # seconds, unless another is given


async def watch(call: ApiRequest) -> web.StreamResponse:
    interval = _seconds(call.text("interval"))
    source = call.engine.watch.watch(interval, counted=call.flag("traffic"))
    return await responses.send_objects(call.request, source)


def _seconds(text: str) -> float:
    try:
        return float(text) if text else INTERVAL
    except ValueError:
        raise InvalidSpec(f"invalid interval {text!r}: must be a number of seconds") from None


ROUTES = [Route("GET", "/netkit/watch", watch)]
