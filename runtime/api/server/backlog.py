"""Bound the bytes of replies that clients have not read yet, over all connections."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from aiohttp import web

from runtime import limits

log = logging.getLogger("netkit.api")

_AHEAD = 1 << 18  # bytes buffered for a client before its handler has to wait,
_BEHIND = 1 << 14  # and the same once 1/_PART of the bound is in use
_PART = 4
_FRESH = 1.0  # seconds without progress after which a client counts as stalled
_REMEMBERED = 32  # request targets known to have large replies
_TARGET = 1000  # characters of a target that is kept
_LOOK = 0.1  # seconds between checks of slow clients while a reply waits for room
_PATIENCE = 10.0  # seconds after which a client that is slow, not stalled, may be closed, too
_QUIET = 10.0  # seconds between log lines


class Seldom:
    """Limits the rate of log lines to one in ten seconds, with a count of those suppressed."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def info(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)"
        log.info("%s%s", text, more if self._left_out else "")
        self._next, self._left_out = now + _QUIET, 0


class _Holder:
    def __init__(self, look: Callable[[], int], now: float) -> None:
        self.look, self.size, self.since, self.begun = look, 0, now, now

    def may_go(self, now: float) -> bool:
        """Is the client stalled (_FRESH), or has it taken too long for the whole (_PATIENCE)?"""
        return now - self.since >= _FRESH or now - self.begun >= _PATIENCE

    def update(self, now: float) -> int:
        """The bytes not read yet; updates `since`, when the client last read some."""
        size = self.look()
        if size < self.size:
            self.since = now
        self.size = size
        return size


class Replies:
    """Accounts for replies buffered for slow clients.

    Beyond `limits.REPLIES_BYTES` the connection with the most bytes is closed, among those that
    have read nothing for a second or have not read all for ten.  No further large reply is
    rendered until there is `room`.
    """

    def __init__(self) -> None:
        self._unsent: dict[asyncio.Transport, _Holder] = {}
        self._leaving: dict[asyncio.Transport, int] = {}  # aborted, buffers not freed yet
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._seldom = Seldom()
        self._large: deque[str] = deque(maxlen=_REMEMBERED)
        self.crowded = False  # as of the last `hold`: use small buffers

    def large(self, target: str) -> None:
        """Remember that the reply to this request target is large."""
        if target not in self._large and len(target) < _TARGET:
            self._large.append(target)

    def was_large(self, target: str) -> bool:
        return target in self._large

    def hold(self, transport: asyncio.Transport, look: Callable[[], int]) -> None:
        """Count what `look` returns, bytes not read by the client, until `release`."""
        if transport not in self._unsent:
            self._unsent[transport] = _Holder(look, asyncio.get_running_loop().time())
        self.crowded = self._cut_off() * _PART >= limits.REPLIES_BYTES

    def release(self, transport: asyncio.Transport) -> None:
        self._unsent.pop(transport, None)
        self._leaving.pop(transport, None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake)

    @property
    def roomy(self) -> bool:
        return self._total() < limits.REPLIES_BYTES

    async def room(self) -> None:
        """Wait until less than the bound is buffered.

        Last in, first out: in a flood of requests a single client that comes later is still served.
        """
        while not self.roomy:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            self._watch()
            try:
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)

    def _total(self) -> int:
        now = asyncio.get_running_loop().time()
        held = sum(each.update(now) for each in self._unsent.values())
        return held + sum(self._leaving.values())

    def _cut_off(self) -> int:
        """Abort slow connections, largest first, until the others are within the bound.

        Returns the bytes that the others hold.
        """
        now = asyncio.get_running_loop().time()
        total = self._total() - sum(self._leaving.values())  # aborted ones are being freed
        while total >= limits.REPLIES_BYTES:
            stalled = [t for t, each in self._unsent.items() if each.may_go(now)]
            if not stalled:
                break
            victim = max(stalled, key=lambda t: self._unsent[t].size)
            self._leaving[victim] = self._unsent.pop(victim).size
            total -= self._leaving[victim]
            self._seldom.info("closed a connection: its client reads the reply too slowly")
            victim.abort()
        return total

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting:
            self._cut_off()
            self._wake()
            self._watch()

    def _wake(self) -> None:
        """Resume the latest waiter, and the next one after it has run."""
        if self._waiting and self.roomy:
            # One at a time: its reply is rendered and counted before the next is resumed.
            future = self._waiting.pop()
            if not future.done():
                future.set_result(None)
            asyncio.get_running_loop().call_soon(self._wake)


class Unsent:
    """Bytes of a reply that one client has not read yet."""

    def __init__(self, transport: asyncio.Transport, replies: Replies) -> None:
        self._transport, self._replies = transport, replies
        self._with_handler = 0  # bytes that the handler has not passed to the transport yet
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._most = 0
        self._adapt()

    def sending(self, size: int) -> None:
        """The handler has `size` bytes to pass to the transport."""
        if self._closed:  # nothing would release them later; the handler gets an error by itself
            return
        self._with_handler = size
        if size:
            self._replies.hold(self._transport, self._size)
            self._adapt()
        elif self._transport.get_write_buffer_size() <= _BEHIND:
            self._replies.release(self._transport)

    def _adapt(self) -> None:
        most = _BEHIND if self._replies.crowded else _AHEAD
        if most != self._most:
            self._transport.set_write_buffer_limits(high=most)
            self._most = most

    @property
    def crowded(self) -> bool:
        return self._replies.crowded

    def paused(self, *, streaming: bool) -> None:
        """The transport's buffer is full; a client that is not `streaming` has to read some of it
        within limits.REPLY_SECONDS."""
        self._replies.hold(self._transport, self._size)
        if not streaming:
            self._look(self._transport.get_write_buffer_size() + 1)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._with_handler:
            self._replies.release(self._transport)

    def stop(self) -> None:
        """Stop accounting: a handler runs, or has taken the connection over."""
        self._replies.release(self._transport)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """The connection is closed."""
        self._closed = True
        self.stop()

    def _size(self) -> int:
        return self._transport.get_write_buffer_size() + self._with_handler

    def _look(self, left: int) -> None:
        """Abort unless fewer than `left` bytes of the reply are left; check again later."""
        if self._transport.is_closing():
            return
        now = self._transport.get_write_buffer_size()
        if now >= left:
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(limits.REPLY_SECONDS, self._look, now)


REPLIES = web.AppKey("replies", Replies)
