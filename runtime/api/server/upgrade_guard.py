"""What stands between a socket and aiohttp: gives it one request at a time, as it can read it.

aiohttp's parser knows no `Upgrade: tcp`: bytes that come with the head of such a request are
dropped, later ones are parsed as HTTP (3.14), and an early half-close closes the connection.
So aiohttp is given exactly the request, and the rest is kept for the handler that takes
over, or as the next request:

    POST /containers/x/attach ... CRLF CRLF {body}  stdin stdin stdin
    |<------------ to aiohttp ------------------->|<---- kept ----->|

Heads typed by hand end their lines in a bare line feed, which Go's net/textproto reads and RFC 9112
section 2.2 lets a server read; aiohttp does not, so they get their CRLF here, and on a Unix socket,
which is of one host, the Host header that HTTP/1.1 asks for.  A client that has
sent its request and closed its half is answered, as by Go's net/http.
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

_PIECE = 1 << 13  # bytes read at a time, but of a body that is asked for
_CUT_SHORT = 1.0  # seconds after the end of input at which a body must be complete
_ANSWERING = 60.0  # seconds between looks at a client that has closed its half


def want_body(request: web.BaseRequest) -> None:
    """Go on reading the request's body: its handler wants it."""
    front = request.transport.get_protocol() if request.transport is not None else None
    if isinstance(front, Front):
        front.want_body()


class Front(Reading):
    """One connection.  `done` must be called at the end of every request.

    Of a body no more is read than came with its head until the handler asks for it, and of what
    follows a request nothing more while that is answered.
    """

    piece = _PIECE

    def __init__(self, inner: asyncio.Protocol, connections: Connections | None = None) -> None:
        self._inner = inner
        self._connections = connections
        self._refused = False
        self._idle_since = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self.unsent: Unsent | None = None  # of replies
        self._streaming = False  # a handler writes, for as long as the client likes
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()  # of a request, incomplete
        self._busy = False  # a request is being received or answered
        self._keeping = False  # where it ends is known
        self._answered = False
        self._owed = 0  # bytes of the request's body that are still to come
        self._kept = bytearray()
        self._hangup = Hangup()
        self._head_size = 0  # of the request that is being answered
        self._unasked = False  # there is more of the body, which the handler has not asked for
        self.ended = False  # the client sends no more
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
        """Since when no whole request has come, in the loop's seconds; None while there is one."""
        return None if self._busy else self._idle_since

    def begun(self, body: StreamReader) -> None:
        """A handler runs, for the request with this body."""
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
        """The request has been answered without a take-over; `received`: its body is complete."""
        self._answered = True
        self._streaming = False
        self.want_body()  # to get over what was not read of it
        if self._owed == 0 and (self._keeping or received):
            self._next()

    def hand_over(self) -> tuple[bytes, bool]:
        """What was kept, and whether that is all the client will ever send."""
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
        if not self._busy or self._owed:  # nothing to answer, or what can never be complete
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
            self._begin(max(0, seen - 2))

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
        """Look at the first bytes of a request, whose end is not before `start`."""
        if self._head.startswith((b"\r", b"\n")):
            self._head, start = self._head.lstrip(b"\r\n"), 0
        end = heads.end(self._head, start)
        if self._head and self._head_timer is None:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(limits.HEAD_SECONDS, self._head_is_late)
        if not end and len(self._head) >= limits.LINE_BYTES:
            # Not left to aiohttp: at just its limit it would wait for more, which is not read.
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
            self._refuse("404 Not Found", "page not found")  # aiohttp would await tunnelled bytes
            return
        if heads.unmeasured(head):
            self._inner.data_received(head + rest)
            self._await_handler()
            return
        try:
            self._owed = heads.length(head)
        except ValueError as error:
            self._refuse("400 Bad Request", str(error))
            return
        self._keeping = True
        self._inner.data_received(head)
        self._keep(rest)
        if self._owed:
            self._await_handler()

    def _await_handler(self) -> None:
        """Read no more of the body until it is asked for."""
        if self._transport is not None and not self._answered and not self.ended:
            self._unasked = True
            self._transport.pause_reading()
            self._hangup.watch(self._transport)

    def _hold_input(self) -> None:
        if self._connections is not None and self._transport is not None:
            size = len(self._head) + self._head_size + len(self._kept)
            self._connections.hold_head(self._transport, size)

    def _refuse(self, status: str, message: str) -> None:
        """Answer in aiohttp's stead, and close."""
        if self._transport is not None:
            self._transport.write(heads.refusal(status, message))
            self._transport.close()

    def _head_is_late(self) -> None:
        self._refuse("408 Request Timeout", f"no whole request came in {limits.HEAD_SECONDS} s")

    def _stop_timers(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self.unsent is not None:
            self.unsent.stop()

    def _keep(self, data: bytes) -> None:
        body, rest = data[: self._owed], data[self._owed :]
        self._owed -= len(body)
        if body:
            self._inner.data_received(body)
        self._kept += rest
        if self._answered and self._owed == 0:
            self._next()
        elif self._kept and self._transport is not None:
            self._hold_input()
            if len(self._kept) > _PIECE:
                self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self.ended:
            self._transport.resume_reading()

    def _watch(self) -> None:
        """See a client hang up: after its half-close asyncio reads no more.

        Over TCP it is closed after a minute in which nothing waited to be sent.
        """
        if self._transport is not None:
            asyncio.get_running_loop().call_later(_ANSWERING, self._give_up)
            self._hangup.watch(self._transport)

    def _check_whole(self) -> None:
        """Close on a body in chunks that cannot be completed any more."""
        if self.body is not None and not self.body.is_eof() and self._transport is not None:
            self._transport.close()

    def _give_up(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_protocol() is not self:
            return  # taken over
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_ANSWERING, self._give_up)
        else:
            self._transport.close()
