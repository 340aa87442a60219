"""What stands between a socket and aiohttp: keeps back what follows a request to take over.

aiohttp's parser knows no `Upgrade: tcp`: bytes that come with the head of such a request are
dropped, later ones are parsed as HTTP (3.14), and an early half-close closes the connection.
So aiohttp is given exactly the request, and the rest is kept for whoever takes over:

    POST /containers/x/attach ... CRLF CRLF {body}  stdin stdin stdin
    |<------------ to aiohttp ------------------->|<---- kept ----->|
"""

from __future__ import annotations

import asyncio
import re

from runtime import limits

_TAKES_OVER = re.compile(
    rb"POST (?:/v[0-9.]+)?/(?:containers/[^ ?]+/attach|exec/[^ ?]+/start)(?:\?[^ ]*)? HTTP/1\."
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_KEPT = 1 << 18  # bytes kept before reading from the client stops


class Front(asyncio.Protocol):
    """One connection.  `done` must be called at the end of every request.

    Looks at requests one at a time: of pipelined ones (which no Docker client sends) only the
    first is recognized.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._head = b""  # of a request, incomplete
        self._busy = False  # a request is being received or answered
        self._keeping = False
        self._owed = 0  # bytes of the request's body that are still to come
        self._kept = bytearray()
        self.ended = False  # the client sends no more

    @property
    def inner(self) -> asyncio.Protocol:
        return self._inner

    def done(self) -> None:
        """The request has been answered without a take-over."""
        self._busy = self._keeping = False
        kept, self._kept = bytes(self._kept), bytearray()
        self._resume()
        if kept:
            self._begin(kept)

    def hand_over(self) -> tuple[bytes, bool]:
        """What was kept, and whether that is all the client will ever send."""
        kept, self._kept = bytes(self._kept), bytearray()
        return kept, self.ended

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        self.ended = True
        return True if self._keeping else self._inner.eof_received()

    def data_received(self, data: bytes) -> None:
        if self._keeping:
            self._keep(data)
        elif self._busy:
            self._inner.data_received(data)
        else:
            self._begin(self._head + data)

    # inside

    def _begin(self, data: bytes) -> None:
        """The first bytes of a request."""
        self._head = b""
        end = data.find(b"\r\n\r\n")
        may_take_over = data.startswith(b"POST ") or b"POST ".startswith(data)
        if end < 0 and may_take_over and len(data) < limits.LINE_BYTES:
            self._head = data
            return
        self._busy = True
        head = data[: end + 2] if end >= 0 else b""
        if not _TAKES_OVER.match(head) or _CHUNKED.search(head):
            self._inner.data_received(data)
            return
        self._keeping = True
        length = _LENGTH.search(head)
        self._inner.data_received(data[: end + 4])
        self._owed = int(length[1]) if length else 0
        self._keep(data[end + 4 :])

    def _keep(self, data: bytes) -> None:
        body, rest = data[: self._owed], data[self._owed :]
        self._owed -= len(body)
        if body:
            self._inner.data_received(body)
        self._kept += rest
        if len(self._kept) > _KEPT and self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
