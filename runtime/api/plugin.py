"""The HTTP application of dockerd's plugin sockets: a call to each is passed on to its driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from netkit.errors import InvalidSpec
from netkit.frontends.libnetwork.messages import LARGEST
from netkit.frontends.libnetwork.plugin import JSON, Answer, Plugin
from runtime import limits
from runtime.api.server.backlog import REPLIES, Replies
from runtime.api.server.executors import Executors
from runtime.api.server.upgrade_guard import UpgradeGuard, want_body


def make_plugin_app(plugin: Plugin, drivers: Mapping[str, str]) -> web.Application:
    """`drivers`: by path of a listener's socket, the driver that is called by it; "" is the IPAM.

    A call runs to its end although dockerd hangs up: it repeats it, and finds it done.
    """
    executors = Executors()

    async def handle(request: web.Request) -> web.StreamResponse:
        front = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(front, UpgradeGuard):
            front.begun(request.content)
        received = False
        try:
            answer = await _answer(request, plugin, drivers, executors)
            received = request.content.is_eof()
        finally:
            if isinstance(front, UpgradeGuard):
                front.done(received=received)
        return web.Response(status=answer.status, body=answer.body, content_type=JSON)

    async def pools(_: web.Application) -> AsyncIterator[None]:
        yield
        executors.close()

    app = web.Application(client_max_size=LARGEST)
    app[REPLIES] = Replies()
    app.router.add_post("/{path:.*}", handle)
    app.cleanup_ctx.append(pools)
    return app


async def _answer(
    request: web.Request, plugin: Plugin, drivers: Mapping[str, str], executors: Executors
) -> Answer:
    try:
        async with asyncio.timeout(limits.BODY_SECONDS):
            want_body(request)
            body = await request.read()
    except (TimeoutError, web.HTTPRequestEntityTooLarge):
        error = InvalidSpec(
            f"a request has at most {LARGEST >> 20} MiB, and arrives within {limits.BODY_SECONDS} s"
        )
        return Answer(error.status, str(error).encode())
    assert request.transport is not None
    driver = drivers[str(request.transport.get_extra_info("sockname"))]
    return await executors.operate(plugin.call, driver, request.path, body)
