"""Parse image references: "busybox", "host:5000/a/b:tag", "x@sha256:...".  Pure.

Grammar: https://github.com/distribution/reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from netkit.errors import InvalidSpec

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_LONGEST = 255  # of a whole repository name, "docker.io/library/" included
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_BAD = "invalid reference format"  # Docker says no more: clients and scripts know it
DEFAULT_DOMAIN, OFFICIAL = "docker.io", "library"


@dataclass(frozen=True, slots=True)
class Reference:
    """`repository` is in familiar form; a digest takes precedence over a tag."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Familiar: "busybox:latest" or "busybox@sha256:..."."""
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag or 'latest'}"


def parse(text: str) -> Reference:
    """Parse a reference.  InvalidSpec "invalid reference format"."""
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise InvalidSpec(_BAD)
    domain, path = _split(rest)
    tag = ""
    if ":" in path:
        path, _, tag = path.partition(":")
        if not TAG.fullmatch(tag):
            raise InvalidSpec(_BAD)
    if not path:
        raise InvalidSpec(_BAD)
    if path.lower() != path:
        raise InvalidSpec(f"{_BAD}: repository name must be lowercase")
    if not _PATH.fullmatch(path) or (domain and not _DOMAIN.fullmatch(domain)):
        raise InvalidSpec(_BAD)
    if not domain and _HEX64.fullmatch(path):
        raise InvalidSpec(
            f"invalid repository name ({path}), cannot specify 64-byte hexadecimal strings"
        )
    if len(_canonical(domain, path)) > _LONGEST:
        raise InvalidSpec(f"repository name must not be more than {_LONGEST} characters")
    return Reference(f"{domain}/{path}" if domain else path, tag, digest)


def _canonical(domain: str, path: str) -> str:
    if domain:
        return f"{domain}/{path}"
    return f"{DEFAULT_DOMAIN}/{path if '/' in path else f'{OFFICIAL}/{path}'}"


def _split(text: str) -> tuple[str, str]:
    """(domain without the default one, path) of a name."""
    first, slash, rest = text.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost"
    if not slash or not is_domain:
        domain, path = "", text
    else:
        domain, path = first, rest
    if domain in {DEFAULT_DOMAIN, "index.docker.io"}:
        domain = ""
    if not domain and path.startswith(f"{OFFICIAL}/"):
        path = path.removeprefix(f"{OFFICIAL}/")
    return domain, path
