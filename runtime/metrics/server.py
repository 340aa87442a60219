"""The HTTP application of the metrics listener: GET /metrics, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from netkit.errors import NetkitError, NotFound
from runtime import limits
from runtime.api.server.backlog import REPLIES, Replies
from runtime.api.server.browsers import refuse_browsers
from runtime.api.server.upgrade_guard import UpgradeGuard
from runtime.metrics.collection import Collection
from runtime.metrics.exposition import Rendered
from runtime.metrics.negotiation import chosen, takes_gzip
from runtime.shared_reads import SharedReads

PATH = "/metrics"

log = logging.getLogger("netkit.metrics")


class NotAllowed(NetkitError):
    status = 405


def make_app(collection: Collection) -> web.Application:
    handler = _Handler(SharedReads(
        collection, what="metrics", thread="netkit-metrics",
        seconds=lambda: limits.METRICS_SECONDS,
    ))  # fmt: skip
    app = web.Application(client_max_size=1)
    app[REPLIES] = Replies()
    app.router.add_route("*", "/{path:.*}", handler.dispatch)

    async def threads(_: web.Application) -> AsyncIterator[None]:
        yield
        handler.reads.close()

    app.cleanup_ctx.append(threads)
    return app


class _Handler:
    def __init__(self, reads: SharedReads[Rendered]) -> None:
        self.reads = reads

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        front = request.transport.get_protocol() if request.transport is not None else None
        guard = front if isinstance(front, UpgradeGuard) else None
        if guard is not None:
            guard.begun(request.content)
        try:
            response = await self._answer(request)
        finally:
            if guard is not None:
                guard.done(received=request.content.is_eof())
        if guard is not None and guard.last:
            response.force_close()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            return await self._page(request)
        except NetkitError as error:
            headers = {hdrs.ALLOW: "GET, HEAD"} if isinstance(error, NotAllowed) else None
            return web.Response(status=error.status, text=f"{error}\n", headers=headers)
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("%s failed", request.path)
            name = type(error).__name__
            return web.Response(status=500, text=f"internal error: {name}: {error}\n")

    async def _page(self, request: web.Request) -> web.Response:
        refuse_browsers(request)
        if request.path != PATH:
            raise NotFound("404 page not found")
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            raise NotAllowed(f"method {request.method} is not allowed")
        await request.app[REPLIES].room()
        page = await self.reads.last()
        format = chosen(",".join(request.headers.getall(hdrs.ACCEPT, ())))
        compressed = takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        body = await self.reads.work(lambda: page.body(format, compressed=compressed))
        headers = {hdrs.CONTENT_TYPE: format.value, hdrs.VARY: "Accept, Accept-Encoding"}
        if compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, headers=headers)
