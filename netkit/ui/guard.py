"""Who may have the page: decided by a request's head alone.  Pure.

The page can do what its user can, which is to be root.  So each request has to bring the token, by
the link that the command printed or by the cookie that this link sets; and has to come from our own
page.  A cookie has no port: every server of 127.0.0.1 is sent those of another.  So it has a path,
below which all of ours is, and which no other server has.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from netkit.errors import Forbidden, NetkitError

COOKIE = "netkit_ui"
NAMES = ("127.0.0.1", "localhost")
_READING = ("GET", "HEAD")


class Unauthorized(NetkitError):
    status = 401


class Head(NamedTuple):
    """What is decided by; names of `headers` in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    cookie: str = ""
    token: str = ""  # of the query


@dataclass(frozen=True, kw_only=True)
class Guard:
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    base: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}/")

    @property
    def url(self) -> str:
        return f"http://{NAMES[0]}:{self.port}{self.base}?token={self.token}"

    def check(self, head: Head) -> bool:
        """Is it the link, so that the cookie is to be set?  Forbidden and Unauthorized."""
        host = head.headers.get("host", "")
        if host not in {f"{name}:{self.port}" for name in NAMES}:
            raise Forbidden(f"Host {host[:100]!r} is not this page's: use the link printed")
        site = head.headers.get("sec-fetch-site", "none")
        linked = head.method == "GET" and head.path == self.base and bool(head.token)
        if site not in {"none", "same-origin"} and not linked:
            raise Forbidden("requests of other pages are refused")
        origin = head.headers.get("origin", "")
        ours = f"http://{host}"
        if origin != ours and (origin or head.method not in _READING):
            raise Forbidden(f"requests of pages of {origin[:100] or 'no origin'} are refused")
        given = head.token if linked else head.cookie
        if not (head.path.startswith(self.base) and self._is_token(given)):
            raise Unauthorized("open the link that `netkit ui` printed: it has a token")
        return linked

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())
