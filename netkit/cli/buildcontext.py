"""What a build is sent: a folder packed as .dockerignore says, standard input, or an address.

As docker's client 28 does it: owners become root's, times whole seconds, and a Dockerfile from
elsewhere joins the context under a name of its own.  Nothing is held in memory whole.
"""

from __future__ import annotations

import os
import secrets
import stat
import tarfile
import time
from dataclasses import dataclass

from netkit.cli.cptar import BLOCK, RECORD, entry
from netkit.client.failure import Failure
from netkit.patterns import Ignored, ignore_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOCKERFILE, IGNORE = "Dockerfile", ".dockerignore"
LARGEST = 4 << 20  # bytes of a Dockerfile that is read here: the daemon's own bound
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_GIT = ("git://", "github.com/", "git@")


@dataclass(frozen=True, slots=True)
class Context:
    """`dockerfile` is its name in the context; `remote` is fetched by the daemon instead."""

    dockerfile: str
    body: Iterator[bytes] | None = None
    remote: str = ""


def prepare(source: str, file: str) -> Context:
    """The context that PATH, URL or "-" names.  Failure before anything is sent."""
    if source == "-" and file == "-":
        raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
    try:
        if source == "-":
            return _standard_input(file)
        if os.path.exists(source):
            return _folder(source, file)
        if source.startswith(("http://", "https://", *_GIT)):
            if file == "-":
                raise Failure("a Dockerfile from stdin needs a folder as its context")
            return Context(file, remote=source)
    except OSError as error:
        raise Failure(f"unable to prepare context: {_told(error)}") from None
    raise Failure(f'unable to prepare context: path "{source}" not found')


# standard input


def _standard_input(file: str) -> Context:
    head = b""
    while len(head) < 2 * RECORD and (more := os.read(0, 2 * RECORD - len(head))):
        head += more
    if _is_archive(head):
        return Context(file, _rest(head))
    if file:
        raise Failure(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag "
            "correspond to Dockerfiles"
        )
    text = b"".join(_bounded(_rest(head)))
    return Context(DOCKERFILE, _joined(_member(DOCKERFILE, text, 0o644), _end()))


def _is_archive(head: bytes) -> bool:
    if head.startswith(_PACKED):
        return True
    try:
        tarfile.TarInfo.frombuf(head[:RECORD], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _rest(head: bytes) -> Iterator[bytes]:
    yield head
    while data := os.read(0, BLOCK):
        yield data


def _bounded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    got = 0
    for data in blocks:
        got += len(data)
        if got > LARGEST:
            raise Failure(f"unable to prepare context: the Dockerfile is over {LARGEST} bytes")
        yield data


# a folder


def _folder(source: str, file: str) -> Context:
    root = os.path.realpath(source)
    if not os.path.isdir(root):
        raise Failure(f"unable to prepare context: context must be a directory: {root}")
    name = _name(root, file)
    outside = name == ".." or name.startswith("../")
    given: bytes | None = None
    if file == "-":
        given = b"".join(_bounded(_rest(b"")))
    elif outside:
        given = _read(file)
    ignored = _ignored(root, "" if file == "-" else name)
    try:
        _check(root, ignored)
    except OSError as error:
        raise Failure(f"error checking context: {_told(error)}") from None
    if given is None:
        return Context(name, _joined(_packed(root, ignored, {}), _end()))
    name = f".dockerfile.{secrets.token_hex(10)}"
    hidden = _with_line(root, name)
    more = [_member(name, given, 0o600)]
    if not os.path.lexists(os.path.join(root, IGNORE)):
        more.append(_member(IGNORE, hidden, 0o600))
    return Context(name, _joined(_packed(root, ignored, {IGNORE: hidden}), *more, _end()))


def _name(root: str, file: str) -> str:
    """Path of the Dockerfile relative to the context, links followed; "../" if it is outside."""
    if file == "-":
        return DOCKERFILE
    path = os.path.abspath(file) if file else os.path.join(root, DOCKERFILE)
    lower = os.path.join(root, DOCKERFILE.lower())
    if not file and not os.path.lexists(path) and os.path.lexists(lower):
        path = lower
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        raise Failure(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {error.filename}: {_reason(error)}"
        ) from None
    return os.path.relpath(real, root)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Failure(f"unable to open Dockerfile: open {path}: {_reason(error)}") from None
    if len(data) > LARGEST:
        raise Failure(f"unable to prepare context: the Dockerfile is over {LARGEST} bytes")
    return data


def _with_line(root: str, name: str) -> bytes:
    """The .dockerignore with one more line, so that COPY does not see the Dockerfile."""
    path = os.path.join(root, IGNORE)
    text = _read(path) if os.path.exists(path) else IGNORE.encode()
    return text + f"\n{name}\n".encode()


def _ignored(root: str, dockerfile: str) -> Ignored:
    """The patterns, and that the two files the daemon needs are sent in any case."""
    path = os.path.join(root, IGNORE)
    lines: list[str] = []
    try:
        if os.path.exists(path):
            lines = ignore_lines(_read(path).decode("utf-8", "surrogateescape"))
        ignored = Ignored(lines)
        for name in (IGNORE, dockerfile):
            if name and ignored.matches(os.path.normpath(name)):
                lines.append(f"!{name}")
                ignored = Ignored(lines)
    except ValueError as error:
        raise Failure(f"error checking context: {error}") from None
    return ignored


def _check(root: str, ignored: Ignored) -> None:
    """Failure for what cannot be read: later, half of the context would have been sent."""
    for path, _, found in _walk(root, ignored):
        if stat.S_ISREG(found.st_mode) and not os.access(path, os.R_OK):
            raise Failure(f"error checking context: no permission to read from '{path}'")


def _packed(root: str, ignored: Ignored, instead: Mapping[str, bytes]) -> Iterator[bytes]:
    links: dict[tuple[int, int], str] = {}
    for path, name, found in _walk(root, ignored):
        if name in instead:
            yield from _member(name, instead[name], stat.S_IMODE(found.st_mode))
        elif not stat.S_ISSOCK(found.st_mode):
            yield from entry(path, name, found, links, plain=True)


def _walk(root: str, ignored: Ignored) -> Iterator[tuple[str, str, os.stat_result]]:
    """(path, name in the context, what it is) of all that is sent, a folder before its content."""
    stack = [iter(_listed(root, "", ()))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, name, above = found
        left_out, matches = ignored.look(name, above)
        st = os.lstat(path)
        is_folder = stat.S_ISDIR(st.st_mode)
        if not left_out:
            yield path, name, st
        if is_folder and (not left_out or ignored.may_keep_below(name)):
            stack.append(iter(_listed(path, name, matches)))


def _listed(
    folder: str, name: str, matches: list[bool] | tuple[()]
) -> Iterator[tuple[str, str, list[bool] | tuple[()]]]:
    prefix = f"{name}/" if name else ""
    for each in sorted(os.listdir(folder), key=os.fsencode):
        yield f"{folder}/{each}", prefix + each, matches


# pieces of an archive


def _member(name: str, text: bytes, mode: int) -> Iterator[bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.mtime = len(text), mode, int(time.time())
    yield made.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    yield text + bytes(-len(text) % RECORD)


def _end() -> Iterator[bytes]:
    yield bytes(2 * RECORD)


def _joined(*parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from part


def compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for block in blocks:
        if data := packer.compress(block):
            yield data
    yield packer.flush()


def counted(blocks: Iterator[bytes], report: Callable[[int, bool], None]) -> Iterator[bytes]:
    """The same, with `report(bytes so far, at the end)` after each piece."""
    sent = 0
    for block in blocks:
        yield block
        sent += len(block)
        report(sent, False)
    report(sent, True)


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _told(error: OSError) -> str:
    return f"open {error.filename}: {_reason(error)}"
