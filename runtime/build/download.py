"""Fetch what a URL of ADD or of a build context names: every wait ends, and nothing is endless.

http and https alone, also after a redirect; proxies from the environment, as dockerd takes them.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import Self

from netkit.errors import Forbidden, InvalidSpec, NetkitError, NotFound
from runtime import limits
from runtime.build.errors import BuildFailed, reason
from runtime.build.urls import Unusable, checked, shown, told
from runtime.cancellation import Check, unchecked

_REDIRECTS = 10  # Go's http.Client: the same
_MOVED = frozenset((301, 302, 303, 307, 308))
_SAFE = "/%:@!$&'()*+,;=~-._?"
_LOOK = 0.5  # seconds between looks whether the client is still there
_SAID = 4096  # bytes of a refusal that are shown
_CLASSES: dict[int, type[NetkitError]] = {400: InvalidSpec, 403: Forbidden, 404: NotFound}


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


class Download:
    """The body of an answer as a file; a context manager.

    `read` raises BuildFailed for a server that breaks off, says nothing for REMOTE_IDLE_SECONDS,
    takes longer than REMOTE_SECONDS or sends more than REMOTE_BYTES (runtime/limits.py).
    """

    def __init__(self, url: str, check: Check = unchecked) -> None:
        """`check` is called now and then, and may raise to end it.

        BuildFailed; NotFound, Forbidden and InvalidSpec for these answers of the server.
        """
        self.url = url
        self._wire, self._answer = _followed(url, check)
        self._wire.until = time.monotonic() + limits.REMOTE_SECONDS
        self._got = 0
        try:
            self._refused()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._answer.close()
        self._wire.close()

    def header(self, name: str) -> str:
        return str(self._answer.headers.get(name, ""))

    @property
    def size(self) -> int:
        """Bytes the server promises; -1 if it does not say."""
        return -1 if self._answer.length is None else self._got + self._answer.length

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, which is positive; b"" at the end."""
        promised = self.size
        try:
            data = self._answer.read1(size)
        except _Stopped as stopped:
            raise stopped.why from None
        except (OSError, http.client.HTTPException) as error:
            raise BuildFailed(f"{self.url}: {told(error)}") from error
        self._got += len(data)
        if self._got > limits.REMOTE_BYTES:
            raise BuildFailed(f"{self.url}: more than {limits.REMOTE_BYTES} bytes: refused")
        if not data and self._got < promised:
            raise BuildFailed(f"{self.url}: unexpected EOF")
        return data

    def _refused(self) -> None:
        status = self._answer.status
        if status < 400:
            return
        shown = f"{status} {http.client.responses.get(status, self._answer.reason)}"
        said = b""
        while len(said) < _SAID and (more := self.read(_SAID - len(said))):
            said += more
        text = f"failed to GET {self.url} with status {shown}: "
        raise _CLASSES.get(status, BuildFailed)(text + said.decode(errors="replace").strip())


class _Stopped(Exception):
    """What `check` raised: a ConnectionError like those of the server, as often as not."""

    def __init__(self, why: Exception) -> None:
        self.why = why


class _Wire(io.RawIOBase):
    """A connected socket to read from, until a moment of the monotonic clock."""

    def __init__(self, sock: socket.socket, until: float, check: Check) -> None:
        super().__init__()
        self._sock = sock
        self.until = until
        self._check = check

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        until = min(self.until, time.monotonic() + limits.REMOTE_IDLE_SECONDS)
        while (left := until - time.monotonic()) > 0:
            try:
                self._check()
            except Exception as error:
                raise _Stopped(error) from error
            self._sock.settimeout(min(left, _LOOK))
            with suppress(TimeoutError):
                return self._sock.recv_into(buffer)
        raise TimeoutError

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)

    def close(self) -> None:
        self._sock.close()
        super().close()


def _followed(url: str, check: Check) -> tuple[_Wire, http.client.HTTPResponse]:
    """The answer that is no redirect, its body unread."""
    at, login = url, ""
    until = time.monotonic() + limits.REMOTE_HEAD_SECONDS
    for _ in range(_REDIRECTS):
        try:
            parts = checked(at)
            login = login if at != url else _login(parts)
            wire, answer = _asked(parts, login, until, check)
        except _Stopped as stopped:
            raise stopped.why from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BuildFailed(f'Get "{shown(at)}": {told(error)}') from error
        target = answer.headers.get("Location", "")
        if answer.status not in _MOVED or not target:
            return wire, answer
        wire.close()
        try:
            after = urllib.parse.urljoin(at, target)
            moved = urllib.parse.urlsplit(after).netloc != parts.netloc
        except ValueError as error:
            text = f'Get "{shown(at)}": failed to parse Location header {target[:200]!r}'
            raise BuildFailed(f"{text}: {told(error)}") from error
        if moved:
            login = ""  # it is for the first host alone
        at = after
    raise BuildFailed(f'Get "{shown(at)}": stopped after {_REDIRECTS} redirects')


def _asked(
    parts: urllib.parse.SplitResult, login: str, until: float, check: Check
) -> tuple[_Wire, http.client.HTTPResponse]:
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    proxy = _proxy(parts.scheme, host, port)
    sock = _connected(*(proxy or (host, port)))
    try:
        if secure:
            if proxy:
                _tunnel(sock, host, port)
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        wire = _Wire(sock, until, check)
        wire.sendall(_head(parts, login, through=proxy is not None and not secure))
        answer = http.client.HTTPResponse(wire, method="GET")  # type: ignore[arg-type]
        answer.begin()
    except BaseException:
        sock.close()
        raise
    return wire, answer


def _head(parts: urllib.parse.SplitResult, login: str, *, through: bool) -> bytes:
    place = parts.netloc.rpartition("@")[2]
    target = urllib.parse.quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        target += "?" + urllib.parse.quote(parts.query, safe=_SAFE)
    lines = [
        f"GET http://{place}{target} HTTP/1.1" if through else f"GET {target} HTTP/1.1",
        f"Host: {place}",
        "User-Agent: netkit",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    if login:
        lines.append(f"Authorization: Basic {login}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _connected(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=limits.REMOTE_CONNECT_SECONDS)
    except socket.gaierror as error:
        raise Unusable(f"dial tcp: lookup {host}: {_unknown(error)}") from error
    except TimeoutError as error:
        raise Unusable(f"dial tcp {host}:{port}: i/o timeout") from error
    except OSError as error:
        raise Unusable(f"dial tcp {host}:{port}: connect: {reason(error)}") from error


def _unknown(error: socket.gaierror) -> str:
    known = error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}
    return "no such host" if known else str(error.strerror)


def _tunnel(sock: socket.socket, host: str, port: int) -> None:
    """Ask a proxy to pass bytes on; read no more than its answer."""
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode("ascii"))
    said = b""
    while not said.endswith(b"\r\n\r\n") and len(said) < _SAID and (more := sock.recv(1)):
        said += more
    line = said.split(b"\r\n", 1)[0].decode("latin-1")
    if line.split(" ")[1:2] != ["200"]:
        raise Unusable(f"the proxy refuses: {line[:100]}")


def _proxy(scheme: str, host: str, port: int) -> tuple[str, int] | None:
    """The proxy that the environment names for a host; never for this machine, as in Go."""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    if urllib.request.proxy_bypass_environment(f"{host}:{port}"):  # type: ignore[attr-defined]
        return None
    named = urllib.request.getproxies_environment().get(scheme, "")
    if not named:
        return None
    found = urllib.parse.urlsplit(named if "//" in named else f"http://{named}")
    return (found.hostname, found.port or 80) if found.hostname else None


def _login(parts: urllib.parse.SplitResult) -> str:
    if parts.username is None:
        return ""
    user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
    return base64.b64encode(f"{user}:{password}".encode()).decode()
