"""Connect a client to a process over a hijacked connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from netkit.errors import NetkitError
from runtime.api.server import hijack
from runtime.api.server.hijack import Connection, HijackedResponse
from runtime.api.server.request import ApiRequest
from runtime.lifecycle.streams import Attachment

log = logging.getLogger("netkit.api")

SESSIONS = web.AppKey("talks", set[Connection])  # open hijacked connections

DRAIN_SECONDS = 5.0  # seconds the process gets to read remaining input of a client
_LAST_LOOK = 0.5  # seconds it gets to read EOF


async def run_session(
    call: ApiRequest, attachment: Attachment, *, error_channel: int
) -> web.StreamResponse:
    """Run the attachment on the connection until either side is done, then close it.

    An error from now on can only be shown as output, on `error_channel`.
    """
    request = call.request
    connection = await hijack.take_over(request, tty=attachment.tty, api=call.api)
    talks = request.app[SESSIONS]
    talks.add(connection)
    try:
        await _run(attachment, connection, error_channel)
        await connection.close()
    finally:
        talks.discard(connection)
        connection.abort()
        hijack.release(request)
    return HijackedResponse()


async def _run(attachment: Attachment, connection: Connection, error_channel: int) -> None:
    running = asyncio.ensure_future(attachment.run(connection))
    gone = asyncio.ensure_future(connection.lost.wait())
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await _drain_input(connection, running)
    finally:
        gone.cancel()
        running.cancel()
        await asyncio.wait({running})
    if running.cancelled():
        return
    match running.exception():
        case None:
            pass
        case ConnectionError():
            log.debug("a client disconnected while output was sent")
        case NetkitError() as error:
            await _tell(connection, error_channel, str(error))
        case error:
            log.error("an attached process failed", exc_info=error)
            await _tell(connection, error_channel, f"internal error: {error}")


async def _drain_input(connection: Connection, running: asyncio.Future[None]) -> None:
    """Deliver remaining input and EOF to the process after the client has disconnected."""
    patience = DRAIN_SECONDS if connection.unread else _LAST_LOOK
    consumed = asyncio.ensure_future(connection.input_consumed.wait())
    both: list[asyncio.Future[Any]] = [consumed, running]
    await asyncio.wait(both, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    consumed.cancel()
    if not running.done():
        await asyncio.wait({running}, timeout=_LAST_LOOK)


async def _tell(connection: Connection, channel: int, message: str) -> None:
    try:
        await connection.write(channel, message.encode() + b"\r\n")
    except ConnectionError:
        log.info("the client disconnected before this error was sent: %s", message)
