"""One operation's talk with one endpoint: ping, log in as it demands, ask."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterable, Mapping
from urllib.parse import urljoin

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.cancellation import Cancel
from runtime.images.pulling import Login
from runtime.registry import challenges, failures, tokens
from runtime.registry.challenges import Challenge
from runtime.registry.connection import Origin
from runtime.registry.endpoints import Endpoint
from runtime.registry.exchange import Answer, Body, Exchange, Request
from runtime.registry.settings import RegistrySettings
from runtime.registry.tokens import Token

_FRESH = 30  # seconds a token is used without doubt: a 401 before that is an answer


class Session:
    """Thread-safe.  A context manager: closes its connections."""

    def __init__(
        self, endpoint: Endpoint, settings: RegistrySettings, login: Login | None, cancel: Cancel
    ) -> None:
        self.endpoint = endpoint
        self.cancel = cancel
        self._login = login
        self._exchange = Exchange(settings, cancel, verify=endpoint.verify)
        self._origin = Origin.of(endpoint.url(""))
        self._challenges: list[Challenge] = []
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, ...], Token] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._exchange.close()

    def ping(self) -> Answer:
        """GET /v2/: how to log in.  Dropped if nothing answers."""
        mirror = self.endpoint.mirror
        request = Request(
            method="GET", url=self.endpoint.url(""),
            connect_seconds=limits.REGISTRY_MIRROR_SECONDS / 2 if mirror else 0,
            seconds=limits.REGISTRY_MIRROR_SECONDS / 2 if mirror else 0,
        )  # fmt: skip
        answer = self._exchange.send(request)
        if answer.status == 401:
            self._challenges = challenges.parse(answer.headers.get_all("WWW-Authenticate") or ())
        return answer

    def ask(
        self, method: str, path: str, *, scopes: Iterable[str] = (),
        headers: Mapping[str, str] | None = None, body: Body = None, seconds: float = 0,
    ) -> Answer:  # fmt: skip
        """A request below /v2/, or to a full URL that the registry gave.

        `scopes`: "repository:NAME:pull,push" of the token that is needed.
        """
        url = path if "://" in path else self.endpoint.url(path)
        if self.endpoint.mirror and not seconds and "/manifests/" in path:
            seconds = limits.REGISTRY_MIRROR_SECONDS
        request = Request(
            method=method, url=url, headers=headers or {}, body=body, seconds=seconds
        )  # fmt: skip
        wanted = tuple(scopes)
        answer = self._exchange.send(request, lambda o: self._authorization(o, wanted, request))
        again = body is None or isinstance(body, bytes)
        if answer.status == 401 and again and self._expired(wanted):
            answer.close()
            return self._exchange.send(request, lambda o: self._authorization(o, wanted, request))
        return answer

    def refused(self, answer: Answer) -> failures.Refused:
        """The error for an answer that is none of those expected; ends it."""
        found = challenges.parse(answer.headers.get_all("WWW-Authenticate") or ())
        bearer = challenges.of("bearer", found)
        lacking = bearer is not None and bearer.parameters.get("error") == "insufficient_scope"
        body = answer.excerpt(1 << 16)
        return failures.refusal(answer.status, body, scope=lacking and answer.status == 401)

    def at(self, answer: Answer) -> str:
        """The Location of an upload; the registry's own host keeps our scheme.  InvalidSpec."""
        place = answer.headers.get("Location")
        if not place:
            raise InvalidSpec(f"{answer.request.shown}: the registry gives no Location")
        url = urljoin(answer.url, place)
        there = Origin.of(url)
        if there.scheme != self._origin.scheme:
            if there.host != self._origin.host or self._origin.scheme == "http":
                raise InvalidSpec(
                    f"{answer.request.shown}: the upload is to go on over {there.scheme}: refused"
                )
            return f"{self._origin.scheme}://{url.partition('://')[2]}"
        return url

    # credentials

    def _authorization(self, origin: Origin, scopes: tuple[str, ...], request: Request) -> str:
        """For the registry's own origin only: nothing goes to where it redirects."""
        if origin != self._origin:
            return ""
        if self._login is not None and self._login.registry_token:
            return f"Bearer {self._login.registry_token}"
        bearer = challenges.of("bearer", self._challenges)
        if bearer is not None:
            return f"Bearer {self._token(bearer, scopes).text}"
        if challenges.of("basic", self._challenges) is not None:
            if self._login is None or not self._login.username:
                raise failures.NoCredentials(
                    f"{request.shown}: no basic auth credentials", http=401, code="UNAUTHORIZED"
                )
            return basic(self._login)
        return ""

    def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> Token:
        with self._lock:
            token = self._tokens.get(scopes)
            if token is None or time.monotonic() > token.until:
                token = self._tokens[scopes] = tokens.fetch(
                    self._exchange, self._origin, challenge, scopes, self._login
                )
            return token

    def _expired(self, scopes: tuple[str, ...]) -> bool:
        """Forget a token that has served for a while: a new one may be accepted."""
        with self._lock:
            token = self._tokens.get(scopes)
            if token is None or time.monotonic() - token.since < _FRESH:
                return False
            del self._tokens[scopes]
            return True

    @property
    def challenged(self) -> str:
        """How the registry wants a login: "bearer", "basic" or ""."""
        for scheme in ("bearer", "basic"):
            if challenges.of(scheme, self._challenges) is not None:
                return scheme
        return ""

    def identity(self) -> str:
        """Log in at the token server; the identity token it gives, or ""."""
        bearer = challenges.of("bearer", self._challenges)
        assert bearer is not None
        token = tokens.fetch(self._exchange, self._origin, bearer, (), self._login, offline=True)
        return token.identity


def basic(login: Login) -> str:
    pair = f"{login.username}:{login.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
