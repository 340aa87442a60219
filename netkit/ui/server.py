"""HTTP on loopback: the guard, the files, the stream of changes; what can be asked is in routes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from netkit.client.failure import Failure, Refused
from netkit.errors import NetkitError
from netkit.ui import routes
from netkit.ui.feed import Feed
from netkit.ui.files import files
from netkit.ui.guard import COOKIE, NAMES, Guard, Head
from netkit.ui.hub import Hub, Message
from netkit.ui.keys import FEEDS, FILES, GUARD, HUB, LAB, SOURCES
from netkit.ui.lab import add as add_lab
from netkit.ui.shell import OPEN, shell
from netkit.ui.source import LabControl, Source

BODY = 1 << 16  # bytes of a request's
QUIET = 15.0  # seconds after which an empty line shows that the stream lives
PAGE, SHELL = "index.html", "shell.html"
STRICT = "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'"
# xterm.js sets colours by style elements that it makes; so a shell is a document of its own.
POLICIES = {
    PAGE: f"{STRICT}; frame-ancestors 'none'",
    SHELL: f"{STRICT}; style-src 'self' 'unsafe-inline'; frame-ancestors 'self'",
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICIES[PAGE],
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listening(port: int) -> socket.socket:
    """On 127.0.0.1; 0: a free port.  OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((NAMES[0], port))
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    return sock


def application(guard: Guard, sources: Sequence[Source], lab: LabControl | None) -> web.Application:
    """`lab`: None where engines are shown that are in none."""
    app = web.Application(middlewares=[_guarded, _answered], client_max_size=BODY)
    app[GUARD], app[FILES] = guard, files()
    app[SOURCES] = {source.name: source for source in sources}
    app[HUB] = Hub((source.name for source in sources), lab.document() if lab else None)
    app[FEEDS] = []
    app.router.add_get(guard.base, _page)
    app.router.add_get(f"{guard.base}events", _events)
    app.router.add_routes(routes.table(guard.base))
    app[OPEN] = set()
    app.router.add_get(f"{guard.base}shell", shell)
    if lab is not None:
        app[LAB] = lab
        add_lab(app, guard.base)
    app.router.add_get(f"{guard.base}{{name}}", _file)
    app.on_startup.append(_start)
    app.on_cleanup.append(_stop)
    return app


async def serve(app: web.Application, sock: socket.socket) -> None:
    """Until it is cancelled."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _start(app: web.Application) -> None:
    loop = asyncio.get_running_loop()
    app[FEEDS] += [Feed(source, app[HUB], loop) for source in app[SOURCES].values()]
    for feed in app[FEEDS]:
        feed.start()


async def _stop(app: web.Application) -> None:
    for feed in app[FEEDS]:
        feed.close()


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    guard = request.app[GUARD]
    head = Head(
        method=request.method, path=request.path, cookie=request.cookies.get(COOKIE, ""),
        token=request.query.get("token", ""),
        headers={name.lower(): value for name, value in request.headers.items()},
    )  # fmt: skip
    try:
        linked = guard.check(head)
    except NetkitError as error:
        return web.Response(status=error.status, text=f"{error}\n", headers=HEADERS)
    if not linked:
        return await handler(request)
    answer = web.Response(status=303, headers={**HEADERS, hdrs.LOCATION: guard.base})
    answer.set_cookie(COOKIE, guard.token, path=guard.base, httponly=True, samesite="Strict")
    return answer


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as {"message"}, and the headers that each answer has."""
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        answer = _failed(error.status, error.reason)
    except Refused as refused:
        answer = _failed(refused.status, refused.reason)
    except NetkitError as error:
        answer = _failed(error.status, str(error))
    except (Failure, OSError) as error:
        answer = _failed(502, str(error))
    if not answer.prepared:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
    return answer


def _failed(status: int, why: str) -> web.Response:
    return web.json_response({"message": why}, status=status)


async def _page(request: web.Request) -> web.StreamResponse:
    return _sent(request, PAGE)


async def _file(request: web.Request) -> web.StreamResponse:
    return _sent(request, request.match_info["name"])


def _sent(request: web.Request, name: str) -> web.Response:
    file = request.app[FILES].get(name)
    if file is None:
        raise web.HTTPNotFound(reason=f"there is no {name[:80]!r}")
    gzipped = file.packed and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    answer = web.Response(body=file.read(gzipped=gzipped))
    answer.headers[hdrs.CONTENT_TYPE] = file.type
    if gzipped:
        answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
    if name in POLICIES:
        answer.headers["Content-Security-Policy"] = POLICIES[name]
    return answer


async def _events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: `state` first, then `change`, `traffic` and `lab` (netkit/ui/hub.py)."""
    with request.app[HUB].follow() as queue:
        answer = web.StreamResponse(headers={**HEADERS, hdrs.CONTENT_TYPE: "text/event-stream"})
        await answer.prepare(request)
        for feed in request.app[FEEDS]:
            feed.look_now()
        try:
            while True:
                await answer.write(await _next(queue))
        except ConnectionError:
            return answer  # the page was closed


async def _next(queue: asyncio.Queue[Message]) -> bytes:
    """The next message as an event, or a comment, by which a closed page is noticed."""
    try:
        message = await asyncio.wait_for(queue.get(), QUIET)
    except TimeoutError:
        return b":\n\n"
    text = json.dumps(message.content, separators=(",", ":"))
    return f"event: {message.kind}\ndata: {text}\n\n".encode()
