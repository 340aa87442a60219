"""A socket of which every wait ends: by deadline, by minimum rate, by cancellation."""

from __future__ import annotations

import io
import socket
import ssl
import time

from netkit.errors import KernelError
from runtime import limits
from runtime.cancellation import Cancel

LOOK = 0.25  # seconds between looks at the cancellation


class Dropped(KernelError):
    """The connection failed or was cut: another attempt may succeed."""


class TooSlow(Dropped):
    """It sends nothing, or drips."""


class TooMuch(KernelError):
    """More came than was announced or is allowed."""


class Guard:
    """Duck-typed as the socket of http.client: sendall, makefile, close.

    Waits end `until` a deadline; after `paced`, when too little has come for too long.
    `expect` bounds the bytes that may come until it is called again.
    """

    def __init__(self, sock: socket.socket, cancel: Cancel, until: float) -> None:
        self._sock = sock
        self._cancel = cancel
        self._until = until
        self._window: tuple[float, int] | None = None  # its end, bytes that are still to come
        self._most = limits.REGISTRY_HEAD_BYTES
        self._readers, self._closed = 0, False
        sock.settimeout(LOOK)

    # what the next waits are for

    def within(self, until: float, most: int) -> None:
        """The next bytes, `most` at most, have to come before `until` (monotonic)."""
        self._until, self._most, self._window = until, most, None

    def paced(self, most: int) -> None:
        """The next bytes, `most` at most, come or are sent at the minimum rate at least."""
        self._most = most
        self._renew()

    def _renew(self) -> None:
        self._window = (
            time.monotonic() + limits.REGISTRY_STALL_SECONDS, limits.REGISTRY_STALL_BYTES
        )  # fmt: skip

    def _look(self) -> None:
        self._cancel.check()
        now = time.monotonic()
        if self._window is not None:
            if now > self._window[0]:
                raise TooSlow(
                    f"less than {limits.REGISTRY_STALL_BYTES} bytes in "
                    f"{limits.REGISTRY_STALL_SECONDS} s: given up"
                )
        elif now > self._until:
            raise TooSlow("i/o timeout: no answer in time")

    def _moved(self, count: int) -> None:
        if self._window is not None:
            end, left = self._window
            if count >= left:
                self._renew()
            else:
                self._window = end, left - count

    # the socket

    def sendall(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            self._look()
            try:
                sent = self._sock.send(rest)
            except (TimeoutError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                continue
            self._moved(sent)
            rest = rest[sent:]

    def recv_into(self, buffer: memoryview) -> int:
        while True:
            self._look()
            try:
                count = self._sock.recv_into(buffer)
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            self._most -= count
            if self._most < 0:
                raise TooMuch("the answer is longer than announced or allowed: given up")
            self._moved(count)
            return count

    def handshake(self, context: ssl.SSLContext, name: str) -> None:
        self._sock = wrapped = context.wrap_socket(
            self._sock, server_hostname=name, do_handshake_on_connect=False
        )
        while True:
            self._look()
            try:
                return wrapped.do_handshake()
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue

    def makefile(self, mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Raw(self), 1 << 16)

    def close(self) -> None:
        """As with sockets, once the last of `makefile` is closed, too."""
        self._closed = True
        if not self._readers:
            self._sock.close()

    def release(self) -> None:
        self._readers -= 1
        if self._closed:
            self.close()


class _Raw(io.RawIOBase):
    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def close(self) -> None:
        if not self.closed:
            self._guard.release()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._guard.recv_into(buffer)
