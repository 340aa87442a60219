"""URLs that a build is given, and what is said of those that cannot be fetched."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.parse

from runtime.build.errors import reason

_SHOWN = 200  # characters of an answer that is none
_LOGIN = re.compile("//[^/]*@")


class Unusable(ValueError):
    """Why an address cannot be asked; other ValueErrors have Python's text."""


def checked(url: str) -> urllib.parse.SplitResult:
    """Unusable, or another ValueError, for what cannot be asked."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise Unusable(f'unsupported protocol scheme "{parts.scheme}"')
    if not parts.hostname:
        raise Unusable("http: no Host in request URL")
    try:
        parts.port  # noqa: B018  it is parsed when it is asked for
    except ValueError:
        text = parts.netloc.rpartition(":")[2]
        raise Unusable(f"dial tcp: address {text}: invalid port") from None
    return parts


def shown(url: str) -> str:
    """The URL without its password, as Go shows it."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return _LOGIN.sub("//***@", url)
    if parts.password is None:
        return url
    user, _, place = parts.netloc.rpartition("@")
    return url.replace(parts.netloc, f"{user.partition(':')[0]}:***@{place}", 1)


def told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server takes too long"
    if isinstance(error, ssl.SSLError):
        if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "tls: first record does not look like a TLS handshake"
        return f"tls: {getattr(error, 'verify_message', '') or error.reason or error}"
    if isinstance(error, http.client.IncompleteRead):
        return "unexpected EOF"
    if isinstance(error, http.client.RemoteDisconnected):
        return "EOF"
    if isinstance(error, OSError):
        return reason(error) if error.errno else "the connection failed"
    if isinstance(error, http.client.HTTPException):
        return f"malformed HTTP response: {str(error).strip()[:_SHOWN]}"
    if isinstance(error, Unusable):
        return str(error)
    return "invalid host name" if isinstance(error, UnicodeError) else "invalid URL"
