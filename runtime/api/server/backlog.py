"""Bytes of replies that clients have not taken yet, bounded in sum."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from aiohttp import web

from runtime import limits

log = logging.getLogger("netkit.api")

_AHEAD = 1 << 18  # bytes that wait for the client before their handler does,
_BEHIND = 1 << 14  # and while others hold a part of what all may
_PART = 4
_FRESH = 1.0  # seconds without progress after which a client counts as stalled
_REMEMBERED = 32  # targets of large replies
_TARGET = 1000  # characters of one
_LOOK = 0.1  # seconds between looks at those who hold what others wait for
_PATIENCE = 10.0  # seconds after which one that is not stalled makes room, too
_QUIET = 10.0  # seconds between lines in the log


class Seldom:
    """One line in ten seconds, with the number of those that were left out."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def info(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more like this since the last such line)"
        log.info("%s%s", text, more if self._left_out else "")
        self._next, self._left_out = now + _QUIET, 0


class _Holder:
    def __init__(self, look: Callable[[], int], now: float) -> None:
        self.look, self.size, self.since, self.begun = look, 0, now, now

    def may_go(self, now: float) -> bool:
        """Whether it has taken nothing for a second, or not all of it for long."""
        return now - self.since >= _FRESH or now - self.begun >= _PATIENCE

    def update(self, now: float) -> int:
        """The bytes it holds; `since` is when the client last took some."""
        size = self.look()
        if size < self.size:
            self.since = now
        self.size = size
        return size


class Replies:
    """What waits for clients that are slow to read.

    Beyond `limits.REPLIES_BYTES` the connection with most of it, of those that have taken nothing
    for a second or have not taken all for ten, is closed.  No further large reply is made
    until there is `room`.
    """

    def __init__(self) -> None:
        self._unsent: dict[asyncio.Transport, _Holder] = {}
        self._leaving: dict[asyncio.Transport, int] = {}  # closed, and not gone yet
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._seldom = Seldom()
        self._large: deque[str] = deque(maxlen=_REMEMBERED)
        self.crowded = False  # when a client was slow the last time

    def large(self, target: str) -> None:
        """The reply to this request target is large."""
        if target not in self._large and len(target) < _TARGET:
            self._large.append(target)

    def was_large(self, target: str) -> bool:
        return target in self._large

    def hold(self, transport: asyncio.Transport, look: Callable[[], int]) -> None:
        """From now on, until `release`, count what `look` returns: bytes not taken."""
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
        """Wait until less than the bound is held.

        The latest is served first: of a flood, those who are left waiting were there before.
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
        """Close connections that are stalled, those with most first, until the others hold less.

        Returns the bytes that these hold.
        """
        now = asyncio.get_running_loop().time()
        total = self._total() - sum(self._leaving.values())
        while total >= limits.REPLIES_BYTES:
            stalled = [t for t, each in self._unsent.items() if each.may_go(now)]
            if not stalled:
                break
            victim = max(stalled, key=lambda t: self._unsent[t].size)
            self._leaving[victim] = self._unsent.pop(victim).size
            total -= self._leaving[victim]
            self._seldom.info("a client was cut off: it is too slow to take its reply")
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
        """Let the latest go on, and when it has taken its step the next."""
        if self._waiting and self.roomy:
            future = self._waiting.pop()
            if not future.done():
                future.set_result(None)
            asyncio.get_running_loop().call_soon(self._wake)


class Unsent:
    """What one client has not taken of a reply."""

    def __init__(self, transport: asyncio.Transport, replies: Replies) -> None:
        self._transport, self._replies = transport, replies
        self._with_handler = 0  # bytes that the handler has, and the transport not yet
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._most = 0
        self._adapt()

    def sending(self, size: int) -> None:
        """The handler holds so many bytes for the transport to take."""
        if self._closed:  # the handler finds that out now, and nothing would release them later
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
        """The transport holds as much as it may; a client that is not `streaming` has to take
        some of it in limits.REPLY_SECONDS."""
        self._replies.hold(self._transport, self._size)
        if not streaming:
            self._look(self._transport.get_write_buffer_size() + 1)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._with_handler:
            self._replies.release(self._transport)

    def stop(self) -> None:
        """A handler has the connection."""
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
        """Abort unless fewer than `left` bytes of the reply are left; look again later."""
        if self._transport.is_closing():
            return
        now = self._transport.get_write_buffer_size()
        if now >= left:
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(limits.REPLY_SECONDS, self._look, now)


REPLIES = web.AppKey("replies", Replies)
