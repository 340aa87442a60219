"""Bound the number of open connections, and the bytes of request heads and bodies."""

from __future__ import annotations

import asyncio
import heapq
import resource
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from netkit.errors import NetkitError
from runtime import limits, malloc
from runtime.api.server.backlog import Replies, Seldom

_BURST = 128  # concurrent connections after which memory is returned to the kernel
_SMALL_HEAD = 1 << 12  # bytes; smaller heads are not counted
_FRESH = 1.0  # seconds in which a new connection is not closed as idle


class TimedOut(NetkitError):
    status = 408


class Connections:
    """The open connections of all listeners.

    At the bound the connection that has been idle for longest is closed for a new one; if all have
    a request, the new one is refused.  For root on a Unix socket some are reserved, so that an
    administrator can still reach the daemon.
    """

    def __init__(self, replies: Replies, bound: int | None = None) -> None:
        """`bound`: connections at a time, limits.CONNECTIONS if None."""
        self._bound = bound
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files = files if files != resource.RLIM_INFINITY else 1 << 20
        self._open: dict[asyncio.Transport, Callable[[], float | None]] = {}
        self._heads: dict[asyncio.Transport, int] = {}  # bytes of heads and of what follows them
        self._in_heads = 0  # the sum
        self._most = 0  # maximum number of open connections since the last burst
        self._seldom = Seldom()
        self.replies = replies

    def admit(self, transport: asyncio.Transport, idle: Callable[[], float | None]) -> bool:
        """Is there room for it?  `idle`: since when it has no request, in the loop's seconds."""
        if transport.get_extra_info("sslcontext") is not None:
            return True  # the TCP connection below it has been admitted
        most = min(self._bound or limits.CONNECTIONS, self._files // 4)
        if len(self._open) >= most and not self._close_idle():
            reserve = limits.CONNECTIONS_RESERVE if _of_root(transport) else 0
            if len(self._open) >= most + reserve:
                return False
        self._open[transport] = idle
        return True

    def leave(self, transport: asyncio.Transport) -> None:
        self._open.pop(transport, None)
        self._most = max(self._most, len(self._open))
        if self._most > _BURST and len(self._open) < self._most // 2:
            self._most = 0
            asyncio.get_running_loop().call_later(_FRESH, malloc.trim)
        self.hold_head(transport, 0)
        self.replies.release(transport)

    def hold_head(self, transport: asyncio.Transport, size: int) -> None:
        """Account for a head that is incomplete or whose request is being answered, and for bytes
        after it; beyond the bound the connection with the largest of all is closed."""
        if size < _SMALL_HEAD or transport not in self._open:  # small, or closed already
            self._in_heads -= self._heads.pop(transport, 0)
            return
        self._in_heads += size - self._heads.get(transport, 0)
        self._heads[transport] = size
        while self._in_heads > limits.HEADS_BYTES:
            largest = max(self._heads, key=lambda each: self._heads[each])
            self._in_heads -= self._heads.pop(largest)
            self._seldom.info("closed a connection: its request head is the largest of too many")
            largest.abort()

    def _close_idle(self) -> bool:
        idle = [(since, t) for t, look in self._open.items() if (since := look()) is not None]
        if not idle:
            return False
        since, transport = min(idle, key=lambda pair: pair[0])
        if asyncio.get_running_loop().time() - since < _FRESH:
            return False  # else a burst of connections would close each other before they send
        self.leave(transport)
        transport.abort()
        return True


def _of_root(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return False
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return False
    return bool(struct.unpack("3i", found)[1] == 0)  # struct ucred: pid, uid, gid


class _Waiting(NamedTuple):
    owner: int
    ready: asyncio.Future[None]
    late: Callable[[], object]


class _Body:
    def __init__(self, size: int, since: float, late: Callable[[], object]) -> None:
        self.size, self.since, self.late = size, since, late
        self.whole = False


class Bodies:
    """Bounds the bytes of JSON bodies that are received and processed concurrently.

    Beyond the bound bodies wait, the smallest first.  While one waits, those that have not arrived
    completely within a second are timed out, so that slow clients cannot block the others.
    """

    def __init__(self) -> None:
        self._held: dict[int, _Body] = {}
        self._waiting: list[tuple[int, int, _Waiting]] = []  # size, number of arrival
        self._arrived = 0
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, owner: int, size: int, late: Callable[[], object]) -> None:
        """Reserve `size` bytes until `free(owner)`; small bodies need no reservation.

        `late` is called if other bodies wait and this one does not arrive.
        """
        if size <= limits.BODY_SMALL:
            return
        ready = asyncio.get_running_loop().create_future()
        self._arrived += 1
        heapq.heappush(self._waiting, (size, self._arrived, _Waiting(owner, ready, late)))
        self._admit()
        try:
            await ready
        except asyncio.CancelledError:
            self.free(owner)  # it may have been admitted before the cancellation arrived
            raise

    def received(self, owner: int) -> None:
        """The body has arrived completely."""
        if (body := self._held.get(owner)) is not None:
            body.whole = True

    def free(self, owner: int) -> None:
        if self._held.pop(owner, None) is not None or self._waiting:
            self._admit()

    def _admit(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            size, _, (owner, ready, late) = self._waiting[0]
            total = sum(body.size for body in self._held.values())
            if not ready.done():  # not cancelled
                # The first body is admitted whatever its size, or it would wait for ever.
                if self._held and total + size > limits.BODIES_BYTES:
                    break
                self._held[owner] = _Body(size, now, late)
                ready.set_result(None)
            heapq.heappop(self._waiting)
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FRESH / 4, self._hurry)

    def _hurry(self) -> None:
        self._timer = None
        if self._waiting:
            now = asyncio.get_running_loop().time()
            for body in list(self._held.values()):
                if not body.whole and now - body.since >= _FRESH:
                    body.whole = True  # call `late` only once
                    body.late()
            self._admit()


BODIES = web.AppKey("bodies", Bodies)
