"""The application: every request is checked, routed, and its errors become Docker's JSON."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address

from aiohttp import hdrs, web

from netkit import __version__
from netkit.errors import Forbidden, NetkitError
from runtime import limits
from runtime.api import (
    absent,
    archive,
    cluster,
    containers,
    execs,
    firewall,
    images,
    networks,
    older,
    reply,
    streams,
    system,
    trace,
    version,
)
from runtime.api.call import Call
from runtime.api.front import Front
from runtime.api.hijack import Hijacked
from runtime.api.lanes import Lanes
from runtime.api.routes import Route, Table
from runtime.api.talk import TALKS
from runtime.ports.engine import Engine


class Unexpected(NetkitError):
    status = 417


log = logging.getLogger("netkit.api")

HEADERS = {
    "Server": f"Docker/{__version__} (linux)",
    "Api-Version": version.text(version.NEWEST),
    "Ostype": "linux",
    "Docker-Experimental": "false",
}

# absent first: its routes on containers are more particular than DELETE /containers/{ref}
ROUTES: Sequence[Route] = [
    *absent.ROUTES,
    *containers.ROUTES,
    *streams.ROUTES,
    *archive.ROUTES,
    *execs.ROUTES,
    *images.ROUTES,
    *networks.ROUTES,
    *firewall.ROUTES,
    *cluster.ROUTES,
    *system.ROUTES,
    *trace.ROUTES,
]


def make_app(engine: Engine, *, extra: Sequence[Route] = ()) -> web.Application:
    """The API over `engine`; `extra` routes (metrics, say) are looked at first."""
    table = Table([*extra, *ROUTES])
    lanes = Lanes()

    async def dispatch(request: web.Request) -> web.StreamResponse:
        received = False
        front = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(front, Front):
            front.body = request.content
        try:
            response = await answer(request)
            received = request.content.is_eof()
        finally:
            front = request.transport.get_protocol() if request.transport is not None else None
            last = isinstance(front, Front) and front.last
            if isinstance(front, Front):  # the connection was not taken over
                front.done(received=received)
        if last:
            response.force_close()
        return response

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            _refuse_browsers(request)
            _check_expectation(request)
            if request.method == hdrs.METH_OPTIONS:
                return reply.empty(200)
            api, path = version.split(request.path)
            api = older.spoken(api, request.headers.get(hdrs.USER_AGENT, ""))
            handler, args = table.resolve(request.method, path)
            return await handler(
                Call(request=request, engine=engine, lanes=lanes, api=api, args=args)
            )
        except NetkitError as error:
            return _failed(request, error.status, str(error))
        except ConnectionResetError:
            log.debug("%s: the client left before the answer was whole", request.path)
            return Hijacked()  # nobody is there to write to
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path_qs)
            return _failed(request, 500, f"internal error: {type(error).__name__}: {error}")

    app = web.Application(client_max_size=limits.BODY_BYTES)
    app[TALKS] = set()
    app[reply.STREAMS] = set()
    app.router.add_route("*", "/{path:.*}", dispatch, expect_handler=_continue)
    app.on_response_prepare.append(_stamp)
    app.on_shutdown.append(_hang_up)

    async def threads(_: web.Application) -> AsyncIterator[None]:
        yield
        lanes.close()

    app.cleanup_ctx.append(threads)
    return app


async def _continue(request: web.Request) -> None:
    if request.headers[hdrs.EXPECT].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp does: nothing of the answer is out


def _check_expectation(request: web.Request) -> None:
    if (text := request.headers.get(hdrs.EXPECT, "")) and text.lower() != "100-continue":
        raise Unexpected(f"unknown expectation {text!r}: 100-continue is known")


def _failed(request: web.Request, status: int, message: str) -> web.StreamResponse:
    if request.writer.output_size > 0:
        # the status is out: only breaking the connection tells the client
        raise ConnectionAbortedError(f"{request.path} failed half-way: {message}")
    return reply.error(status, message)


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def _hang_up(app: web.Application) -> None:
    talks = app[TALKS]
    for connection in tuple(talks):
        connection.abort()
    streams = app[reply.STREAMS]
    for task in tuple(streams):
        task.cancel()


def _refuse_browsers(request: web.Request) -> None:
    """A web page must not drive the engine: by its own requests, or by DNS rebinding.

    Browsers cannot open Unix sockets.  A rebinding page sends its own name as Host.
    """
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    if hdrs.ORIGIN in request.headers:
        raise Forbidden("requests from web pages are refused: they carry an Origin header")
    if transport is not None and transport.get_extra_info("sslcontext") is not None:
        return  # TLS names the server already
    local = str(sock.getsockname()[0])
    if ip_address(local).is_loopback and not _local_name(request.headers.get(hdrs.HOST, "")):
        raise Forbidden(
            f"Host {request.headers.get(hdrs.HOST, '')!r} is not a name of this machine: use "
            "localhost or 127.0.0.1"
        )


def _local_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in {"", "localhost", "docker", socket.gethostname().lower()}:
        return True
    if name.endswith(".localhost"):
        return True
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
