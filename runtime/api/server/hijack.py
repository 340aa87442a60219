"""Hijack a connection from aiohttp, for raw bytes in both directions.

    client                              Front, aiohttp              Connection
      | POST .../attach, Upgrade: tcp ----> |                           |
      | first bytes of stdin -------------> | kept by Front ----------> | read()
      | <------------ 101 UPGRADED, then frames (raw bytes on a terminal) | write()

This relies on aiohttp's request.transport, request.protocol and request.task, and on its not
touching the connection for a response whose prepare and write_eof do nothing.
tests/unit/runtime/api/test_hijack.py checks that for each release of aiohttp.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Coroutine

from aiohttp import web

from runtime.api.server.admission import BODIES
from runtime.api.server.hangup import Hangup
from runtime.api.server.reading import Reading
from runtime.api.server.upgrade_guard import UpgradeGuard, want_body
from runtime.api.version import NEWEST, ApiVersion, text
from runtime.window import Window

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_AHEAD = 1 << 18  # bytes of stdin held for a slow process before reading from the client stops
_AHEAD_ALL = 4 << 20  # of all clients; beyond it each may have _AHEAD_LEAST
_AHEAD_LEAST = 1 << 13
_BEHIND = 1 << 14  # bytes of output buffered for a slow client before the process blocks
_LINGER = 5.0  # seconds a client gets to disconnect after the end of output
_STALLED = 60.0  # seconds without progress after which a client is disconnected
_POLL = 0.005  # seconds between checks of the write buffer


_window = Window(total=_AHEAD_ALL, most=_AHEAD, least=_AHEAD_LEAST)


def stream_type(*, tty: bool, api: ApiVersion) -> str:
    return MULTIPLEXED if not tty and api >= (1, 42) else RAW


def frame(channel: int, data: bytes) -> bytes:
    """channel(1) 0 0 0 length(4, big endian) data"""
    return struct.pack(">BxxxI", channel, len(data)) + data


class HijackedResponse(web.StreamResponse):
    """Returned by a handler that hijacked the connection, or where the client has left
    (`hijacked` False): aiohttp writes nothing."""

    def __init__(self, *, hijacked: bool = True) -> None:
        super().__init__(status=101)
        self.hijacked = hijacked
        self._eof_sent = True
        self._keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        return None


class Connection(Reading):
    """The raw connection; implements ports.Stream."""

    piece = 1 << 14

    def __init__(self, transport: asyncio.Transport, *, tty: bool) -> None:
        self._transport = transport
        self._tty = tty
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._eof = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._hangup = Hangup()
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = asyncio.Event()  # the client has disconnected
        self.input_consumed = asyncio.Event()  # all input has been read, including EOF

    def begin(self, kept: bytes, *, ended: bool) -> None:
        """Start with the bytes `kept` that were received before; `ended`: EOF follows them."""
        if kept:
            self.data_received(kept)
        if len(kept) <= _window.size and not self._transport.is_reading():
            self._transport.resume_reading()
        if ended:
            self.eof_received()

    # ports.Stream

    async def read(self) -> bytes:
        while not self._chunks:
            if self._eof:
                self.input_consumed.set()
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        self._hold(-len(chunk))
        if self._held < _window.size // 4 and not self._eof:
            self._transport.resume_reading()
        return chunk

    @property
    def unread(self) -> int:
        """Bytes received from the client and not read yet."""
        return self._held

    async def write(self, channel: int, data: bytes) -> None:
        await self._writable.wait()
        if self.lost.is_set() or self._transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        self._transport.write(data if self._tty else frame(channel, data))

    async def close(self) -> None:
        """Flush output, send EOF, wait for the client to disconnect, close.  Bounded in time."""
        if self.lost.is_set():
            return
        self._drop_input()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        await self._flushed()
        if not self._eof:
            # closing with unread input makes the kernel send RST, and the client loses output
            self._transport.resume_reading()
            await _first(_LINGER, self.lost.wait(), self._arrived_eof())
        if not self.lost.is_set():
            self._transport.close()
            await _first(_LINGER, self.lost.wait())
        if not self.lost.is_set():
            self._transport.abort()

    def abort(self) -> None:
        self._drop_input()
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._chunks.append(data)
        self._hold(len(data))
        self._arrived.set()
        if self._held > _window.size:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._end_of_input()
        self._hangup.watch(self._transport)
        return True  # keep the sending side open

    def connection_lost(self, exc: Exception | None) -> None:
        self._hangup.end()
        self.on_lost()
        self._end_of_input()
        self.lost.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # inside

    def _end_of_input(self) -> None:
        self._eof = True
        self._arrived.set()

    def _hold(self, size: int) -> None:
        self._held += size
        _window.add(size)

    def _drop_input(self) -> None:
        self._chunks.clear()
        self._hold(-self._held)

    async def _flushed(self) -> None:
        """Wait until all output is in the kernel, or the client has stalled."""
        left = self._transport.get_write_buffer_size()
        stalled = 0.0
        while left and not self.lost.is_set() and stalled < _STALLED:
            await asyncio.sleep(_POLL)
            now = self._transport.get_write_buffer_size()
            stalled = stalled + _POLL if now == left else 0.0
            left = now

    async def _arrived_eof(self) -> None:
        while not self._eof:
            self._arrived.clear()
            await self._arrived.wait()
            self._drop_input()


async def _first(seconds: float, *ends: Coroutine[object, object, object]) -> None:
    """Wait until one of them has ended, or for `seconds`."""
    tasks = [asyncio.ensure_future(end) for end in ends]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def take_over(request: web.Request, *, tty: bool, api: ApiVersion) -> Connection:
    """Answer 101 (200 without an Upgrade header), and take the socket over from aiohttp."""
    want_body(request)
    await request.read()  # the JSON body of exec start; stdin follows it
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has disconnected")
    front = transport.get_protocol()
    kept, ended = front.take_buffered() if isinstance(front, UpgradeGuard) else (b"", False)
    connection = Connection(transport, tty=tty)
    if isinstance(front, UpgradeGuard):
        connection.on_lost = front.left
    request.app[BODIES].free(id(request))
    request.protocol.keep_alive(False)  # its keep-alive timer would hold it for an hour
    transport.set_protocol(connection)
    transport.set_write_buffer_limits(high=_BEHIND)
    transport.write(_head(request, stream_type(tty=tty, api=api)))
    connection.begin(kept, ended=ended)
    return connection


def release(request: web.Request) -> None:
    """Make aiohttp release the connection when its task ends: it gets no connection_lost."""
    handler = request.protocol
    request.task.add_done_callback(lambda _: handler.connection_lost(None))


def _head(request: web.Request, content_type: str) -> bytes:
    if request.headers.get("Upgrade"):
        first = "HTTP/1.1 101 UPGRADED"
        upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        first, upgrade = "HTTP/1.1 200 OK", ""
    return (
        f"{first}\r\nContent-Type: {content_type}\r\n{upgrade}"
        f"Api-Version: {text(NEWEST)}\r\nDocker-Experimental: false\r\nOstype: linux\r\n\r\n"
    ).encode()
