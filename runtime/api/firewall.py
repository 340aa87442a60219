"""Routes of netkit's own: who may reach whom."""

from __future__ import annotations

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api import reply
from runtime.api.call import Call
from runtime.api.routes import Route
from runtime.ports.networks import AccessRequest


async def show(call: Call) -> web.StreamResponse:
    container = call.text("container")
    return reply.data(await call.lanes.look(call.engine.firewall.show, container))


async def rules(call: Call) -> web.StreamResponse:
    container = call.text("container")
    return reply.data(await call.lanes.look(call.engine.firewall.rules, container))


async def add(call: Call) -> web.StreamResponse:
    wanted = await call.body(AccessRequest)
    return reply.data(await call.lanes.work(call.engine.firewall.add, wanted), 201)


async def remove(call: Call) -> web.StreamResponse:
    return reply.data(await call.lanes.work(call.engine.firewall.remove, call.ref))


async def drift(call: Call) -> web.StreamResponse:
    steps = await call.lanes.work(call.engine.firewall.drift)
    return reply.data({"Steps": steps, "Enforced": call.engine.firewall.enforced})


async def repair(call: Call) -> web.StreamResponse:
    steps = await call.lanes.work(call.engine.firewall.repair)
    return reply.data({"Steps": steps, "Enforced": call.engine.firewall.enforced})


async def explain(call: Call) -> web.StreamResponse:
    asked = [call.text(word) for word in ("from", "to", "port")]
    for word, given in zip(("from", "to"), asked, strict=False):
        if not given:
            raise InvalidSpec(f"bad parameter: {word} cannot be empty")
    return reply.data(await call.lanes.work(call.engine.firewall.explain, *asked))


ROUTES = [
    Route("GET", "/netkit/firewall", show),
    Route("GET", "/netkit/firewall/access", rules),
    Route("POST", "/netkit/firewall/access", add),
    Route("DELETE", "/netkit/firewall/access/{ref}", remove),
    Route("GET", "/netkit/firewall/drift", drift),
    Route("POST", "/netkit/firewall/repair", repair),
    Route("GET", "/netkit/firewall/explain", explain),
]
