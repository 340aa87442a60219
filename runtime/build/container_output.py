"""Bring what a container prints from the event loop to the thread of a build."""

from __future__ import annotations

import asyncio
import codecs
import threading
from collections import deque
from collections.abc import Iterator
from itertools import groupby

from netkit import threads
from runtime.lifecycle.streams import Attachment

_LINE_SECONDS = 0.05  # in which the rest of a line may come, which is then shown with it
_MOST = 1 << 18  # bytes that the build has not taken; then the container waits


class Output:
    """Implements Stream; iterated by the build: (channel, text) until the container has ended.

    Text is whole characters; bytes that are none are replaced.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._ended = False
        self._room = asyncio.Event()
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {1: make("replace"), 2: make("replace")}

    def attach(self, attachment: Attachment) -> None:
        """Have the output copied; it is waited for before the container's first instruction."""

        async def begin() -> None:
            self._task = threads.task("output of a build", attachment.run(self))
            self._task.add_done_callback(self._over)
            await asyncio.sleep(0)  # the client is registered in the task's first step

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    def detach(self) -> None:
        if self._task is not None:
            threads.post(self._loop, "output of a build", self._task.cancel)

    # Stream: on the event loop

    async def read(self) -> bytes:
        return b""

    async def write(self, channel: int, data: bytes) -> None:
        with self._changed:
            self._waiting.append((channel, data))
            self._size += len(data)
            full = self._size > _MOST
            if full:
                self._room.clear()
            self._changed.notify()
        if full:
            await self._room.wait()

    async def close(self) -> None: ...

    def _over(self, task: asyncio.Task[None]) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    # on the build's thread

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while some := self._next():
            for channel, group in groupby(some, lambda packet: packet[0]):
                data = b"".join(data for _, data in group)
                if text := self._decoders[channel].decode(data):
                    yield channel, text
        for channel, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                yield channel, text

    def _next(self) -> deque[tuple[int, bytes]]:
        """All that has come since; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._waiting and not self._waiting[-1][1].endswith(b"\n") and not self._ended:
                self._changed.wait(_LINE_SECONDS)
            some, self._waiting = self._waiting, deque()
            full = self._size > _MOST
            self._size = 0
        if full:
            threads.post(self._loop, "output of a build", self._room.set)
        return some
