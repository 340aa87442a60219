"""Copy bytes between our standard streams and a hijacked connection.

    stdin --read--> pending --send--> connection --recv--> (frames) --write--> stdout, stderr

One loop, no threads: what the container writes is taken even while it does not read what we
send, so neither side can block the other.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.client.engine import Hijacked

BLOCK = 65536
HEAD = 8  # bytes of a frame's head: stream, three zeros, length (big endian)
SYSTEM_ERROR = 3  # the stream of the engine's own complaints


class Pump:
    """`stdin`, `stdout`, `stderr` are descriptors, or None where nothing is attached."""

    def __init__(
        self,
        stream: Hijacked,
        *,
        tty: bool,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.sock, self.ahead = stream.wire.sock, stream.wire.ahead
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.frames = None if tty else Frames(stdout, stderr)
        self.pending = b""  # read from stdin, not yet sent
        self.eof = stdin is None

    def run(self) -> None:
        """Run until the daemon ends the stream, or there is nothing left to send nor to show."""
        if self.ahead:
            self._show(self.ahead)
        self.sock.setblocking(False)
        try:
            if self.stdin is None and self.stdout is None and self.stderr is None:
                return
            self._loop()
        finally:
            self.sock.close()

    def _loop(self) -> None:
        poller = select.poll()
        watched: dict[int, int] = {}
        sock = self.sock.fileno()
        while True:
            unsent = self.pending or self._unsent()
            wanted = {sock: select.POLLIN | (select.POLLOUT if unsent else 0)}
            if self.stdin is not None and not self.eof and not self.pending:
                wanted[self.stdin] = select.POLLIN
            for fd in watched.keys() - wanted.keys():
                poller.unregister(fd)
            for fd, events in wanted.items():
                if watched.get(fd) != events:
                    poller.register(fd, events)
            watched = wanted
            ready = dict(poller.poll(0 if self._buffered() else None))
            if (sock in ready or self._buffered()) and not self._receive():
                return
            if self.pending:
                self._send()
            elif unsent:
                self._flush()
            elif self.stdin in ready:
                self._take()

    def _buffered(self) -> bool:
        """A TLS connection may hold bytes that poll does not see."""
        pending = getattr(self.sock, "pending", None)
        return bool(pending and pending())

    def _unsent(self) -> bool:
        """Whether it holds bytes that the kernel has not taken yet."""
        return bool(getattr(self.sock, "unsent", b""))

    def _flush(self) -> None:
        if not isinstance(self.sock, socket.socket):
            with suppress(OSError):  # the peer reads no more; its output may still arrive
                self.sock.flush()

    def _receive(self) -> bool:
        """False at the end of the stream."""
        try:
            data = self.sock.recv(BLOCK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False  # reset: the daemon or the container has ended
        if data:
            self._show(data)
        return bool(data)

    def _show(self, data: bytes) -> None:
        if self.frames is not None:
            self.frames.feed(data)
        elif self.stdout is not None:
            write(self.stdout, data)

    def _take(self) -> None:
        assert self.stdin is not None
        try:
            self.pending = os.read(self.stdin, BLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.pending = b""  # EIO: the terminal is closed
        if self.pending:
            self._send()
        else:
            self.eof = True
            self._half_close()

    def _send(self) -> None:
        try:
            self.pending = self.pending[self.sock.send(self.pending) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.pending, self.eof = b"", True  # the peer reads no more; output may follow

    def _half_close(self) -> None:
        """Send end of file to the container's stdin; its output goes on."""
        with suppress(OSError):
            if isinstance(self.sock, socket.socket):
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.sock.end_output()


class Frames:
    """docker's multiplexed stream, parted to two descriptors; one that is None is dropped."""

    def __init__(self, stdout: int | None, stderr: int | None) -> None:
        self.targets = {0: stdout, 1: stdout, 2: stderr}
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """Failure with its text for a complaint of the engine."""
        self.rest += data
        while len(self.rest) >= HEAD:
            stream, length = self.rest[0], int.from_bytes(self.rest[4:HEAD], "big")
            if len(self.rest) < HEAD + length:
                return
            text, self.rest = self.rest[HEAD : HEAD + length], self.rest[HEAD + length :]
            if stream == SYSTEM_ERROR:
                raise Failure(f"error from daemon in stream: {text.decode(errors='replace')}")
            if stream not in self.targets:
                raise Failure(f"unrecognized stream: {stream}")
            target = self.targets[stream]
            if target is not None:
                write(target, text)


def write(fd: int, data: bytes) -> None:
    """Write all of it, also to a descriptor that another process made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
