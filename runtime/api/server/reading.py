"""Reading from connections in pieces no larger than they may hold."""

from __future__ import annotations

import asyncio
import threading

LARGEST = 1 << 18  # bytes of one piece

_local = threading.local()  # one buffer for each thread, that is for each event loop


class Reading(asyncio.BufferedProtocol, asyncio.Protocol):
    """A protocol whose `data_received` gets at most `piece` bytes at a time.

    asyncio allocates 256 KiB for each read of a plain Protocol, and gives as much.
    """

    piece = LARGEST

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer: memoryview | None = getattr(_local, "buffer", None)
        if buffer is None:
            buffer = _local.buffer = memoryview(bytearray(LARGEST))
        return buffer[: self.piece]

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_local.buffer[:nbytes]))
