"""Routes of netkit's own: this host's membership in a cluster."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from netkit.errors import InvalidSpec
from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.apitypes import ApiObject


class JoinRequest(ApiObject):
    """Body of POST /netkit/cluster/init and /join."""

    address: str = ""  # this host's, for the others; "": from its routes
    server: str = ""  # a host of the cluster to join


class Leaving(ApiObject):
    """Body of POST /netkit/cluster/leave."""

    host: str = ""  # another one; "": this one
    force: bool = False  # without contacting the others


async def status(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.read(call.engine.cluster.status))


async def init(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(JoinRequest)
    return responses.data(
        await call.executors.operate(call.engine.cluster.init, wanted.address), 201
    )


async def join(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(JoinRequest)
    if not wanted.server:
        raise InvalidSpec("Server is needed: the address of a host of the cluster")
    there, here = wanted.server, wanted.address
    return responses.data(await call.executors.operate(call.engine.cluster.join, there, here), 201)


async def leave(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(Leaving)
    leaving = partial(call.engine.cluster.leave, wanted.host, force=wanted.force)
    await call.executors.operate(leaving)
    return responses.empty()


ROUTES = [
    Route("GET", "/netkit/cluster", status),
    Route("POST", "/netkit/cluster/init", init),
    Route("POST", "/netkit/cluster/join", join),
    Route("POST", "/netkit/cluster/leave", leave),
]
