"""Serve TLS on connections that may be half-closed, which asyncio's transport does not support.

asyncio closes a connection when the peer's close_notify arrives.  Docker's client sends it
at the end of stdin and then waits for output, so the record layer is driven here by hand:

    socket <-> TlsProtocol (wire side) <-> MemoryBIO, SSLObject, MemoryBIO <-> TlsTransport
       <-> aiohttp
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime.api.server.admission import Connections
from runtime.api.server.reading import Reading
from runtime.api.server.upgrade_guard import UpgradeGuard

log = logging.getLogger("netkit.api")

HANDSHAKE = 15.0  # seconds a client gets for the handshake
_RECORDS = 1 << 14  # bytes decrypted at a time
# What a client that does not use TLS begins with, and gets, as from Go's server.
_HTTP = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO", b"DELET")
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class TlsProtocol(Reading):
    """The wire side of one connection; `factory` makes the protocol above once it is secure."""

    def __init__(
        self,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
        connections: Connections | None = None,
    ) -> None:
        self._connections = connections
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._context = context
        self._factory = factory
        self._above: asyncio.Protocol | None = None
        self._wire: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._first = b""  # bytes that were received, a record's header at most
        self._ended = False  # close_notify or EOF was received
        self._said_goodbye = False
        self._paused = False
        self._advancing = False

    # from the wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        if self._connections is not None and not self._connections.admit(transport, self._idle):
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE, transport.abort)

    def data_received(self, data: bytes) -> None:
        if len(self._first) < len(_HTTP[0]):
            self._first = (self._first + data)[: len(_HTTP[0])]
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> bool:
        """EOF of the socket: only close_notify is a half-close in TLS, so the client is gone."""
        self._end_of_input()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._connections is not None:
            self._connections.leave(self._wire)
        if self._above is not None:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._above is not None:
            self._above.resume_writing()

    # from above

    def set_above(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._above = protocol

    @property
    def above(self) -> asyncio.Protocol | None:
        return self._above

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if data and not self._said_goodbye and not self._wire.is_closing():
            self._tls.write(data)  # into memory: never partial
            self._flush()

    def goodbye(self) -> None:
        """Send close_notify: no more output, while input may still arrive."""
        if self._said_goodbye or self._wire.is_closing():
            return
        self._said_goodbye = True
        with suppress(ssl.SSLError):  # the peer has not sent its close_notify yet
            self._tls.unwrap()
        self._flush()

    def pause(self) -> None:
        self._paused = True
        self._wire.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._wire.resume_reading()
            if not self._advancing:
                asyncio.get_running_loop().call_soon(self._advance)

    @property
    def paused(self) -> bool:
        return self._paused

    # inside

    def _idle(self) -> float | None:
        """Since when it has no request; None during a handshake, which has its own timeout."""
        return self._above.idle_since if isinstance(self._above, UpgradeGuard) else None

    def _advance(self) -> None:
        if self._advancing or self._wire.is_closing():
            return
        self._advancing = True
        try:
            if self._above is None and not self._handshake():
                return
            self._deliver()
        except ssl.SSLError as error:
            self._refuse(error)
        finally:
            self._advancing = False

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._above = self._factory()
        self._above.connection_made(TlsTransport(self, self._wire, self._tls, self._context))
        return True

    def _deliver(self) -> None:
        while self._above is not None and not self._paused and not self._ended:
            try:
                data = self._tls.read(_RECORDS)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self._end_of_input()
                break
            self._above.data_received(data)
        self._flush()

    def _end_of_input(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._above is None or not self._above.eof_received():
            self.goodbye()
            self._wire.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._wire.write(data)

    def _refuse(self, error: ssl.SSLError) -> None:
        peer = self._wire.get_extra_info("peername")
        log.info("TLS connection from %s refused: %s", peer, error.reason or error)
        if self._above is None and self._first in _HTTP:
            self._wire.write(_NOT_TLS)
        else:
            self._flush()  # the alert with the reason
        self._wire.close()


class TlsTransport(asyncio.Transport):
    """The transport of the protocol above."""

    def __init__(
        self,
        secured: TlsProtocol,
        wire: asyncio.Transport,
        tls: ssl.SSLObject,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__({"sslcontext": context, "ssl_object": tls, "peercert": tls.getpeercert()})
        self._secured = secured
        self._wire = wire

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        own = super().get_extra_info(name)
        return self._wire.get_extra_info(name, default) if own is None else own

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._secured.set_above(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._secured.above is not None
        return self._secured.above

    def is_closing(self) -> bool:
        return self._wire.is_closing()

    def close(self) -> None:
        self._secured.goodbye()
        self._wire.close()

    def abort(self) -> None:
        self._wire.abort()

    def is_reading(self) -> bool:
        return not self._secured.paused and not self._wire.is_closing()

    def pause_reading(self) -> None:
        self._secured.pause()

    def resume_reading(self) -> None:
        self._secured.resume()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._wire.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        return self._wire.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._wire.get_write_buffer_limits()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._secured.send(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._secured.goodbye()
