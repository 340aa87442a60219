"""conmon's attach socket: packets of at most 8193 bytes, the first says stdout (2) or stderr (3).

What is written to it goes to the container's stdin as it is; shutting down the sending side
closes that stdin, unless conmon was told to leave it open.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

_PACKET = 8193 + 64
_CHANNELS = {2: 1, 3: 2}


class Console:
    """One connection to one container.  Lives on the event loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    def connect(cls, bundle: Path) -> Console:
        """Connects at once (the kernel queues it).  OSError if nobody listens any more."""
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        folder = os.open(bundle, os.O_PATH | os.O_CLOEXEC)
        try:  # the folder's own path may be longer than a socket address can be (108 bytes)
            sock.connect(f"/proc/self/fd/{folder}/attach")
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(folder)
        return cls(sock)

    async def read(self) -> tuple[int, bytes] | None:
        """(channel, data); None at the end of all output."""
        while True:
            try:
                packet = await self._loop.sock_recv(self._sock, _PACKET)
            except ConnectionResetError:
                return None
            if not packet:
                return None
            if channel := _CHANNELS.get(packet[0]):
                return channel, packet[1:]

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), 8192):
            await self._loop.sock_sendall(self._sock, data[at : at + 8192])

    def end_input(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the container is gone: its stdin too

    def close(self) -> None:
        self._sock.close()
