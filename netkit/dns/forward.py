"""Forward queries to other servers, one after the other, within limits."""

from __future__ import annotations

import errno
import logging
import secrets
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from netkit.dns import core
from netkit.dns.control import ADDRESS, PORT

PATIENCE = 2.0  # seconds for one server
SERVERS = 3  # tried for one query, as by the C library
MOST = 1024  # queries under way
MOST_EACH = 128  # of one sandbox: a container cannot starve the others

log = logging.getLogger("netkit.dns")


@dataclass(slots=True, eq=False)
class _Exchange:
    owner: str
    query: bytes
    question: bytes
    servers: list[str]  # not yet tried
    tcp: bool
    done: Callable[[bytes], None]
    id: int = 0
    sock: socket.socket | None = None
    deadline: float = 0.0
    outbox: bytes = b""  # TCP: not yet sent
    inbox: bytearray = field(default_factory=bytearray)


class Forwarder:
    """Sockets are opened in the namespace of the calling process.  For one thread."""

    def __init__(
        self, selector: selectors.BaseSelector, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._selector = selector
        self._clock = clock
        # by deadline, because each try has the same patience and goes to the end
        self._waiting: dict[_Exchange, None] = {}
        self._count: Counter[str] = Counter()

    def ask(
        self,
        owner: str,
        query: bytes,
        question: bytes,
        servers: Sequence[str],
        tcp: bool,
        done: Callable[[bytes], None],
    ) -> None:
        """Forward a query; `done` gets the answer, once, maybe at once, if the owner remains.

        SERVFAIL if no server has an answer, REFUSED if too much is under way.
        """
        # Each exchange is a socket of the one process that serves all containers.
        if len(self._waiting) >= MOST or self._count[owner] >= MOST_EACH:
            done(core.failure(query, core.REFUSED))
            return
        others = [s for s in servers if s != ADDRESS][:SERVERS]  # never ourselves
        self._count[owner] += 1
        self._try(_Exchange(owner, query, question, others, tcp, done))

    def expire(self) -> float | None:
        """Go on to the next server where one was too slow; seconds until this is due again."""
        now = self._clock()
        while self._waiting:
            first = next(iter(self._waiting))
            if first.deadline > now:
                return first.deadline - now
            self._next(first)
        return None

    def forget(self, owner: str) -> None:
        for x in [x for x in self._waiting if x.owner == owner]:
            self._close(x)
        del self._count[owner]

    def _try(self, x: _Exchange) -> None:
        while x.servers:
            server = x.servers.pop(0)
            try:
                self._open(x, server)
            except OSError as e:
                log.debug("cannot ask %s: %s", server, e)
                self._close(x)
                continue
            except Exception:  # reported; the client gets an answer all the same
                log.exception("cannot ask %s", server)
                self._close(x)
                continue
            return
        self._finish(x, core.failure(x.query, core.SERVFAIL))

    def _open(self, x: _Exchange, server: str) -> None:
        """Send to one server.  Port and id are random: a forged answer must guess both."""
        kind = socket.SOCK_STREAM if x.tcp else socket.SOCK_DGRAM
        found = socket.getaddrinfo(server, PORT, type=kind, flags=socket.AI_NUMERICHOST)
        family, _, _, _, address = found[0]
        x.sock = sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        x.id = secrets.randbits(16)
        x.inbox.clear()
        x.deadline = self._clock() + PATIENCE
        message = x.id.to_bytes(2, "big") + x.query[2:]
        code = sock.connect_ex(address)
        if code not in {0, errno.EINPROGRESS}:
            raise OSError(code, "cannot connect")
        events = selectors.EVENT_READ
        if x.tcp:
            x.outbox = struct.pack("!H", len(message)) + message
            events |= selectors.EVENT_WRITE
        else:
            sock.send(message)
        self._selector.register(sock, events, lambda mask: self._ready(x, mask))
        self._waiting[x] = None

    def _ready(self, x: _Exchange, mask: int) -> None:
        if x.sock is None:
            return  # closed earlier in the same round
        try:
            if mask & selectors.EVENT_WRITE:
                self._send(x, x.sock)
            if mask & selectors.EVENT_READ:
                for reply in self._replies(x, x.sock):
                    if self._settles(x, reply):
                        return
        except BlockingIOError:
            return
        except (OSError, EOFError) as e:
            log.debug("a server failed: %s", e)
            self._next(x)

    def _send(self, x: _Exchange, sock: socket.socket) -> None:
        x.outbox = x.outbox[sock.send(x.outbox) :]
        if not x.outbox:
            self._selector.modify(sock, selectors.EVENT_READ, lambda mask: self._ready(x, mask))

    def _replies(self, x: _Exchange, sock: socket.socket) -> list[bytes]:
        if not x.tcp:
            return [sock.recv(core.MOST_TCP)]
        got = sock.recv(core.MOST_TCP)
        if not got:
            raise EOFError("closed the connection")
        x.inbox += got
        size = int.from_bytes(x.inbox[:2], "big")
        if len(x.inbox) < 2 + size or size == 0:
            return []
        return [bytes(x.inbox[2 : 2 + size])]

    def _settles(self, x: _Exchange, reply: bytes) -> bool:
        """Use a reply.  One that does not match our query may be forged: wait for the right one."""
        if not core.matches(reply, x.id, x.question):
            if x.tcp:
                self._next(x)
            return x.tcp
        # Not NXDOMAIN, which is an answer: resolvers do not ask the next server after it, either.
        if core.rcode(reply) in {core.SERVFAIL, core.REFUSED}:
            self._next(x)
        else:
            self._finish(x, x.query[:2] + reply[2:])
        return True

    def _next(self, x: _Exchange) -> None:
        self._close(x)
        self._try(x)

    def _finish(self, x: _Exchange, reply: bytes) -> None:
        self._close(x)
        self._count[x.owner] -= 1
        x.done(reply)

    def _close(self, x: _Exchange) -> None:
        self._waiting.pop(x, None)
        if x.sock is not None:
            if x.sock in self._selector.get_map():
                self._selector.unregister(x.sock)
            x.sock.close()
            x.sock = None
