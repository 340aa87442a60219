"""Names of images: their parts, and the full form the API is asked with.  Pure."""

from __future__ import annotations

HUB = "docker.io"


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
