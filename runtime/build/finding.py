"""Find what the words of COPY and ADD name in a context or an image."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from netkit.patterns import BadPattern, Glob
from runtime import limits
from runtime.build import digests
from runtime.build.errors import BuildFailed, Check, failed, reason, unchecked
from runtime.build.scope import outside, resolve
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.filetree.walk import Path, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A source: where it is below its root, links followed, and what it is called."""

    root: Root
    path: str  # absolute
    name: str  # of the last component as it was given: of a link, the link's
    digest: str
    is_folder: bool = False
    is_url: bool = False


def find(root: Root, source: str, *, in_context: bool, check: Check = unchecked) -> Iterator[Found]:
    """What one word names: a pattern several, sorted, or none.  BuildFailed in Docker's words."""
    path = source.removeprefix("/").removeprefix("./")
    if not _has_wildcards(path):
        yield _one(root, path, in_context, check)
        return
    try:
        glob = Glob(path)
    except BadPattern:
        return  # dockerd ignores the error, and the pattern
    for name in _matching(root, path, glob):
        yield _one(root, name, in_context, check)


def _has_wildcards(path: str) -> bool:
    at = 0
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] in "*?[":
            return True
        at += 1
    return False


def _one(root: Root, path: str, in_context: bool, check: Check) -> Found:
    if outside(path):
        raise _forbidden(path)
    clean = posixpath.normpath("/" + path)
    try:
        there = resolve(root, clean)
    except OSError as error:
        if error.errno in HOST_ERRORS:
            raise BuildFailed(f"stat {path}: {reason(error)}") from error
        raise _forbidden(path) from error
    name = posixpath.basename(clean)
    try:
        if there == "/":
            is_folder, digest = True, _tree(root, there, clean[1:], check)
        else:
            is_folder, digest = _looked(root, there, clean[1:], check)
    except FileNotFoundError:
        missing = f"stat {path}: file does not exist"
        if in_context:
            missing = f"file not found in build context or excluded by .dockerignore: {missing}"
        raise BuildFailed(missing) from None
    except OSError as error:
        raise failed("stat", path, error) from error
    return Found(root=root, path=there, name=name, digest=digest, is_folder=is_folder)


def _forbidden(path: str) -> BuildFailed:
    return BuildFailed(f"forbidden path outside the build context: {path} ()")


def _looked(root: Root, there: str, name: str, check: Check) -> tuple[bool, str]:
    """(is it a directory, its digest under `name`).  OSError."""
    folder, last = root.parent(there)
    try:
        st = os.stat(last, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            return True, _tree(root, there, name, check)
        return False, "file:" + digests.of_file(folder, last, name, check)
    finally:
        os.close(folder)


def _tree(root: Root, there: str, name: str, check: Check) -> str:
    top = root.open(there, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return "dir:" + digests.of_tree(top, name, check)
    finally:
        os.close(top)


def _matching(root: Root, pattern: str, glob: Glob) -> Iterator[str]:
    """Paths that match, in the order of a walk that follows no link."""
    if "[" not in pattern and "\\" not in pattern:
        return iter(_by_level(root, pattern.split("/")))
    return _walked(root, glob)  # a class may match a slash


def _by_level(root: Root, parts: list[str]) -> list[str]:
    """Read only the folders on the way: what matches has as many components as the pattern."""
    found = [""]
    for depth, part in enumerate(parts, 1):
        glob, last = Glob(part), depth == len(parts)
        found = [
            f"{folder}/{name}" if folder else name
            for folder in found
            for name in _names(root, folder, folders=not last)
            if glob.matches(name)
        ]
    return found


def _names(root: Root, folder: str, *, folders: bool) -> list[str]:
    """What is in a folder, sorted; of folders only what is no link to one."""
    top = root.open(f"/{folder}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(top) as entries:
            return sorted(e.name for e in entries if not folders or e.is_dir(follow_symlinks=False))
    finally:
        os.close(top)


def _walked(root: Root, glob: Glob) -> Iterator[str]:
    top = root.open("/", os.O_RDONLY | os.O_DIRECTORY)
    path = Path("", limits.PATH_BYTES)
    try:
        for entry in walk(top):
            if entry.leaving:
                path.up()
                continue
            name = path.of(entry.name)
            if entry.is_folder:
                path.down(entry.name)
            if glob.matches(name):
                yield name
    finally:
        os.close(top)
