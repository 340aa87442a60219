"""Routes of netkit's own: servers of OVN on this host."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.apitypes import ApiObject


class UpRequest(ApiObject):
    """Body of POST /netkit/ovn/up."""

    address: str = ""  # this host's, for the others; "": from its routes
    server: str = ""  # a host with servers, which are joined; "": a new OVN
    insecure: bool = False  # without TLS


class DownRequest(ApiObject):
    """Body of POST /netkit/ovn/down."""

    host: str = ""  # address of another one; "": this one
    force: bool = False  # without contacting the others


async def status(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.read(call.engine.ovn.status))


async def up(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(UpRequest)
    act = partial(call.engine.ovn.up, body.address, body.server, insecure=body.insecure)
    return responses.data(await call.executors.operate(act), 201)


async def down(call: ApiRequest) -> web.StreamResponse:
    body = await call.body(DownRequest)
    await call.executors.operate(partial(call.engine.ovn.down, body.host, force=body.force))
    return responses.empty()


ROUTES = [
    Route("GET", "/netkit/ovn", status),
    Route("POST", "/netkit/ovn/up", up),
    Route("POST", "/netkit/ovn/down", down),
]
