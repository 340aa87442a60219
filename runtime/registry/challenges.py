"""WWW-Authenticate headers (RFC 9110 section 11.6.1).  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"\s*(?:,\s*)*({_TOKEN})(?:[ \t]+|\s*$)")
_PARAMETER = re.compile(
    rf'\s*(?:,\s*)*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?=,|$)'
)
_BYTES = 8192  # of one header: more is no challenge


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str  # lower case
    parameters: Mapping[str, str] = field(default_factory=dict)  # names in lower case


def parse(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all headers; what cannot be read ends a header."""
    found: list[Challenge] = []
    for header in headers:
        at, text = 0, header[:_BYTES]
        while at < len(text) and (scheme := _SCHEME.match(text, at)):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while part := _PARAMETER.match(text, at):
                at = part.end()
                quoted = re.sub(r"\\(.)", r"\1", part[2]) if part[2] is not None else part[3]
                parameters.setdefault(part[1].lower(), quoted)
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


def of(scheme: str, challenges: Iterable[Challenge]) -> Challenge | None:
    return next((c for c in challenges if c.scheme == scheme), None)
