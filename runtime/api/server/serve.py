"""Run the application on its listeners."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence

from aiohttp import web
from aiohttp.http import HttpProcessingError

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.api.server.admission import Connections
from runtime.api.server.backlog import REPLIES
from runtime.api.server.listeners import Listener
from runtime.api.server.tls_half_close import TlsProtocol
from runtime.api.server.upgrade_guard import UpgradeGuard

log = logging.getLogger("netkit.api")
_http = logging.getLogger("netkit.api.http")  # what aiohttp logs

_GRACE = 2.0  # seconds requests get at shutdown; operations continue in their threads


class Malformed(logging.Filter):
    """Logs malformed requests in one line, without a traceback: the fault is the client's."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "malformed request: %s", (_line(error),)
            record.exc_info = record.exc_text = None
        return True


def _line(error: HttpProcessingError) -> str:
    return " ".join(error.message.split())[:200]


_http.addFilter(Malformed())


class Serving:
    """A running server; `close` ends it and removes its socket files."""

    def __init__(
        self,
        runner: web.AppRunner,
        servers: Sequence[asyncio.AbstractServer],
        listeners: Sequence[Listener],
    ) -> None:
        self._runner = runner
        self._servers = servers
        self._listeners = listeners

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        await self._runner.cleanup()


async def serve(
    app: web.Application,
    listeners: Sequence[Listener],
    *,
    tls: ssl.SSLContext | None = None,
    bound: int | None = None,
) -> Serving:
    """Accept connections on all listeners; a disconnect cancels the handler.

    `bound`: connections at a time, limits.CONNECTIONS if None.
    """
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,  # a gzipped tar is the engine's to unpack
        logger=_http,
        max_line_size=limits.LINE_BYTES,
        max_field_size=limits.FIELD_BYTES,
        shutdown_timeout=_GRACE,
    )
    await runner.setup()
    servers: list[asyncio.AbstractServer] = []
    connections = Connections(app[REPLIES], bound)
    try:
        for listener in listeners:
            servers.append(await _accept(runner, listener, tls, connections))
            log.info("listening on %s", listener.name)
    except BaseException:
        await Serving(runner, servers, listeners).close()
        raise
    return Serving(runner, servers, listeners)


async def _accept(
    runner: web.AppRunner,
    listener: Listener,
    tls: ssl.SSLContext | None,
    connections: Connections,
) -> asyncio.AbstractServer:
    plain = runner.server
    assert plain is not None
    if listener.tls and tls is None:
        raise InvalidSpec(f"{listener.name} needs TLS, and no certificate was given")
    loop = asyncio.get_running_loop()
    if not listener.tls or tls is None:
        return await loop.create_server(
            lambda: UpgradeGuard(plain(), connections),
            sock=listener.sock,
            backlog=limits.CONNECTIONS,
        )
    context = tls
    return await loop.create_server(
        lambda: TlsProtocol(context, lambda: UpgradeGuard(plain(), connections), connections),
        sock=listener.sock,
        backlog=limits.CONNECTIONS,
    )
