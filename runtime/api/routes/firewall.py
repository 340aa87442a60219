"""Routes of netkit's own: the firewall."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.network.access_request import AccessRequest


async def show(call: ApiRequest) -> web.StreamResponse:
    container = call.text("container")
    return responses.data(await call.executors.read(call.engine.firewall.show, container))


async def rules(call: ApiRequest) -> web.StreamResponse:
    container = call.text("container")
    return responses.data(await call.executors.read(call.engine.firewall.rules, container))


async def add(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(AccessRequest)
    return responses.data(await call.executors.operate(call.engine.firewall.add, wanted), 201)


async def remove(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.operate(call.engine.firewall.remove, call.ref))


def _state(call: ApiRequest, steps: list[str]) -> dict[str, Any]:
    firewall = call.engine.firewall
    return {"Steps": steps, "Enforced": firewall.enforced, "Findings": firewall.findings()}


async def drift(call: ApiRequest) -> web.StreamResponse:
    steps = await call.executors.operate(call.engine.firewall.drift)
    return responses.data(await call.executors.read(_state, call, steps))


async def repair(call: ApiRequest) -> web.StreamResponse:
    steps = await call.executors.operate(call.engine.firewall.repair)
    return responses.data(await call.executors.read(_state, call, steps))


async def explain(call: ApiRequest) -> web.StreamResponse:
    asked = [call.text(word) for word in ("from", "to", "port")]
    for word, given in zip(("from", "to"), asked, strict=False):
        if not given:
            raise InvalidSpec(f"bad parameter: {word} cannot be empty")
    return responses.data(await call.executors.operate(call.engine.firewall.explain, *asked))


ROUTES = [
    Route("GET", "/netkit/firewall", show),
    Route("GET", "/netkit/firewall/access", rules),
    Route("POST", "/netkit/firewall/access", add),
    Route("DELETE", "/netkit/firewall/access/{ref}", remove),
    Route("GET", "/netkit/firewall/drift", drift),
    Route("POST", "/netkit/firewall/repair", repair),
    Route("GET", "/netkit/firewall/explain", explain),
]
