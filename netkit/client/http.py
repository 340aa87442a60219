"""HTTP/1.1 over a connected socket: as much as an engine's API needs, and the hijack.

By hand, because http.client takes 20 ms more of CPU time to import, where `netkit ps` takes 25 in
all, and keeps what it read ahead from who takes the connection over after an upgrade; requests
and httpx take a multiple of it.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from netkit.client.secure import SecureSocket  # imports ssl, which costs time

    Body = bytes | Iterable[bytes] | None

BLOCK = 65536
HEAD_LIMIT = 1 << 20  # bytes of status line and headers; more is no answer of an engine
NO_ANSWER = "the daemon closed the connection without an answer"
CUT_SHORT = "the daemon closed the connection in the middle of an answer"
SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@")


class ProtocolError(OSError):
    """The other side does not speak HTTP, or stopped in the middle of an answer."""


def quote(text: str) -> str:
    """Percent-encoded, for a path or a query value; "/", ":" and "@" stay."""
    return "".join(chr(b) if b in SAFE else f"%{b:02X}" for b in text.encode())


def query(pairs: Mapping[str, object]) -> str:
    """ "?a=1&b=x": booleans as 1, false, None and "" left out; all items of a list, "" as well."""
    parts: list[str] = []
    for key, given in pairs.items():
        several = isinstance(given, (list, tuple))
        for each in given if isinstance(given, (list, tuple)) else (given,):
            if each is None or each is False or (each == "" and not several):
                continue
            parts.append(f"{key}={quote('1' if each is True else str(each)).replace('@', '%40')}")
    return "?" + "&".join(parts) if parts else ""


class Wire:
    """A socket with what was read ahead of it."""

    def __init__(self, sock: socket.socket | SecureSocket) -> None:
        self.sock = sock
        self.ahead = b""

    def close(self) -> None:
        self.sock.close()

    @property
    def buffered(self) -> bool:
        """Whether there are bytes to read that poll on the socket does not report."""
        return bool(self.ahead) or (
            not isinstance(self.sock, socket.socket) and self.sock.pending() > 0
        )

    def some(self, most: int = BLOCK) -> bytes:
        """At least one byte, or b"" at the end."""
        if self.ahead:
            data, self.ahead = self.ahead[:most], self.ahead[most:]
            return data
        return self.sock.recv(most)

    def until(self, mark: bytes, lost: str = NO_ANSWER) -> bytes:
        """Everything before the next `mark`, which is consumed, too; `lost` if it does not come."""
        while (at := self.ahead.find(mark)) < 0:
            more = self.sock.recv(BLOCK)
            if not more:
                raise ProtocolError(lost)
            self.ahead += more
            if len(self.ahead) > HEAD_LIMIT:
                raise ProtocolError("the answer's head is longer than 1 MiB")
        found, self.ahead = self.ahead[:at], self.ahead[at + len(mark) :]
        return found


class Response:
    """Status, headers (names in lower case) and the body, which is read once."""

    def __init__(self, wire: Wire, method: str) -> None:
        self.wire = wire
        head = wire.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = head[0].partition(" ")
        number, _, self.reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not number.isdecimal():
            raise ProtocolError(f"no HTTP answer but {head[0][:80]!r}")
        self.status = int(number)
        self.headers = {
            key.strip().lower(): given.strip()
            for key, _, given in (line.partition(":") for line in head[1:])
        }
        self.empty = method == "HEAD" or self.status in (204, 304) or self.status < 200
        self.finished = self.empty
        self._keep = version != "HTTP/1.0" and self.headers.get("connection", "").lower() != "close"

    @property
    def reusable(self) -> bool:
        """The connection may carry another request."""
        return self.finished and self._keep and self.status != 101

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes."""
        if self.finished:
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
        elif "content-length" in self.headers:
            yield from self._exactly(int(self.headers["content-length"]))
        else:
            self._keep = False
            while data := self.wire.some():
                yield data
        self.finished = True

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        """Lines of the body, without their ends, each as soon as it is complete."""
        rest = b""
        for data in self.chunks():
            *whole, rest = (rest + data).split(b"\n")
            yield from (line.strip() for line in whole if line.strip())
        if rest.strip():
            yield rest.strip()

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self.wire.until(b"\r\n", CUT_SHORT).partition(b";")[0], 16):
            yield from self._exactly(size)
            self.wire.until(b"\r\n", CUT_SHORT)
        while self.wire.until(b"\r\n", CUT_SHORT):
            pass  # trailers

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left:
            data = self.wire.some(min(left, BLOCK))
            if not data:
                raise ProtocolError(CUT_SHORT)
            left -= len(data)
            yield data


def send(wire: Wire, method: str, target: str, headers: Mapping[str, str], body: Body) -> None:
    """Write a request; an iterable body goes in chunks.

    BrokenPipeError while a body is sent is swallowed: the daemon has answered early, and its
    answer has the reason.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {given}" for key, given in headers.items())]
    if isinstance(body, bytes):
        lines.append(f"Content-Length: {len(body)}")
    elif body is not None:
        lines.append("Transfer-Encoding: chunked")
    elif method in ("POST", "PUT"):
        lines.append("Content-Length: 0")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if body is None or isinstance(body, bytes):
        wire.sock.sendall(head + (body or b""))
        return
    wire.sock.sendall(head)
    try:
        for data in body:
            if data:
                wire.sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        wire.sock.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
