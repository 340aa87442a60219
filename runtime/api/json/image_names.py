"""Parse image names that clients send in `repo` and `tag`.  Pure."""

from __future__ import annotations

from netkit.errors import InvalidSpec

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
    if "@" in repo or ":" in tag:
        raise InvalidSpec(f"refusing to create a tag with a digest reference: {repo} {tag}".strip())
    head, slash, last = repo.rpartition("/")
    name, colon, carried = last.partition(":")
    if not name or (colon and not carried):
        raise InvalidSpec(f"invalid reference format: {repo!r}")
    return familiar(f"{head}{slash}{name}"), tag or carried or "latest"
