"""Names of images: their parts, and the full form the API is asked with.  Pure."""

from __future__ import annotations

import re

from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HUB = "docker.io"
INVALID = "invalid reference format"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = f"{_PART}(?:/{_PART})*"
_LABEL = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_TAG = r"(?a:\w[\w.-]{0,127})"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_ID = r"[0-9a-f]{64}"


class Reference(Value):
    """A name's parts; `tag` and `digest` may be empty."""

    __slots__ = ("digest", "repository", "tag")

    def __init__(self, repository: str, tag: str, digest: str) -> None:
        self.repository: Final = repository
        self.tag: Final = tag
        self.digest: Final = digest


def parsed(text: str) -> Reference:
    """The parts of a name that docker's client takes.  ValueError in its words."""
    rest, at, digest = text.partition("@")
    repository, tag = split_tag(rest)
    host, _, path = full_name(repository).partition("/")
    if re.fullmatch(_ID, text):
        raise ValueError(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    if path.lower() != path:
        raise ValueError(f"{INVALID}: repository name ({path}) must be lowercase")
    wrong_tag = rest != repository and not re.fullmatch(_TAG, tag)
    wrong_digest = at and not re.fullmatch(_DIGEST, digest)
    wrong_name = not re.fullmatch(_HOST, host) or not re.fullmatch(_PATH, path)
    if wrong_name or wrong_tag or wrong_digest:
        raise ValueError(INVALID)
    return Reference(repository, tag, digest)


def is_id(text: str) -> bool:
    """Whether it is an image's whole id, which no repository's name may be."""
    return bool(re.fullmatch(_ID, text.removeprefix("sha256:")))


def split_tag(reference: str) -> tuple[str, str]:
    """ "host:5000/a/b:c" as ("host:5000/a/b", "c"); no tag is ""."""
    head, slash, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


def full_name(repository: str) -> str:
    """ "busybox" as "docker.io/library/busybox"; a first part with "." or ":" is a registry."""
    first, slash, rest = repository.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        if first in (HUB, f"index.{HUB}"):
            return f"{HUB}/{rest if '/' in rest else f'library/{rest}'}"
        return repository
    return f"{HUB}/{repository if slash else f'library/{repository}'}"


def with_tag(reference: str) -> str:
    """ "busybox" as "busybox:latest"; one with a tag or a digest stays."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"
