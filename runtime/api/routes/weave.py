"""Routes of netkit's own: this host's part in a weave overlay."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from runtime.api.server import responses
from runtime.api.server.request import ApiRequest
from runtime.api.server.routing import Route
from runtime.network.weave.requests import (
    AttachRequest,
    ConnectRequest,
    DetachRequest,
    DnsRequest,
    ExposeRequest,
    ForgetRequest,
    HideRequest,
    LaunchRequest,
    ResetRequest,
    RmPeerRequest,
)

# All of them ask a process, which may take seconds: none is a `read`.


async def status(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.operate(call.engine.weave.status))


async def report(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.operate(call.engine.weave.report))


async def launch(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(LaunchRequest, optional=True)
    return responses.data(await call.executors.operate(call.engine.weave.launch, wanted), 201)


async def connect(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(ConnectRequest)
    connecting = partial(call.engine.weave.connect, wanted.peers, replace=wanted.replace)
    await call.executors.operate(connecting)
    return responses.empty()


async def forget(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(ForgetRequest)
    await call.executors.operate(call.engine.weave.forget, wanted.peers)
    return responses.empty()


async def rmpeer(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(RmPeerRequest)
    removing = partial(call.engine.weave.rmpeer, wanted.peer, force=wanted.force)
    return responses.data(await call.executors.operate(removing))


async def prime(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.weave.prime)
    return responses.empty()


async def stop(call: ApiRequest) -> web.StreamResponse:
    await call.executors.operate(call.engine.weave.stop)
    return responses.empty()


async def reset(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(ResetRequest, optional=True)
    taken_off = await call.executors.operate(
        partial(call.engine.weave.reset, force=wanted.force)
    )
    return responses.data({"Containers": taken_off})


async def attach(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(AttachRequest)
    found = await call.executors.operate(call.engine.weave.attach, wanted)
    warnings = await call.executors.operate(call.engine.weave.address_warnings, wanted.addresses)
    return responses.data({"Addresses": found, "Warnings": warnings})


async def detach(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(DetachRequest)
    found = await call.executors.operate(call.engine.weave.detach, wanted)
    return responses.data({"Addresses": found})


async def expose(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(ExposeRequest, optional=True)
    found = await call.executors.operate(call.engine.weave.expose, wanted)
    warnings = await call.executors.operate(call.engine.weave.address_warnings, wanted.addresses)
    return responses.data({"Addresses": found, "Warnings": warnings})


async def hide(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(HideRequest, optional=True)
    found = await call.executors.operate(call.engine.weave.hide, wanted)
    return responses.data({"Addresses": found})


async def ps(call: ApiRequest) -> web.StreamResponse:
    return responses.data(await call.executors.operate(call.engine.weave.ps))


async def add_name(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(DnsRequest)
    await call.executors.operate(call.engine.weave.add_name, wanted)
    return responses.empty()


async def remove_name(call: ApiRequest) -> web.StreamResponse:
    wanted = await call.body(DnsRequest)
    await call.executors.operate(call.engine.weave.remove_name, wanted)
    return responses.empty()


async def lookup(call: ApiRequest) -> web.StreamResponse:
    name = call.text("name")
    return responses.data(await call.executors.operate(call.engine.weave.lookup, name))


ROUTES = [
    Route("GET", "/netkit/weave", status),
    Route("GET", "/netkit/weave/report", report),
    Route("POST", "/netkit/weave/launch", launch),
    Route("POST", "/netkit/weave/connect", connect),
    Route("POST", "/netkit/weave/forget", forget),
    Route("POST", "/netkit/weave/attach", attach),
    Route("POST", "/netkit/weave/detach", detach),
    Route("POST", "/netkit/weave/expose", expose),
    Route("POST", "/netkit/weave/hide", hide),
    Route("GET", "/netkit/weave/ps", ps),
    Route("POST", "/netkit/weave/dns/add", add_name),
    Route("POST", "/netkit/weave/dns/remove", remove_name),
    Route("GET", "/netkit/weave/dns/lookup", lookup),
    Route("POST", "/netkit/weave/rmpeer", rmpeer),
    Route("POST", "/netkit/weave/prime", prime),
    Route("POST", "/netkit/weave/stop", stop),
    Route("POST", "/netkit/weave/reset", reset),
]
