"""Parse image names that clients send in `repo` and `tag`.  Pure."""

from __future__ import annotations

from netkit.errors import InvalidSpec
from runtime.images.reference import TAG, parse

_DEFAULT_REGISTRIES = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")


def familiar(name: str) -> str:
    """Convert to familiar form: docker.io/library/busybox is busybox."""
    for registry in _DEFAULT_REGISTRIES:
        if name.startswith(registry):
            return name.removeprefix(registry).removeprefix("library/")
    return name


def repo_and_tag(repo: str, tag: str) -> tuple[str, str]:
    """A familiar name and a tag, "latest" if none is given; the name may carry its tag.

    InvalidSpec for a digest, which cannot be a name.
    """
    name = parse(repo)
    if name.digest or ":" in tag:
        raise InvalidSpec("refusing to create a tag with a digest reference")
    if tag and not TAG.fullmatch(tag):
        raise InvalidSpec("invalid tag format")
    return name.repository, tag or name.tag or "latest"
