"""One HTTP request and its answer, with redirects: what is sent where is decided here."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urljoin, urlsplit

import netkit
from netkit.errors import Forbidden, InvalidSpec
from runtime import limits
from runtime.cancellation import Cancel, Cancelled
from runtime.registry import addresses
from runtime.registry.connection import Connection, Origin, tls
from runtime.registry.guard import Dropped, TooMuch
from runtime.registry.settings import RegistrySettings

_REDIRECTS = {301, 302, 303, 307, 308}
_IDLE = 8  # connections kept for the next request
Body = bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None  # an iterable is sent in chunks, unless there is a Content-Length
    connect_seconds: float = 0  # 0: the usual bound
    seconds: float = 0  # until the answer's head has come, from the end of the body
    what: str = "the registry"  # in errors of redirects

    @property
    def shown(self) -> str:
        """Get "URL", as Go begins its errors; without the query, which may be secret."""
        return f'{self.method.capitalize()} "{self.url.partition("?")[0]}"'


class Answer:
    """Status and headers; the body is read once, then the connection serves again."""

    def __init__(
        self, request: Request, connection: Connection, response: http.client.HTTPResponse,
        give_back: Callable[[Connection], None],
    ) -> None:  # fmt: skip
        self.request, self.url = request, request.url
        self.status, self.headers = response.status, response.headers
        self._connection, self._response, self._give_back = connection, response, give_back

    @property
    def length(self) -> int | None:
        """Content-Length, if there is a valid one."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None

    def document(self, most: int = 0) -> bytes:
        """The whole body, `most` bytes of it.  Dropped, TooMuch."""
        most = most or limits.DOCUMENT_BYTES
        if (self.length or 0) > most and self.request.method != "HEAD":
            self.close()
            raise TooMuch(f"{self.request.shown}: the answer is over {most} bytes long")
        until = time.monotonic() + limits.REGISTRY_DOCUMENT_SECONDS
        self._connection.guard.within(until, 2 * most + (1 << 20))
        data = b""
        while len(data) <= most and (piece := self._read(most + 1 - len(data))):
            data += piece
        if len(data) > most:
            self.close()
            raise TooMuch(f"{self.request.shown}: the answer is over {most} bytes long")
        if self.length is not None and len(data) < self.length and self.request.method != "HEAD":
            self.close()
            raise Dropped(f"{self.request.shown}: unexpected EOF")
        self._finished()
        return data

    def excerpt(self, most: int) -> bytes:
        """The beginning of a body, of which no more is wanted."""
        self._connection.guard.within(
            time.monotonic() + limits.REGISTRY_ANSWER_SECONDS, most + (1 << 20)
        )
        data = b""
        while len(data) < most and (piece := self._read(most - len(data))):
            data += piece
        self._finished()
        return data

    def begin(self, most: int) -> None:
        """A long body of `most` bytes follows: `read` it."""
        self._connection.guard.paced(2 * most + (1 << 20))

    def read(self, size: int) -> bytes:
        """Some bytes of a long body; b"" at its end or where it was cut."""
        data = self._read(size)
        if not data:
            self._finished()
        return data

    def _read(self, size: int) -> bytes:
        with _translated(self.request):
            return self._response.read(size)

    def _finished(self) -> None:
        if self._response.isclosed() and not self._response.will_close:
            self._give_back(self._connection)
        else:
            self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class _translated:
    """Turns what http.client and sockets raise into Dropped, with the request before it."""

    def __init__(self, request: Request) -> None:
        self._shown = request.shown

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Cancelled) or error is None:
            return
        if isinstance(error, (Dropped, TooMuch, Forbidden)):
            raise type(error)(f"{self._shown}: {error}") from error
        if isinstance(error, http.client.RemoteDisconnected):
            raise Dropped(f"{self._shown}: EOF") from error
        if isinstance(error, (http.client.HTTPException, ValueError)):
            raise Dropped(f"{self._shown}: not HTTP: {str(error)[:200]!r}") from error
        if isinstance(error, ssl.SSLError):
            raise Dropped(f"{self._shown}: tls: {error.reason or error}") from error
        if isinstance(error, OSError):
            raise Dropped(f"{self._shown}: {(error.strerror or str(error)).lower()}") from error


class Exchange:
    """Sends requests for one operation; thread-safe.

    `registry` is the address that the registry was first reached at: where it sends us is checked
    against it.
    """

    def __init__(self, settings: RegistrySettings, cancel: Cancel, *, verify: bool) -> None:
        self.cancel = cancel
        self.registry = ""
        self._settings, self._verify = settings, verify
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._contexts: dict[Origin, ssl.SSLContext] = {}
        self._home: Origin | None = None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(
        self, request: Request, authorize: Callable[[Origin], str] = lambda origin: ""
    ) -> Answer:
        """Send it, and follow redirects of GET and HEAD.

        `authorize` gives the Authorization header for an origin, "" for none.
        """
        for _ in range(limits.REGISTRY_REDIRECTS + 1):
            answer = self._sent(request, authorize(Origin.of(request.url)))
            place = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or request.method not in {"GET", "HEAD"}:
                return answer
            answer.close()
            if not place:
                raise InvalidSpec(f"{request.shown}: a redirect without a Location")
            request = _redirected(request, place)
        raise InvalidSpec(
            f"{request.shown}: more than {limits.REGISTRY_REDIRECTS} redirects: given up"
        )

    def _sent(self, request: Request, authorization: str) -> Answer:
        origin = Origin.of(request.url)
        kept = self._take(origin)
        if kept is not None:
            try:
                return self._once(request, kept, authorization)
            except Dropped:
                if request.body is not None and not isinstance(request.body, bytes):
                    raise
        return self._once(request, self._fresh(request, origin), authorization)

    def _once(self, request: Request, connection: Connection, authorization: str) -> Answer:
        try:
            with _translated(request):
                response = self._exchanged(request, connection, authorization)
        except BaseException:
            connection.close()
            raise
        return Answer(request, connection, response, self._keep)

    def _exchanged(
        self, request: Request, connection: Connection, authorization: str
    ) -> http.client.HTTPResponse:
        if connection.sock is None:
            connection.connect()
            if self._home is None or self._home == connection.origin:
                self._home, self.registry = connection.origin, connection.peer
        headers = {"User-Agent": f"netkit/{netkit.__version__}", **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        chunked = request.body is not None and not isinstance(request.body, bytes)
        if chunked and "Content-Length" not in headers:
            headers["Transfer-Encoding"] = "chunked"
        at = urlsplit(request.url)
        target = f"{at.path or '/'}{f'?{at.query}' if at.query else ''}"
        connection.guard.paced(limits.REGISTRY_HEAD_BYTES)
        early: OSError | None = None
        try:
            connection.request(
                request.method, target, request.body, headers,
                encode_chunked="Transfer-Encoding" in headers,
            )  # fmt: skip
        except (BrokenPipeError, ConnectionResetError) as error:
            if isinstance(error, Cancelled):
                raise
            early = error  # it answered before the end of the body: the answer says why
        seconds = request.seconds or limits.REGISTRY_ANSWER_SECONDS
        connection.guard.within(time.monotonic() + seconds, limits.REGISTRY_HEAD_BYTES)
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise early or error from None

    def _fresh(self, request: Request, origin: Origin) -> Connection:
        seconds = request.connect_seconds or limits.REGISTRY_CONNECT_SECONDS
        context = self._context(origin) if origin.scheme == "https" else None
        allowed = partial(self._allowed, origin, request.what)
        return Connection(origin, context, self.cancel, seconds, allowed)

    def _allowed(self, origin: Origin, what: str, address: str) -> None:
        if self._home is not None and origin != self._home:
            addresses.check(self.registry, address, f"{what} ({origin.host}:{origin.port})")

    def _context(self, origin: Origin) -> ssl.SSLContext:
        with self._lock:
            if origin not in self._contexts:
                verify = self._verify or (self._home is not None and origin != self._home)
                self._contexts[origin] = tls(
                    self._settings.certificates, origin.host, origin.port, verify=verify
                )
            return self._contexts[origin]

    def _take(self, origin: Origin) -> Connection | None:
        with self._lock:
            for connection in reversed(self._idle):
                if connection.origin == origin:
                    self._idle.remove(connection)
                    return connection
        return None

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE and not self.cancel.is_set:
                self._idle.append(connection)
                return
        connection.close()


def _redirected(request: Request, place: str) -> Request:
    url = urljoin(request.url, place)
    before, after = Origin.of(request.url), Origin.of(url)
    if before.scheme == "https" and after.scheme == "http":
        raise Forbidden(f"{request.shown}: redirected from https to http: refused")
    return Request(
        method=request.method, url=url, headers=request.headers,
        connect_seconds=request.connect_seconds, seconds=request.seconds,
        what=f"a redirect of {request.what}",
    )  # fmt: skip
