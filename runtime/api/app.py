"""The aiohttp application: check and route requests, and render errors as Docker's JSON."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from aiohttp import hdrs, web

from netkit import __version__
from netkit.errors import NetkitError, disk_fault
from netkit.threads import notes
from runtime import limits
from runtime.api import older_versions, version
from runtime.api.backend.engine import Engine
from runtime.api.routes import (
    archive,
    build,
    cluster,
    cni,
    commit,
    containers,
    firewall,
    images,
    networks,
    ovn,
    registry,
    system,
    trace,
    unsupported,
    volumes,
    watch,
    weave,
)
from runtime.api.routes import (
    container_io as streams,
)
from runtime.api.routes import (
    exec as execs,
)
from runtime.api.server import responses
from runtime.api.server.admission import BODIES, Bodies
from runtime.api.server.attach_session import SESSIONS
from runtime.api.server.backlog import REPLIES, Replies
from runtime.api.server.browsers import refuse_browsers
from runtime.api.server.executors import Executors
from runtime.api.server.hijack import HijackedResponse
from runtime.api.server.request import ApiRequest
from runtime.api.server.request_tally import RequestTally
from runtime.api.server.routing import Route, Table
from runtime.api.server.upgrade_guard import UpgradeGuard


class Unexpected(NetkitError):
    status = 417


log = logging.getLogger("netkit.api")

HEADERS = {
    "Server": f"Docker/{__version__} (linux)",
    "Api-Version": version.text(version.NEWEST),
    "Ostype": "linux",
    "Docker-Experimental": "false",
}

# unsupported first: its routes on containers are more specific than DELETE /containers/{ref}
ROUTES: Sequence[Route] = [
    *unsupported.ROUTES,
    *containers.ROUTES,
    *commit.ROUTES,
    *streams.ROUTES,
    *archive.ROUTES,
    *execs.ROUTES,
    *registry.ROUTES,
    *images.ROUTES,
    *build.ROUTES,
    *networks.ROUTES,
    *volumes.ROUTES,
    *firewall.ROUTES,
    *cluster.ROUTES,
    *ovn.ROUTES,
    *weave.ROUTES,
    *cni.ROUTES,
    *system.ROUTES,
    *trace.ROUTES,
    *watch.ROUTES,
]


def make_app(
    engine: Engine, *, extra: Sequence[Route] = (), tally: RequestTally | None = None
) -> web.Application:
    """Build the API over `engine`; `extra` routes take precedence.  `tally` counts answers."""
    executors = Executors()
    table = Table([*extra, *ROUTES])
    dispatcher = _Dispatcher(engine, table, executors, tally or RequestTally())
    app = web.Application(client_max_size=limits.BODY_BYTES)
    app[SESSIONS] = set()
    app[responses.STREAMS] = set()
    app[system.COUNTS] = {}
    app[BODIES] = Bodies()
    app[REPLIES] = Replies()
    app.router.add_route("*", "/{path:.*}", dispatcher.dispatch, expect_handler=_continue)
    app.on_response_prepare.append(_stamp)
    app.on_shutdown.append(_hang_up)

    async def threads(_: web.Application) -> AsyncIterator[None]:
        yield
        executors.close()

    app.cleanup_ctx.append(threads)
    return app


class _Dispatcher:
    """From a request to its handler, and from errors to responses."""

    def __init__(
        self, engine: Engine, table: Table, executors: Executors, tally: RequestTally
    ) -> None:
        self._engine = engine
        self._table = table
        self._executors = executors
        self._tally = tally

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        self._tally.begin()
        status: int | None = None
        try:
            response = await self._guarded(request)
            status = response.status
            if isinstance(response, HijackedResponse) and not response.hijacked:
                status = None
            return response
        except web.HTTPException as answer:
            status = answer.status
            raise
        finally:
            self._tally.end(request.method, status)

    async def _guarded(self, request: web.Request) -> web.StreamResponse:
        received = False
        front = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(front, UpgradeGuard):
            front.begun(request.content)
        try:
            response = await self._answer(request)
            received = request.content.is_eof()
        finally:
            request.app[BODIES].free(id(request))
            front = request.transport.get_protocol() if request.transport is not None else None
            last = isinstance(front, UpgradeGuard) and front.last
            if isinstance(front, UpgradeGuard):  # the connection was not hijacked
                front.done(received=received)
        if last:
            response.force_close()
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._handled(request)
        except NetkitError as error:
            added = notes(error)  # e.g. what could not be undone
            if added or error.status == 500:  # of this host, not of the request
                text = "; ".join([str(error), *added])
                log.warning("%s %s failed: %s", request.method, request.path, text)
            return _failed(request, error.status, str(error))
        except ConnectionResetError:
            log.debug("%s: the client disconnected before the answer was complete", request.path)
            return HijackedResponse(hijacked=False)  # there is no client to answer
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            if (fault := disk_fault(error)) is not None:
                log.warning("%s %s failed: %s", request.method, request.path, fault)
                return _failed(request, fault.status, str(fault))
            log.exception("%s %s failed", request.method, request.path_qs)
            return _failed(request, 500, f"internal error: {type(error).__name__}: {error}")

    async def _handled(self, request: web.Request) -> web.StreamResponse:
        refuse_browsers(request)
        _check_expectation(request)
        if request.method == hdrs.METH_OPTIONS:
            return responses.empty(200)
        api, path = version.split(request.path)
        api = older_versions.spoken(api, request.headers.get(hdrs.USER_AGENT, ""))
        handler, args = self._table.resolve(request.method, path)
        if request.app[REPLIES].was_large(request.path_qs):
            await request.app[REPLIES].room()
        return await handler(
            ApiRequest(
                request=request, engine=self._engine, executors=self._executors, api=api, args=args
            )
        )


async def _continue(request: web.Request) -> None:
    if request.headers[hdrs.EXPECT].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp: none of the response was sent


def _check_expectation(request: web.Request) -> None:
    if (text := request.headers.get(hdrs.EXPECT, "")) and text.lower() != "100-continue":
        raise Unexpected(f"unknown expectation {text!r}: 100-continue is known")


def _failed(request: web.Request, status: int, message: str) -> web.StreamResponse:
    if request.writer.output_size > 0:
        # the status was sent already: only closing the connection signals the error
        raise ConnectionAbortedError(f"{request.path} failed half-way: {message}")
    return responses.error(status, message)


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def _hang_up(app: web.Application) -> None:
    talks = app[SESSIONS]
    for connection in tuple(talks):
        connection.abort()
    streams = app[responses.STREAMS]
    for task in tuple(streams):
        task.cancel()
