"""One container's side of the resolver: its UDP socket, its TCP listener, its connections."""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from netkit.dns import core
from netkit.dns.forward import Forwarder
from netkit.dns.zones import ResolverView

LONGEST_QUERY = 4096  # bytes over UDP
AT_ONCE = 32  # queries of one container before those of others
CONNECTIONS = 16  # of one container
PATIENCE = 10.0  # seconds a connection may idle, RFC 7766 6.2.3: "in the order of seconds"
PILED = 128 * 1024  # bytes of answers a client may leave unread


class Station:
    """Answers one container by the view that `view` returns.  For one thread."""

    def __init__(
        self,
        id: str,
        sockets: list[socket.socket],
        selector: selectors.BaseSelector,
        forwarder: Forwarder,
        view: Callable[[], ResolverView],
        clock: Callable[[], float],
    ) -> None:
        self.id = id
        self.view = view
        self.selector = selector
        self.clock = clock
        self._forwarder = forwarder
        self._sockets = sockets
        self._turn = 0
        self.conversations: set[Conversation] = set()
        for sock in sockets:
            sock.setblocking(False)
            ready = self._datagrams if sock.type == socket.SOCK_DGRAM else self._connections
            try:
                selector.register(sock, selectors.EVENT_READ, _reader(ready, sock))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        for sock in self._sockets:
            with suppress(KeyError, ValueError):  # it was not registered
                self.selector.unregister(sock)
            sock.close()
        for c in list(self.conversations):
            c.close()
        self._forwarder.forget(self.id)

    def expire(self) -> None:
        now = self.clock()
        for c in [c for c in self.conversations if c.deadline <= now]:
            c.close()

    def handle(self, query: bytes, tcp: bool, reply: Callable[[bytes], None]) -> bool:
        """Answer a query by `reply`, now or later.  False if there will be no answer."""
        self._turn += 1
        view = self.view()
        match core.answer(view, query, tcp, self._turn):
            case core.Reply(message):
                reply(message)
            case core.Forward(question):
                self._forwarder.ask(self.id, query, question, view.upstreams, tcp, reply)
            case core.Drop():
                return False
        return True

    def _datagrams(self, sock: socket.socket) -> None:
        # The selector is level-triggered: what is left is read after other containers' queries.
        for _ in range(AT_ONCE):
            try:
                query, client = sock.recvfrom(LONGEST_QUERY)
            except OSError:
                return  # nothing more, or word of an answer that did not arrive
            self.handle(query, False, _sender(sock, client))

    def _connections(self, sock: socket.socket) -> None:
        try:
            connection, _ = sock.accept()
        except OSError:
            return  # it has given up already
        # Accepted and closed, not left in the backlog: that would keep the listener ready for ever.
        if len(self.conversations) >= CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self.conversations.add(Conversation(self, connection))


class Conversation:
    """A TCP connection: queries, each after two bytes of length, are answered one by one."""

    def __init__(self, station: Station, sock: socket.socket) -> None:
        self._station = station
        self._sock = sock
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._busy = False  # an answer is due
        self._going = False  # in _go_on, which takes up answers that come at once
        self._mask = 0
        self._closed = False
        self._go_on()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._station.conversations.discard(self)
        if self._mask:
            self._station.selector.unregister(self._sock)
        self._sock.close()

    def _ready(self, mask: int) -> None:
        if self._closed:
            return
        try:
            if mask & selectors.EVENT_WRITE:
                del self._outbox[: self._sock.send(self._outbox)]
            if mask & selectors.EVENT_READ:
                got = self._sock.recv(LONGEST_QUERY)
                if not got:
                    self.close()
                    return
                self._inbox += got
            self._go_on()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _go_on(self) -> None:
        """Answer what has come in, as far as possible, and wait for what comes next."""
        self.deadline = self._station.clock() + PATIENCE
        self._going = True
        while not self._busy and not self._closed and (query := self._whole()):
            self._busy = True
            if not self._station.handle(query, True, self._reply):
                self.close()
        self._going = False
        if not self._closed:
            self._watch()

    def _whole(self) -> bytes:
        """The next query, b"" if it is not all there or the client does not read answers."""
        size = int.from_bytes(self._inbox[:2], "big")
        if len(self._inbox) < 2 or len(self._outbox) > PILED:
            return b""
        if size == 0:
            self.close()
            return b""
        if len(self._inbox) < 2 + size:
            return b""
        query = bytes(self._inbox[2 : 2 + size])
        del self._inbox[: 2 + size]
        return query

    def _reply(self, message: bytes) -> None:
        if self._closed:
            return
        self._outbox += struct.pack("!H", len(message)) + message
        self._busy = False
        # An answer at once comes from within the loop of `_go_on`, which goes on by itself: without
        # this, queries in one segment would nest as deep as there are of them.
        if not self._going:
            self._go_on()

    def _watch(self) -> None:
        mask = selectors.EVENT_WRITE if self._outbox else 0
        if not self._busy and len(self._outbox) <= PILED:
            mask |= selectors.EVENT_READ
        if mask == self._mask:
            return
        selector = self._station.selector
        if not self._mask:
            selector.register(self._sock, mask, self._ready)
        elif not mask:
            selector.unregister(self._sock)
        else:
            selector.modify(self._sock, mask, self._ready)
        self._mask = mask


def _reader(ready: Callable[[socket.socket], None], sock: socket.socket) -> Callable[[int], None]:
    return lambda mask: ready(sock)


def _sender(sock: socket.socket, client: tuple[str, int]) -> Callable[[bytes], None]:
    def reply(message: bytes) -> None:
        with suppress(OSError):  # full, or closed by now: the client asks again
            sock.sendto(message, client)

    return reply
