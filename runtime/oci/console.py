"""Connect to conmon's attach socket.

Output comes in packets of at most 8193 bytes; the first byte is 2 for stdout, 3 for stderr.  Input
goes to the container's stdin unchanged.  Shutting down the sending side closes that stdin, unless
conmon was started with --leave-stdin-open; so does closing the connection.

conmon's end of the socket is blocking: a client that does not read stops conmon, and with it the
container's output, its log and the report of its exit.  So output is read ahead of the caller: up
to 1 MiB while the container runs, less if many callers are slow; all of it once the container has
exited (bounded by the pipes).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from functools import partial
from pathlib import Path

from netkit import threads
from runtime.oci.process import Process
from runtime.window import Window

_PACKET = 8193 + 64
_MOST = 1 << 20  # bytes kept for a caller that is slower than the container
_MOST_ALL = 8 << 20  # of all connections; beyond it each may have _MOST_LEAST
_MOST_LEAST = 1 << 14
_CHANNELS = {2: 1, 3: 2}
_window = Window(total=_MOST_ALL, most=_MOST, least=_MOST_LEAST)


class Console:
    """One connection to one container, for the event loop."""

    def __init__(self, sock: socket.socket, init: Process | None = None) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._packets: deque[tuple[int, bytes]] = deque()
        self._waiting = 0  # bytes in packets
        self._news = asyncio.Event()
        self._over = self._unbounded = self._reading = False
        self._init = -1
        if init is not None:
            try:
                self._init = os.pidfd_open(init.pid)
                self._loop.add_reader(self._init, self._init_ended)
            except ProcessLookupError:
                self._unbounded = True
            except BaseException:
                self._forget_init()
                raise
        self._listen()

    @classmethod
    def connect(cls, bundle: Path, init: Process | None = None) -> Console:
        """Connect without blocking (the kernel queues it).  OSError if conmon has exited.

        `init` is the container's first process: after its exit a slow caller must not block
        conmon, so all output is read.
        """
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            folder = os.open(bundle, os.O_PATH | os.O_CLOEXEC)
            try:  # the folder's own path may be longer than a socket address can be (108 bytes)
                sock.connect(f"/proc/self/fd/{folder}/attach")
            finally:
                _close(folder)
            return cls(sock, init)
        except BaseException:
            sock.close()
            raise

    def _listen(self) -> None:
        wanted = not self._over and (self._unbounded or self._waiting < _window.size)
        if wanted and not self._reading:
            self._loop.add_reader(self._sock, self._receive)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._sock)
        self._reading = wanted

    def _receive(self) -> None:
        try:
            packet = self._sock.recv(_PACKET)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        except Exception as error:  # noqa: BLE001  reported; the reader gets EOF
            threads.report("reading a container's output", error)
            packet = b""
        if not packet:
            self._over = True
        elif channel := _CHANNELS.get(packet[0]):
            self._packets.append((channel, packet[1:]))
            self._hold(len(packet) - 1)
        self._news.set()
        self._listen()

    def _hold(self, size: int) -> None:
        self._waiting += size
        _window.add(size)

    def _init_ended(self) -> None:
        self._forget_init()
        self._unbounded = True
        self._listen()

    def _forget_init(self) -> None:
        if self._init >= 0:
            self._loop.remove_reader(self._init)
            fd, self._init = self._init, -1
            _close(fd)

    async def read(self) -> tuple[int, bytes] | None:
        """(channel, data); None at the end of all output.  For one reader."""
        while not self._packets:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        channel, data = self._packets.popleft()
        self._hold(-len(data))
        self._listen()
        return channel, data

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), 8192):
            await self._loop.sock_sendall(self._sock, data[at : at + 8192])

    def end_input(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the container has exited, and its stdin is closed

    async def drain(self) -> None:
        """Discard output until EOF, then close: closing now would close the container's stdin.

        For a client that only read output while stdin belongs to another client.
        """
        try:
            while await self.read():
                pass
        finally:
            self.close()

    def close(self) -> None:
        self._forget_init()
        if self._reading:
            self._loop.remove_reader(self._sock)
        self._over, self._reading = True, False
        self._packets.clear()
        self._hold(-self._waiting)
        self._news.set()
        threads.attempt("closing a container's console", self._sock.close)


def _close(fd: int) -> None:
    """Close a descriptor; it is closed even if that fails (close(2))."""
    threads.attempt("closing a container's console", partial(os.close, fd))
