"""Pass requests from a socket to aiohttp one at a time, and keep the bytes that follow.

aiohttp's parser does not support `Upgrade: tcp`: bytes that arrive with the head of such a request
are dropped, later ones are parsed as HTTP (3.14), and an early half-close closes the connection.
So aiohttp gets exactly the request, and the rest is kept for the handler that hijacks the
connection, or as the next request:

    POST /containers/x/attach ... CRLF CRLF {body}  stdin stdin stdin
    |<------------ to aiohttp ------------------->|<---- kept ----->|

Requests typed by hand (nc, socat) end lines in a bare LF, which Go's net/textproto accepts and RFC
9112 section 2.2 allows; aiohttp does not.  So LF becomes CRLF here, and on a Unix socket the Host
header that HTTP/1.1 requires is added.  A client that has sent its request and half-closed the
connection is answered, as by Go's net/http.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import StreamReader, web

from runtime import limits
from runtime.api.server import heads
from runtime.api.server.admission import Connections
from runtime.api.server.backlog import Unsent
from runtime.api.server.hangup import Hangup
from runtime.api.server.reading import LARGEST, Reading

_PIECE = 1 << 13  # bytes read at a time, except of a body that its handler reads
_CUT_SHORT = 1.0  # seconds after EOF within which aiohttp must have parsed the whole body
_ANSWERING = 60.0  # seconds between checks of a client that has half-closed


def want_body(request: web.BaseRequest) -> None:
    """Resume reading the request's body: its handler is about to read it."""
    front = request.transport.get_protocol() if request.transport is not None else None
    if isinstance(front, UpgradeGuard):
        front.want_body()


class UpgradeGuard(Reading):
    """One connection.  `done` must be called at the end of every request.

    Reading is paused after the head until the handler reads the body, and after a request until
    that is answered: a client cannot make the daemon buffer more than a piece.
    """

    piece = _PIECE

    def __init__(self, inner: asyncio.Protocol, connections: Connections | None = None) -> None:
        self._inner = inner
        self._connections = connections
        self._refused = False
        self._idle_since = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self.unsent: Unsent | None = None  # of replies
        self._streaming = False  # a handler runs: a slow reader is not timed out
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()  # incomplete head of the next request
        self._busy = False  # a request is being received or answered
        self._keeping = False  # its length is known, and what follows is kept
        self._answered = False
        self._body_left = 0  # bytes of the request's body that have not arrived
        self._kept = bytearray()
        self._hangup = Hangup()
        self._head_size = 0  # of the request that is being answered
        self._unasked = False  # reading is paused until the handler reads the body
        self.ended = False  # EOF from the client
        self._local = False  # over a Unix socket
        self.body: StreamReader | None = None  # of the request that is being answered

    @property
    def inner(self) -> asyncio.Protocol:
        return self._inner

    @property
    def last(self) -> bool:
        """No request can follow."""
        return self.ended and not heads.end(self._kept)

    @property
    def idle_since(self) -> float | None:
        """Since when it has no complete request, in the loop's seconds; None while it has one."""
        return None if self._busy else self._idle_since

    def begun(self, body: StreamReader) -> None:
        """A handler was called for the request with this body."""
        self.body = body
        self._streaming = True
        self._stop_timers()

    def want_body(self) -> None:
        """The handler is about to read the body."""
        self.piece = LARGEST
        if self._unasked:
            self._unasked = False
            if not self.ended:
                self._hangup.end()
            self._resume()

    def done(self, *, received: bool = True) -> None:
        """The request has been answered, not hijacked; `received`: its body is complete."""
        self._answered = True
        self._streaming = False
        self.want_body()  # the rest of the body is read and discarded
        if self._body_left == 0 and (self._keeping or received):
            self._next()

    def take_buffered(self) -> tuple[bytes, bool]:
        """Hand the connection over to a hijacker: (bytes kept, whether EOF follows them)."""
        kept, self._kept = bytes(self._kept), bytearray()
        self._hold_input()
        self._hangup.end()
        self._stop_timers()
        return kept, self.ended

    def left(self) -> None:
        """The connection is closed."""
        if self._connections is not None and self._transport is not None:
            self._connections.leave(self._transport)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        self._local = sock is not None and sock.family == socket.AF_UNIX
        self._idle_since = asyncio.get_running_loop().time()
        if self._connections is not None and not self._connections.admit(
            transport, lambda: self.idle_since
        ):
            self._refused = True
            self._refuse("503 Service Unavailable", "too many connections: try again later")
            return
        if self._connections is not None:
            self.unsent = Unsent(transport, self._connections.replies)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hangup.end()
        self._stop_timers()
        if self.unsent is not None:
            self.unsent.close()
        self.left()
        if not self._refused:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        if self.unsent is not None:
            self.unsent.paused(streaming=self._streaming)

    def resume_writing(self) -> None:
        if self.unsent is not None:
            self.unsent.resumed()
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        self.ended = True
        if self._refused:
            return False
        if not self._busy or self._body_left:  # no request, or one that can no longer be completed
            return self._inner.eof_received()
        if not self._keeping:
            asyncio.get_running_loop().call_later(_CUT_SHORT, self._check_whole)
        self._watch()
        return True

    def data_received(self, data: bytes) -> None:
        if self._keeping:
            self._keep(data)
        elif self._busy:
            self._inner.data_received(data)
        else:
            seen = len(self._head)
            self._head += data
            self._begin(max(0, seen - 2))  # the blank line may have begun in earlier data

    # inside

    def _next(self) -> None:
        self._busy = self._keeping = self._answered = self._unasked = False
        self._head_size = 0
        self.piece = _PIECE
        self._idle_since = asyncio.get_running_loop().time()
        self._head, self._kept = self._kept, bytearray()
        self._resume()
        if self._head:
            self._begin(0)

    def _begin(self, start: int) -> None:
        """Examine the beginning of a request, whose head does not end before `start`."""
        if self._head.startswith((b"\r", b"\n")):
            self._head, start = self._head.lstrip(b"\r\n"), 0
        end = heads.end(self._head, start)
        if self._head and self._head_timer is None:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(limits.HEAD_SECONDS, self._head_is_late)
        if not end and len(self._head) >= limits.LINE_BYTES:
            # Not left to aiohttp: exactly at its limit it would wait for more, which is not read.
            self._head.clear()
            self._refuse(*heads.TOO_LONG)
            return
        if not end and heads.may_become(self._head):
            self._hold_input()
            return
        if end and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        data, self._head = bytes(self._head), bytearray()
        self._busy = True
        self._head_size = end or len(data)
        self._hold_input()
        self._deliver(heads.strict(data[:end], local=self._local), data[end:])

    def _deliver(self, head: bytes, rest: bytes) -> None:
        if head.startswith(b"CONNECT "):
            self._refuse("404 Not Found", "page not found")  # aiohttp would wait for a tunnel
            return
        if heads.unmeasured(head):
            self._inner.data_received(head + rest)
            self._await_handler()
            return
        try:
            self._body_left = heads.length(head)
        except ValueError as error:
            self._refuse("400 Bad Request", str(error))
            return
        self._keeping = True
        self._inner.data_received(head)
        self._keep(rest)
        if self._body_left:
            self._await_handler()

    def _await_handler(self) -> None:
        """Pause reading until the handler reads the body."""
        if self._transport is not None and not self._answered and not self.ended:
            self._unasked = True
            self._transport.pause_reading()
            self._hangup.watch(self._transport)

    def _hold_input(self) -> None:
        if self._connections is not None and self._transport is not None:
            size = len(self._head) + self._head_size + len(self._kept)
            self._connections.hold_head(self._transport, size)

    def _refuse(self, status: str, message: str) -> None:
        """Answer instead of aiohttp, and close."""
        if self._transport is not None:
            self._transport.write(heads.refusal(status, message))
            self._transport.close()

    def _head_is_late(self) -> None:
        late = f"no complete request arrived within {limits.HEAD_SECONDS} s"
        self._refuse("408 Request Timeout", late)

    def _stop_timers(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self.unsent is not None:
            self.unsent.stop()

    def _keep(self, data: bytes) -> None:
        body, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(body)
        if body:
            self._inner.data_received(body)
        self._kept += rest
        if self._answered and self._body_left == 0:
            self._next()
        elif self._kept and self._transport is not None:
            self._hold_input()
            if len(self._kept) > _PIECE:
                self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self.ended:
            self._transport.resume_reading()

    def _watch(self) -> None:
        """Detect a disconnect after a half-close, when asyncio no longer reads.

        Over TCP (no hang-up is seen) close after a minute in which nothing waited to be sent.
        """
        if self._transport is not None:
            asyncio.get_running_loop().call_later(_ANSWERING, self._give_up)
            self._hangup.watch(self._transport)

    def _check_whole(self) -> None:
        """Close if a chunked body is incomplete after EOF."""
        if self.body is not None and not self.body.is_eof() and self._transport is not None:
            self._transport.close()

    def _give_up(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_protocol() is not self:
            return  # hijacked
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_ANSWERING, self._give_up)
        else:
            self._transport.close()
