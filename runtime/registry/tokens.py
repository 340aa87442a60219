"""Tokens for registries that challenge with Bearer.

https://distribution.github.io/distribution/spec/auth/token/ and oauth/
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from netkit.errors import Forbidden, InvalidSpec
from runtime import limits, untrusted
from runtime.images.pulling import Login
from runtime.registry import failures
from runtime.registry.challenges import Challenge
from runtime.registry.connection import Origin
from runtime.registry.exchange import Exchange, Request

CLIENT = "netkit"
_SECONDS = 60  # a token lives that long if its server does not say


@dataclass(frozen=True, slots=True)
class Token:
    text: str = field(repr=False)
    since: float  # monotonic
    until: float
    identity: str = field(default="", repr=False)


class _Document(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None
    refresh_token: str | None = None


def fetch(
    exchange: Exchange, registry: Origin, challenge: Challenge, scopes: tuple[str, ...],
    login: Login | None, *, offline: bool = False,
) -> Token:  # fmt: skip
    """Ask the realm that a registry names.  Refused with the token server's message.

    Forbidden if credentials would go to another host unencrypted; the address is checked as that
    of a redirect is.
    """
    realm = challenge.parameters.get("realm", "")
    if not realm:
        raise InvalidSpec("the registry wants a token, and names no realm to get it from")
    there = Origin.of(realm)
    if registry.scheme == "https" and there.scheme != "https":
        raise Forbidden(f"the realm {realm[:200]!r} is not encrypted, and the registry is: refused")
    credentials = login is not None and bool(login.username or login.identity_token)
    if credentials and there.host != registry.host and there.scheme != "https":
        raise Forbidden(
            f"the password would go to {there.host} unencrypted, as the registry demands: refused"
        )
    request = _request(realm, challenge, scopes, login, offline=offline)
    answer = exchange.send(request, lambda o: _basic(login) if o == there else "")
    body = answer.document(limits.REGISTRY_TOKEN_BYTES)
    if answer.status != 200:
        raise failures.refusal(answer.status, body)
    return _token(body)


def _basic(login: Login | None) -> str:
    if login is None or not login.username or login.identity_token:
        return ""
    pair = f"{login.username}:{login.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _request(
    realm: str, challenge: Challenge, scopes: tuple[str, ...], login: Login | None, *, offline: bool
) -> Request:
    service = challenge.parameters.get("service", "")
    what = "the realm for tokens"
    if login is not None and login.identity_token:
        form = {
            "grant_type": "refresh_token", "refresh_token": login.identity_token,
            "service": service, "client_id": CLIENT, "scope": " ".join(scopes),
        }  # fmt: skip
        return Request(
            method="POST", url=realm, body=urlencode(form).encode(), what=what,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
    query = [("scope", scope) for scope in scopes]
    if service:
        query.append(("service", service))
    if login is not None and login.username:
        query.append(("account", login.username))
    if offline:
        query += [("offline_token", "true"), ("client_id", CLIENT)]
    at = urlsplit(realm)
    text = urlencode([*parse_qsl(at.query), *query], quote_via=quote, safe=":/,")
    return Request(method="GET", url=urlunsplit(at._replace(query=text, fragment="")), what=what)


def _token(body: bytes) -> Token:
    try:
        found = msgspec.convert(untrusted.decode(body, "the token server's answer"), _Document)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"the token server's answer is malformed: {error}") from error
    text = found.token or found.access_token or ""
    if not text or not all(33 <= ord(c) < 127 for c in text):
        raise InvalidSpec("the token server's answer has no token that can be sent")
    now = time.monotonic()
    seconds = min(max(found.expires_in or _SECONDS, _SECONDS), 3600)
    return Token(text, now, now + seconds * 0.9, found.refresh_token or "")
