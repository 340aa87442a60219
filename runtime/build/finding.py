"""Find what the words of COPY and ADD name in a context or an image."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from netkit.patterns import BadPattern, Glob
from runtime.build.errors import BuildFailed, failed, reason
from runtime.build.files import Files
from runtime.build.scope import outside, resolved
from runtime.cancellation import Check, unchecked
from runtime.filetree.scoped_root import HOST_ERRORS, Root


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A source: where it is below its root, links followed, and what it is called."""

    files: Files
    path: str  # absolute
    name: str  # of the last component as it was given: of a link, the link's
    digest: str
    is_folder: bool = False
    is_url: bool = False

    @property
    def root(self) -> Root:
        return self.files.root(self.path)


def find(
    files: Files, source: str, *, in_context: bool, check: Check = unchecked
) -> Iterator[Found]:
    """What one word names: a pattern several, sorted, or none.  BuildFailed in Docker's words."""
    path = source.removeprefix("/").removeprefix("./")
    if not _has_wildcards(path):
        yield _one(files, path, in_context, check)
        return
    try:
        glob = Glob(path)
    except BadPattern:
        return  # dockerd ignores the error, and the pattern
    for name in _matching(files, path, glob):
        yield _one(files, name, in_context, check)


def _has_wildcards(path: str) -> bool:
    at = 0
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] in "*?[":
            return True
        at += 1
    return False


def _one(files: Files, path: str, in_context: bool, check: Check) -> Found:
    if outside(path):
        raise _forbidden(path)
    clean = posixpath.normpath("/" + path)
    try:
        there = resolved(files.target, clean)
    except OSError as error:
        if error.errno in HOST_ERRORS:
            raise BuildFailed(f"stat {path}: {reason(error)}") from error
        raise _forbidden(path) from error
    name = posixpath.basename(clean)
    try:
        is_folder, digest = files.digest(there, clean[1:], check)
    except FileNotFoundError:
        missing = f"stat {path}: file does not exist"
        if in_context:
            missing = f"file not found in build context or excluded by .dockerignore: {missing}"
        raise BuildFailed(missing) from None
    except OSError as error:
        raise failed("stat", path, error) from error
    return Found(files=files, path=there, name=name, digest=digest, is_folder=is_folder)


def _forbidden(path: str) -> BuildFailed:
    return BuildFailed(f"forbidden path outside the build context: {path} ()")


def _matching(files: Files, pattern: str, glob: Glob) -> Iterator[str]:
    """Paths that match, in the order of a walk that follows no link."""
    if "[" not in pattern and "\\" not in pattern:
        return iter(_by_level(files, pattern.split("/")))
    return (name for name in files.walked() if glob.matches(name))  # a class may match a slash


def _by_level(files: Files, parts: list[str]) -> list[str]:
    """Read only the folders on the way: what matches has as many components as the pattern."""
    found = [""]
    for depth, part in enumerate(parts, 1):
        glob, last = Glob(part), depth == len(parts)
        found = [
            f"{folder}/{name}" if folder else name
            for folder in found
            for name in files.names(f"/{folder}", folders=not last)
            if glob.matches(name)
        ]
    return found
