"""A TLS connection whose halves end one by one, which ssl.SSLSocket cannot.

Its unwrap() reads for the other side's goodbye, and refuses the output that comes instead.  Here
TLS works on memory, so that close_notify is only written (RFC 8446, 6.1):

    recv <-- _clear <-- SSLObject <-- MemoryBIO <-- socket
    send --------------> SSLObject --> MemoryBIO --> unsent --> socket
"""

from __future__ import annotations

import ssl
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

BLOCK = 65536


class SecureSocket:
    """As much of a socket as the command line uses.  The handshake is done by the constructor."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._clear = b""  # received, decrypted, not yet asked for
        self._ended = False
        self.unsent = b""  # encrypted, not yet taken by the kernel
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                if not (data := self._sock.recv(BLOCK)):
                    raise ConnectionResetError("closed during the TLS handshake") from None
                self._in.write(data)
            except ssl.SSLError:
                self.flush()  # the alert with the reason
                raise
            else:
                return self.flush()

    def recv(self, most: int) -> bytes:
        """b"" at the end.  BlockingIOError as a socket's."""
        while not self._clear and not self._ended:
            data = self._sock.recv(BLOCK)
            if data:
                self._in.write(data)
            else:
                self._ended = True  # a killed daemon sends no close_notify
            self._decrypt()
        data, self._clear = self._clear[:most], self._clear[most:]
        return data

    def _decrypt(self) -> None:
        """All whole records there are."""
        parts = [self._clear]
        try:
            while part := self._tls.read(BLOCK):
                parts.append(part)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        self._clear = b"".join(parts)
        self.flush()  # answers of the protocol's own

    def pending(self) -> int:
        """Bytes that recv has without the socket being readable."""
        return len(self._clear)

    def send(self, data: bytes) -> int:
        """BlockingIOError while earlier bytes wait for the kernel: see `unsent`."""
        self.flush()
        if self.unsent:
            raise BlockingIOError("earlier bytes are not out yet")
        self._tls.write(data)
        self.flush()
        return len(data)

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Give the kernel what it takes; all of it where the socket blocks."""
        self.unsent += self._out.read()
        with suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self._sock.send(self.unsent) :]

    def end_output(self) -> None:
        """Send close_notify; what the other side sends still arrives."""
        self._decrypt()  # data unread at a close_notify would be a protocol error
        with suppress(ssl.SSLError):  # the other side has sent no close_notify yet
            self._tls.unwrap()
        self.flush()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()
