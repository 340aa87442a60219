"""What registries answer instead of what was asked for, in Docker's words.  Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

from netkit.errors import InvalidSpec, NetkitError, NotFound
from runtime import untrusted

_TEXT = 1000  # characters of a registry's message that are shown


class Refused(NetkitError):
    """The registry refuses; `code` is its own, "" if it gave none."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, http: int, code: str = "", scope: bool = False) -> None:
        super().__init__(message)
        self.http, self.code = http, code
        self.scope = scope  # the token lacks it: whether the repository exists must not be revealed

    @property
    def retryable(self) -> bool:
        return self.http >= 500


class NoCredentials(Refused):
    """It wants a password, and there is none."""


class Denied(NotFound):
    pass


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    message: str


def refusal(http: int, body: bytes, *, scope: bool = False) -> Refused:
    """The error for an answer with this HTTP status: the registry's own message.

    `scope`: the challenge says error="insufficient_scope".
    """
    if scope:
        return Refused(
            "denied: requested access to the resource is denied", http=http, code="DENIED",
            scope=True,
        )  # fmt: skip
    found = [each for each in _errors(body) if _line(each)]
    if found:
        text = "; ".join(_line(each) for each in found[:5])
        return Refused(clean(text), http=http, code=found[0].code)
    if http == HTTPStatus.UNAUTHORIZED:
        return Refused("unauthorized: authentication required", http=http, code="UNAUTHORIZED")
    if not body.strip():
        return Refused(f"received unexpected HTTP status: {http} {phrase(http)}", http=http)
    text = json.dumps(clean(body.decode(errors="replace")))
    if 400 <= http < 500:
        return Refused(f"error parsing HTTP {http} response body: not JSON: {text}", http=http)
    return Refused(
        f"received unexpected HTTP status: {http} {phrase(http)}: {text}", http=http
    )  # fmt: skip


def _errors(body: bytes) -> list[_Error]:
    try:
        document = untrusted.decode(body, "answer")
    except InvalidSpec:
        return []
    if not isinstance(document, dict):
        return []
    entries = document.get("errors")
    found = [
        _Error(str(e.get("code") or ""), str(e.get("message") or ""))
        for e in (entries if isinstance(entries, list) else ())
        if isinstance(e, dict)
    ]
    for key in ("details", "message", "error_description", "error"):
        if not found and isinstance(document.get(key), str):  # token servers, hubs
            found = [_Error("", document[key])]
    return found


def _line(error: _Error) -> str:
    code = error.code.lower().replace("_", " ")
    return ": ".join(part for part in (code, error.message) if part)


def phrase(http: int) -> str:
    try:
        return HTTPStatus(http).phrase
    except ValueError:
        return ""


def clean(text: str) -> str:
    """One line of bounded length, without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text.strip())
    return shown if len(shown) <= _TEXT else f"{shown[:_TEXT]}..."


def of_pull(error: Refused, familiar: str, reference: str) -> NetkitError:
    """As dockerd's TranslatePullError: what is not there, or is denied, is a 404."""
    if error.code == "DENIED":
        return Denied(
            f"pull access denied for {familiar}, repository does not exist or may require "
            f"'docker login': {error}"
        )
    if error.code == "MANIFEST_UNKNOWN":
        return NotFound(f"manifest for {reference} not found: {error}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {familiar} not found: {error}")
    return error
