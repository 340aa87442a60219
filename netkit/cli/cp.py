"""cp: files from and to a container."""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import stat
import sys

from netkit.cli import human
from netkit.cli.commands import command, complain, exactly
from netkit.cli.flags import Options, switch
from netkit.client.failure import Failure, Refused
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from netkit.cli.session import Session
    from netkit.client.engine import Json
    from netkit.client.http import Response

# Bits of a mode in the API: Go's os.FileMode.
GO_DIR, GO_SYMLINK = 1 << 31, 1 << 27
GO_ODD = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21  # device, pipe, socket, character device


class Place(Value):
    """One end of the copy, as it is found; `path` keeps a trailing "/" or "/."."""

    __slots__ = ("exists", "is_dir", "path")

    def __init__(self, path: str, exists: bool, is_dir: bool) -> None:
        self.path: Final = path
        self.exists: Final = exists
        self.is_dir: Final = is_dir

    @property
    def wants_dir(self) -> bool:
        return self.path.endswith(("/", "/."))

    @property
    def split(self) -> tuple[str, str]:
        """Folder and name; the name of "a/." is "."."""
        if self.path.endswith("/.") or self.path == ".":
            return posixpath.normpath(self.path), "."
        plain = posixpath.normpath(self.path)
        return posixpath.dirname(plain) or ".", posixpath.basename(plain) or "."


@command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH", exactly(2),
    switch("archive", "Archive mode (copy all uid/gid information)", short="a"),
    switch("follow-link", "Always follow symbol link in SRC_PATH", short="L"),
    switch("quiet", "Suppress progress output during copy. Progress output is automatically"
           " suppressed if no terminal is attached", short="q"),
)  # fmt: skip
def cp(session: Session, options: Options) -> None:
    source, target = options.args
    if not source or not target:
        raise Failure(f"{'destination' if source else 'source'} can not be empty")
    from_container, inside = _argument(source)
    to_container, outside = _argument(target)
    if from_container and to_container:
        raise Failure("copying between containers is not supported")
    if not from_container and not to_container:
        raise Failure("must specify at least one container source")
    if from_container:
        size, shown = _out(session, options, from_container, inside, outside), outside
    else:
        size, shown = _into(session, options, inside, to_container, outside), target
    quiet = options.flag("quiet") if "quiet" in options.given else not sys.stdout.isatty()
    if not quiet and shown != "-":
        complain(f"Successfully copied {human.size(size)} to {shown}")


def _argument(text: str) -> tuple[str, str]:
    """Container and path; a path of this machine that has a ":" starts with "/" or "."."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


def plan(source: Place, target: Place) -> tuple[str, str, str]:
    """Where to unpack, and which name of the archive becomes which.  Failure if it cannot be."""
    folder, name = target.split
    source_name = source.split[1]
    if target.exists and target.is_dir:
        return target.path, source_name, source_name
    if target.exists and source.is_dir:
        raise Failure("cannot copy directory")
    if target.exists and target.wants_dir:
        raise Failure(f"not a directory: {target.path}")
    if not target.exists and not source.is_dir and target.wants_dir:
        raise Failure(f"no such directory: {target.path}")
    if name == ".":  # "dir/." that does not exist: its parent holds it
        folder, name = posixpath.split(folder)
    return folder or ".", source_name, name


# out of a container


def _out(session: Session, options: Options, container: str, path: str, target: str) -> int:
    rename = ""
    if options.flag("follow-link"):
        path, rename = _followed(session, container, path)
    answer = session.engine.stream("GET", f"/containers/{container}/archive", {"path": path})
    if target == "-":
        for block in answer.chunks():
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return 0
    from netkit.cli.untar import unpack

    found = _stat_header(answer)
    source = Place(path, True, bool(found["mode"] & GO_DIR))
    folder, old, new = plan(source, _local(target))
    if rename and new == old:
        new = rename
    if not os.path.isdir(folder):
        raise Failure(f'invalid output path: directory "{folder}" does not exist')
    return unpack(io.BufferedReader(_Reader(answer)), folder, old, new)


def _followed(session: Session, container: str, path: str) -> tuple[str, str]:
    """The target of a link, and the link's name, which the copy keeps."""
    found = _stat(session, container, path)
    if not found or not found["mode"] & GO_SYMLINK:
        return path, ""
    there = posixpath.join(posixpath.dirname(path.rstrip("/")), found["linkTarget"])
    name = "" if path.endswith(("/", "/.")) else posixpath.basename(path)
    return there, name


def _local(path: str) -> Place:
    """A target on this machine; links are followed, as the user named them."""
    full = os.path.abspath(path)
    if path.endswith("/.") or path == ".":
        full += "/."
    elif path.endswith("/"):
        full += "/"
    if os.path.islink(full) and not os.path.exists(full):
        full = os.path.realpath(full)
    try:
        mode = os.stat(full).st_mode
    except OSError:
        return Place(full, os.path.lexists(full.rstrip("/.") or "/"), False)
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise Failure(f'destination "{path}" must be a directory or a regular file')
    return Place(full, True, stat.S_ISDIR(mode))


def _stat_header(answer: Response) -> Json:
    encoded = answer.headers.get("x-docker-container-path-stat", "")
    try:
        found: Json = json.loads(base64.b64decode(encoded))
    except ValueError:
        raise Failure("the daemon's answer does not describe the path") from None
    return found


def _stat(session: Session, container: str, path: str) -> Json | None:
    try:
        answer = session.engine.stream("HEAD", f"/containers/{container}/archive", {"path": path})
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return _stat_header(answer)


class _Reader(io.RawIOBase):
    """The body of an answer as a file."""

    def __init__(self, answer: Response) -> None:
        self.chunks, self.rest = answer.chunks(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]  # any writable buffer
        while not self.rest:
            block = next(self.chunks, None)
            if block is None:
                return 0
            self.rest = block
        size = min(len(view), len(self.rest))
        view[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


# into a container


def _into(session: Session, options: Options, path: str, container: str, target: str) -> int:
    there = _target(session, container, target)
    counted = [0]
    if path == "-":
        if not there.is_dir:
            raise Failure(f'destination "{container}:{target}" must be a directory')
        folder, data = there.path, _blocks()
    else:
        from netkit.cli.cptar import pack

        source, real = _source(path, options.flag("follow-link"))
        folder, _, name = plan(source, there)
        data = pack(real, name)
        counted[0] = _size(real)
    query = {
        "path": folder, "noOverwriteDirNonDir": "true",
        "copyUIDGID": "true" if options.flag("archive") else "",
    }  # fmt: skip
    session.engine.stream("PUT", f"/containers/{container}/archive", query, data).read()
    return counted[0]


def _blocks() -> Iterator[bytes]:
    while block := os.read(0, 1 << 18):
        yield block


def _target(session: Session, container: str, path: str) -> Place:
    """The target in the container; one link is followed."""
    found = _stat(session, container, path)
    if found and found["mode"] & GO_SYMLINK:
        path = posixpath.join(posixpath.dirname(path.rstrip("/")), found["linkTarget"])
        found = _stat(session, container, path)
    if found is None:
        session.engine.get(f"/containers/{container}/json")  # no such container, or no such path
        return Place(path, False, False)
    if found["mode"] & GO_ODD:
        raise Failure(f'destination "{container}:{path}" must be a directory or a regular file')
    return Place(path, True, bool(found["mode"] & GO_DIR))


def _source(path: str, follow: bool) -> tuple[Place, str]:
    """What to copy, under the name it was given by, and its real path."""
    bare = path.rstrip("/") or "/"
    real = os.path.realpath(path) if follow or path.endswith(("/", "/.")) else os.path.abspath(bare)
    try:
        mode = os.lstat(real).st_mode
    except OSError as error:
        raise Failure(f"lstat {path}: {(error.strerror or '').lower()}") from None
    if path.endswith(("/", "/.")) and not stat.S_ISDIR(mode):
        raise Failure(f"not a directory: {path}")
    shown = os.path.abspath(bare) + ("/." if path.endswith("/.") or path == "." else "")
    return Place(shown, True, stat.S_ISDIR(mode)), real


def _size(path: str) -> int:
    if os.path.isfile(path) and not os.path.islink(path):
        return os.lstat(path).st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            found = os.lstat(os.path.join(folder, name))
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
