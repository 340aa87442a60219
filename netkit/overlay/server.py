"""The control socket: clients of this host that ask, and subscribers to events."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from netkit.overlay import verbs
from netkit.overlay.loop import Loop
from netkit.overlay.packets import PACKET, Assembly, Broken, packets
from netkit.overlay.verbs import Answer, Call, Refused

CLIENTS = 64  # connections at once
TURN = 16  # packets that are read of one client before others have their turn
BEHIND = 32 << 20  # bytes that may wait for a client; one that does not read is dropped


class Client:
    """One connection; `send` never waits."""

    def __init__(self, sock: socket.socket, loop: Loop, server: Server) -> None:
        self.sock, self._loop, self._server = sock, loop, server
        self.subscribed = False  # whether it has subscribed
        self._assembly = Assembly()
        self._queue: deque[bytes] = deque()
        self._size = 0
        loop.read(sock.fileno(), self._read)

    @property
    def open(self) -> bool:
        return self.sock.fileno() >= 0

    def send(self, answer: Answer) -> None:
        if not self.open:
            return
        for packet in packets(verbs.encode(answer)):
            self._queue.append(packet)
            self._size += len(packet)
        self._flush()
        if self._size > BEHIND:
            self.close()

    def _flush(self) -> None:
        try:
            while self._queue:
                self.sock.send(self._queue[0], socket.MSG_NOSIGNAL)
                self._size -= len(self._queue.popleft())
        except BlockingIOError:
            self._loop.both(self.sock.fileno(), self._read, self._flush)
            return
        except OSError:
            return self.close()
        self._loop.read(self.sock.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(TURN):
            try:
                data, _, flags, _ = self.sock.recvmsg(PACKET)
            except BlockingIOError:
                return
            except OSError:
                return self.close()
            if not data or flags & socket.MSG_TRUNC:
                return self.close()
            try:
                message = self._assembly.add(data)
            except Broken:
                return self.close()
            if message is not None:
                self._take(message)
            if not self.open:
                return

    def _take(self, message: bytes) -> None:
        try:
            call = verbs.call(message)
        except verbs.UNREADABLE as e:
            self.send(Refused(0, "InvalidSpec", f"this is nothing to be asked: {e}"))
            return
        self._server.asked(self, call)

    def close(self) -> None:
        if self.open:
            self._loop.forget(self.sock.fileno())
            self._server.gone(self)
            self.sock.close()
            self._queue.clear()


class Server:
    """`act` gets each call, with the client that its answers are for.  OSError."""

    def __init__(self, path: Path, loop: Loop, act: Callable[[Client, Call], None]) -> None:
        self._path, self._loop, self.asked = path, loop, act
        self._clients: dict[Client, None] = {}
        path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            before = os.umask(0o177)
            try:
                self._sock.bind(str(path))
            finally:
                os.umask(before)
            self._sock.listen(CLIENTS)
            self._sock.setblocking(False)
        except BaseException:
            self._sock.close()
            raise
        loop.read(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            sock, _ = self._sock.accept()
            if len(self._clients) >= CLIENTS:
                sock.close()
                return
            sock.setblocking(False)
            self._clients[Client(sock, self._loop, self)] = None

    def gone(self, client: Client) -> None:
        self._clients.pop(client, None)

    def publish(self, what: dict[str, object]) -> None:
        """To all that have subscribed."""
        for client in [c for c in self._clients if c.subscribed]:
            client.send(verbs.Notification(what))

    def close(self) -> None:
        """No client reaches this process any more; what was answered is delivered."""
        self._loop.forget(self._sock.fileno())
        self._path.unlink(missing_ok=True)
        self._sock.close()
        for client in list(self._clients):
            client.close()
