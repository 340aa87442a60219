"""A shell in a container, over a WebSocket.

binary from the page    what is typed        text from the page   {"rows", "columns"}
binary to the page      what is shown        text to the page     {"exit": code} or {"failed": why}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from netkit.client.engine import Engine
from netkit.client.failure import Failure, Refused
from netkit.errors import Busy
from netkit.ui.request import container, source

if TYPE_CHECKING:
    import socket

    from netkit.client.http import Wire
    from netkit.client.secure import SecureSocket

COMMAND = ["sh", "-c", "if command -v bash >/dev/null; then exec bash; fi; exec sh"]
SHELLS = 16  # at a time
TYPED = 1 << 16  # bytes of a message
BEAT = 20.0  # seconds; a page that does not answer is gone
MOST = 1000  # rows and columns
HANG_UP = b"\x03\x04"  # ^C ^D: a shell that is left would go on, for an exec has no hang-up
OPEN = web.AppKey("ui shells", set[object])


class Pipe:
    """A connection that an engine has handed over, without blocking the event loop."""

    def __init__(self, wire: Wire) -> None:
        self._sock: socket.socket | SecureSocket = wire.sock
        self._ahead, wire.ahead = wire.ahead, b""
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """b"" at the end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        while True:
            try:
                return self._sock.recv(TYPED)
            except BlockingIOError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
            except ConnectionError:
                return b""

    async def write(self, data: bytes) -> None:
        """OSError."""
        while data or getattr(self._sock, "unsent", b""):
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)

    async def _until(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        ready, number = asyncio.Event(), self._sock.fileno()
        add(number, ready.set)
        try:
            await ready.wait()
        finally:
            remove(number)

    def close(self) -> None:
        self._sock.close()


async def shell(request: web.Request) -> web.StreamResponse:
    """Busy where there are too many."""
    at, name, mine = source(request), container(request), object()
    if len(request.app[OPEN]) >= SHELLS:
        raise Busy(f"{SHELLS} shells are open already: close one")
    request.app[OPEN].add(mine)
    engine = at.containers()
    try:
        page = web.WebSocketResponse(max_msg_size=TYPED, heartbeat=BEAT)
        await page.prepare(request)
        try:
            await _talk(engine, name, page)
        except Refused as refused:
            await page.send_json({"failed": refused.reason})
        except (Failure, OSError) as error:  # TimeoutError as well
            await page.send_json({"failed": str(error)})
        await page.close()
        return page
    finally:
        request.app[OPEN].discard(mine)
        engine.close()


async def _talk(engine: Engine, name: str, page: web.WebSocketResponse) -> None:
    first = await page.receive(BEAT)
    size = _size(first.data) if first.type is WSMsgType.TEXT else {}
    id, wire = await asyncio.to_thread(_begun, engine, name, size)
    pipe = Pipe(wire)
    shown = asyncio.create_task(_show(pipe, page))
    typed = asyncio.create_task(_type(pipe, engine, id, page))
    try:
        await asyncio.wait({shown, typed}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():  # the page has gone
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(pipe.write(HANG_UP), 1)
    finally:
        shown.cancel()
        typed.cancel()
        for each in await asyncio.gather(shown, typed, return_exceptions=True):
            if isinstance(each, Exception) and not isinstance(each, ConnectionError):
                raise each
        pipe.close()
    if not page.closed:
        end = await asyncio.to_thread(engine.get, f"/exec/{id}/json")
        await page.send_json({"exit": int(end.get("ExitCode") or 0)})


def _begun(engine: Engine, name: str, size: dict[str, int]) -> tuple[str, Wire]:
    console: dict[str, Any] = {"ConsoleSize": [size["h"], size["w"]]} if size else {}
    made = engine.post(
        f"/containers/{name}/exec",
        body={
            "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": True,
            "Cmd": COMMAND, "Env": ["TERM=xterm-256color"], **console,
        },
    )["Id"]  # fmt: skip
    begin = {"Detach": False, "Tty": True, **console}
    return made, engine.hijack(f"/exec/{made}/start", body=begin).wire


async def _show(pipe: Pipe, page: web.WebSocketResponse) -> None:
    while data := await pipe.read():
        await page.send_bytes(data)


async def _type(pipe: Pipe, engine: Engine, id: str, page: web.WebSocketResponse) -> None:
    async for message in page:
        if message.type is WSMsgType.BINARY:
            await pipe.write(message.data)
        elif message.type is WSMsgType.TEXT and (size := _size(message.data)):
            with suppress(Failure):  # it may have ended
                await asyncio.to_thread(engine.post, f"/exec/{id}/resize", size)


def _size(text: str) -> dict[str, int]:
    """Of the terminal, as the API has it; {} for what is none."""
    try:
        found: Any = json.loads(text)
        rows, columns = found["rows"], found["columns"]
    except (ValueError, KeyError, TypeError):
        return {}
    right = all(isinstance(n, int) and 0 < n <= MOST for n in (rows, columns))
    return {"h": rows, "w": columns} if right else {}
