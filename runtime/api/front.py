"""What stands between a socket and aiohttp: gives it one request at a time, as it can read it.

aiohttp's parser knows no `Upgrade: tcp`: bytes that come with the head of such a request are
dropped, later ones are parsed as HTTP (3.14), and an early half-close closes the connection.
So aiohttp is given exactly the request, and the rest is kept for whoever takes over, or as the
next request:

    POST /containers/x/attach ... CRLF CRLF {body}  stdin stdin stdin
    |<------------ to aiohttp ------------------->|<---- kept ----->|

Heads typed by hand end their lines in a bare line feed, which Go's net/textproto reads and RFC 9112
section 2.2 lets a server read; aiohttp does not, so they get their CRLF here, and on a Unix socket,
which is of one host, the Host header that HTTP/1.1 asks for.  A client that has
sent its request and closed its half is answered, as by Go's net/http.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket

from aiohttp import StreamReader

from runtime import limits

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_UNREADABLE = re.compile(rb"\r\n(?:content-length[^\r]*\r\n)(?:.*\r\n)?content-length", re.I | re.S)
_FIRST_LINE = re.compile(rb"[A-Z]+ [^ ]+ HTTP/1\.[01]\r?\n")
_END = re.compile(rb"\n\r?\n")
_BARE = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"\r\nhost[ \t]*:", re.IGNORECASE)
_NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'Content-Length: 29\r\n\r\n{"message":"page not found"}\n'
)
_LONGEST_HEAD = limits.LINE_BYTES
_KEPT = 1 << 18  # bytes kept before reading from the client stops
_CUT_SHORT = 1.0  # seconds after the end of input at which a body must be complete
_ANSWERING = 60.0  # seconds between looks at a client that has closed its half


class Front(asyncio.Protocol):
    """One connection.  `done` must be called at the end of every request."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()  # of a request, incomplete
        self._busy = False  # a request is being received or answered
        self._keeping = False  # where it ends is known
        self._answered = False
        self._owed = 0  # bytes of the request's body that are still to come
        self._kept = bytearray()
        self._hangup: select.epoll | None = None
        self.ended = False  # the client sends no more
        self._local = False  # over a Unix socket
        self.body: StreamReader | None = None  # of the request that is being answered

    @property
    def inner(self) -> asyncio.Protocol:
        return self._inner

    @property
    def last(self) -> bool:
        """No request can follow."""
        return self.ended and _END.search(self._kept) is None

    def done(self, *, received: bool = True) -> None:
        """The request has been answered without a take-over; `received`: its body is complete."""
        self._answered = True
        if self._owed == 0 and (self._keeping or received):
            self._next()

    def hand_over(self) -> tuple[bytes, bool]:
        """What was kept, and whether that is all the client will ever send."""
        kept, self._kept = bytes(self._kept), bytearray()
        self._unwatch()
        return kept, self.ended

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        self._local = sock is not None and sock.family == socket.AF_UNIX
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        self.ended = True
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
        self._busy = self._keeping = self._answered = False
        self._head, self._kept = self._kept, bytearray()
        self._resume()
        if self._head:
            self._begin(0)

    def _begin(self, start: int) -> None:
        """Look at the first bytes of a request, whose end is not before `start`."""
        if self._head.startswith((b"\r", b"\n")):
            self._head, start = self._head.lstrip(b"\r\n"), 0
        end = _END.search(self._head, start)
        if end is None and self._may_become_a_head():
            return
        data, self._head = bytes(self._head), bytearray()
        self._busy = True
        stop = end.end() if end else 0
        head = _BARE.sub(b"\r\n", data[:stop])
        if self._local and head.endswith(b"\r\n\r\n") and not _HOST.search(head):
            head = head[:-2] + b"Host: localhost\r\n\r\n"
        if head.startswith(b"CONNECT "):
            self._refuse()
            return
        if not head or _CHUNKED.search(head) or _UNREADABLE.search(head):
            self._inner.data_received(head + data[stop:])
            return
        self._keeping = True
        length = _LENGTH.search(head)
        self._owed = int(length[1]) if length else 0
        self._inner.data_received(head)
        self._keep(data[stop:])

    def _refuse(self) -> None:
        """Answer CONNECT, after which aiohttp would wait for the tunnelled bytes."""
        if self._transport is not None:
            self._transport.write(_NOT_FOUND)
            self._transport.close()

    def _may_become_a_head(self) -> bool:
        """Whether it is worth waiting for more; if not aiohttp says what is wrong."""
        if len(self._head) >= _LONGEST_HEAD or not self._head[:1].isalpha():
            return not self._head
        return b"\n" not in self._head or _FIRST_LINE.match(self._head) is not None

    def _keep(self, data: bytes) -> None:
        body, rest = data[: self._owed], data[self._owed :]
        self._owed -= len(body)
        if body:
            self._inner.data_received(body)
        self._kept += rest
        if self._answered and self._owed == 0:
            self._next()
        elif len(self._kept) > _KEPT and self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self.ended:
            self._transport.resume_reading()

    def _watch(self) -> None:
        """See a client hang up: after its half-close asyncio reads no more.

        An epoll without events reports HUP and ERR, and can be waited for.  TCP shows no HUP until
        something is sent, so after a minute in which nothing waited to be sent it is closed.
        """
        if self._transport is None:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(_ANSWERING, self._give_up)
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.get_extra_info("sslcontext") is not None:
            return
        self._hangup = select.epoll()
        self._hangup.register(sock.fileno(), 0)
        loop.add_reader(self._hangup.fileno(), self._transport.abort)

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

    def _unwatch(self) -> None:
        if self._hangup is not None:
            asyncio.get_running_loop().remove_reader(self._hangup.fileno())
            self._hangup.close()
            self._hangup = None
