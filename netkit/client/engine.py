"""The daemon as commands see it: calls, answers, errors.  One HEAD /_ping, then versioned paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from netkit.client import http
from netkit.client.failure import Failure, Refused, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from netkit.client.endpoint import Endpoint

    Query = Mapping[str, object]
    Json = dict[str, Any]

NEWEST = (1, 51)
OLDEST = (1, 24)
_NAMED = {"containers": "container", "networks": "network", "volumes": "volume", "exec": "exec"}
_WANTS_TLS = "Client sent an HTTP request to an HTTPS server"  # Go's words


class Engine:
    """Connections are kept for the next call; safe to use from several threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[http.Wire] = []
        self._version = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")
        self.builder = ""

    @property
    def version(self) -> str:
        """The API version spoken: the older one of ours and the daemon's."""
        if not self._version:
            answer = self._exchange("HEAD", "/_ping", {}, None)
            self._version = _negotiated(answer.headers.get("api-version", "1.24"))
        return self._version

    def negotiate(self) -> None:
        """Settle the version now.  Unreachable when there is no daemon."""
        assert self.version

    def at_least(self, version: tuple[int, int]) -> bool:
        return _numbers(self.version) >= version

    def stream(
        self, method: str, path: str, query: Query | None = None, body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.Response:  # fmt: skip
        """The answer, its body unread.  Refused for an error status.

        `body` is sent as JSON unless it is bytes or an iterator of bytes.
        """
        _named(path)
        target = f"/v{self.version}{http.quote(path)}{http.query(query or {})}"
        answer = self._exchange(method, target, headers or {}, body)
        if answer.status >= 400:
            reason = _reason(answer)
            hint = "; use --tlsverify" if reason.rstrip(".") == _WANTS_TLS else ""
            refused = Refused(answer.status, reason.rstrip(".") + hint if hint else reason)
            self._done(answer)
            raise refused
        return answer

    def call(self, method: str, path: str, query: Query | None = None, body: object = None) -> Any:
        """The JSON of the answer; None when it has none."""
        answer = self.stream(method, path, query, body)
        data = answer.read()
        self._done(answer)
        try:
            return json.loads(data) if data.strip() else None
        except ValueError:
            raise Failure(f"{method} {path}: the answer is no JSON: {data[:80]!r}") from None

    def get(self, path: str, query: Query | None = None) -> Any:
        return self.call("GET", path, query)

    def post(self, path: str, query: Query | None = None, body: object = None) -> Any:
        return self.call("POST", path, query, body)

    def delete(self, path: str, query: Query | None = None) -> Any:
        return self.call("DELETE", path, query)

    def objects(self, answer: http.Response) -> Iterator[Json]:
        """JSON objects of a stream as they come."""
        decoder, rest = json.JSONDecoder(), ""
        for line in answer.lines():
            rest += line.decode()
            while rest:
                try:
                    found, end = decoder.raw_decode(rest)
                except ValueError:
                    break  # goes on in the next line
                yield found
                rest = rest[end:].lstrip()

    def hijack(self, path: str, query: Query | None = None, body: object = None) -> Hijacked:
        """A connection turned into the raw streams of a process."""
        _named(path)
        target = f"/v{self.version}{http.quote(path)}{http.query(query or {})}"
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        answer = self._exchange("POST", target, headers, body)
        if answer.status >= 400:
            raise Refused(answer.status, _reason(answer))
        kind = answer.headers.get("content-type", "")
        if answer.status != 101 and "raw-stream" not in kind and "multiplexed" not in kind:
            raise Failure(f"{self.endpoint.text} did not open a stream: HTTP {answer.status}")
        return Hijacked(answer.wire, kind)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: object
    ) -> http.Response:
        encoded, kind = _encoded(body)
        head = {"Host": "api.netkit.localhost", "User-Agent": "netkit", **kind, **headers}
        for attempt in (1, 2):
            kept = self._idle.pop() if self._idle else None
            wire = kept or http.Wire(self.endpoint.connect())
            try:
                http.send(wire, method, target, head, encoded)
                answer = http.Response(wire, method)
            except OSError as error:
                wire.close()
                # A kept connection may have been closed meanwhile by the daemon.
                if kept and attempt == 1 and (encoded is None or isinstance(encoded, bytes)):
                    self.close()
                    continue
                # A daemon with TLS hangs up on who does not begin with it.
                plain = self.endpoint.host and self.endpoint.tls is None
                hint = "; if it wants TLS, use --tlsverify" if plain and attempt == 1 else ""
                raise Unreachable(
                    f"the daemon at {self.endpoint.text} broke off: {error}{hint}"
                ) from error
            self._give_back(answer)
            return answer
        raise AssertionError("the second attempt returns or raises")

    def _done(self, answer: http.Response) -> None:
        """Read to its end: its connection serves again, or is closed."""
        self._give_back(answer)
        if not answer.reusable:
            answer.wire.close()

    def _give_back(self, answer: http.Response) -> None:
        if answer.reusable and answer.wire not in self._idle:
            self._idle.append(answer.wire)


class Hijacked:
    """The two-way stream after the upgrade; `multiplexed` when it has frames."""

    def __init__(self, wire: http.Wire, kind: str) -> None:
        self.wire, self.kind = wire, kind


def _named(path: str) -> None:
    """Failure if a name in a path is empty: that would be another path, of all of them, say."""
    kind, *names = path[1:].split("/")
    if names == ["", "json"] and kind == "images":
        raise Failure("Error: No such image: ")
    if kind in _NAMED and not all(name.strip() for name in names):
        raise Failure(f"invalid {_NAMED[kind]} name or ID: value is empty")


def _encoded(body: object) -> tuple[http.Body, dict[str, str]]:
    if body is None:
        return None, {}
    if isinstance(body, bytes):
        return body, {}
    if isinstance(body, Iterator):
        return body, {"Content-Type": "application/x-tar"}
    return json.dumps(body).encode(), {"Content-Type": "application/json"}


def _reason(answer: http.Response) -> str:
    data = answer.read()
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip() or f"HTTP {answer.status} {answer.reason}"


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise Failure(f"the daemon's API version {version!r} is not of the form 1.51") from None


def _negotiated(offered: str) -> str:
    numbers = _numbers(offered)
    if numbers < OLDEST:
        raise Failure(f"the daemon speaks API {offered}; netkit needs 1.24 or newer")
    return ".".join(map(str, min(numbers, NEWEST)))
