"""Build contexts: the tree of files that COPY and ADD read, received into a folder of the store.

A context is kept, packed or not, below a folder that belongs to builds alone, and unpacked with the
archive's owners, modes and times; nothing in it can reach outside.  It is removed when its build
ends, and at the start of a daemon that was killed meanwhile (`sweep`).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from netkit import threads
from netkit.patterns import Ignored, ignore_lines
from runtime import limits
from runtime.build.errors import BuildFailed, reason
from runtime.build.files import Files, FilesOnDisk
from runtime.build.packed import PackedFiles
from runtime.build.packing import receive_packed
from runtime.build.scope import outside, resolve
from runtime.build.unpack import unpack
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import Root
from runtime.tar.stream import Source
from runtime.undo import Undo

DOCKERFILE = "Dockerfile"
_IGNORE = ".dockerignore"
_TREE = "tree"


class BuildContext:
    """A context; a context manager that has its files removed, on a thread of its own.

    `files` is None for a build that has a Dockerfile and nothing else; COPY and ADD of files then
    fail.  `name` is the Dockerfile's, for errors.
    """

    def __init__(
        self,
        home: Path,
        files: Files | None,
        name: str,
        dockerfile: bytes,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._home = home
        self.files = files
        self.name = name
        self.dockerfile = dockerfile
        self._close = close
        self._closed = False

    @property
    def root(self) -> Root | None:
        """All files, unpacked."""
        return None if self.files is None else self.files.root("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._close()
        # Beside the answer: taking back the blocks of files that were never written takes as long
        # as writing them.  What a killed daemon leaves, `sweep` removes.
        threads.once("netkit-context", partial(remove_tree, self._home)).start()


def receive(tar: Source, folder: Path, *, dockerfile: str, packed: bool = True) -> BuildContext:
    """Take what a client sends: a tar, plain or compressed with gzip, bzip2, xz or zstd.

    `folder` holds contexts of all builds; `dockerfile` is the name in the archive.  The Dockerfile
    and .dockerignore are removed from the context if .dockerignore names them, as dockerd does.
    `packed`: files may be unpacked later, when they are needed.
    BuildFailed (no such Dockerfile, a bad archive, a full disk), InvalidSpec (what is beyond a
    bound), ConnectionError (the client has gone).
    """
    with Undo() as undo:
        home = new_home(folder)
        undo.push(remove_tree, home)
        (home / _TREE).mkdir(mode=0o755)
        if not packed:
            with Root(home / _TREE) as root:
                unpack(tar, root, home, whiteouts=False)
        elif (files := receive_packed(tar, home / _TREE, home)) is not None:
            undo.push(files.close)
            if (found := _opened_packed(home, files, dockerfile or DOCKERFILE)) is not None:
                return found
            files.root("/")
            files.close()
        return opened(home, dockerfile)


def opened(home: Path, dockerfile: str) -> BuildContext:
    """The context of the files at home/tree.  BuildFailed."""
    with Undo() as undo:
        root = Root(home / _TREE)
        undo.push(root.close)
        name, text = _dockerfile(root, dockerfile or DOCKERFILE)
        _remove_ignored(root, name)
        return BuildContext(home, FilesOnDisk(root), name, text, root.close)


def _opened_packed(home: Path, files: PackedFiles, dockerfile: str) -> BuildContext | None:
    """None if it takes files on a disk to say what the Dockerfile is, or why there is none."""
    name = next(filter(files.has, _tried(dockerfile)), "")
    text = files.read(name, limits.DOCKERFILE_BYTES)
    ignore = files.read(_IGNORE, limits.IGNORE_BYTES)
    if text is None or (ignore is None and files.has(_IGNORE)):
        return None
    if ignore is not None and (ignored := _ignored(ignore)) is not None:
        for path in filter(files.has, (_IGNORE, name)):
            if ignored.matches(path):
                files.forget(path)
    return BuildContext(home, files, name, text, files.close)


def alone(text: bytes, folder: Path) -> BuildContext:
    """The context of a Dockerfile that came without one."""
    return BuildContext(new_home(folder), None, DOCKERFILE, text)


def new_home(folder: Path) -> Path:
    """A fresh directory for one build; the caller removes it, or `sweep`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    home = folder / secrets.token_hex(8)
    home.mkdir(mode=0o700)
    return home


def _dockerfile(root: Root, name: str) -> tuple[str, bytes]:
    """(name, content) of the Dockerfile; dockerd takes "dockerfile" for "Dockerfile"."""
    for tried in _tried(name):
        with suppress(FileNotFoundError):
            return tried, _read(root, tried, limits.DOCKERFILE_BYTES, "Dockerfile")
    raise BuildFailed(f"Cannot locate specified Dockerfile: {name}")


def _tried(name: str) -> tuple[str, ...]:
    return (name, name.lower()) if name == DOCKERFILE else (name,)


def _read(root: Root, name: str, most: int, what: str) -> bytes:
    """Content of a file, links followed.  FileNotFoundError; BuildFailed."""
    if outside(name.lstrip("/")):
        raise BuildFailed(f"forbidden path outside the build context: {name} ()")
    try:
        path = resolve(root, name)
    except OSError as error:
        raise BuildFailed(f"forbidden path outside the build context: {name} ()") from error
    try:
        fd = root.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BuildFailed(f"unexpected error reading {what}: {reason(error)}") from error
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            folder = stat.S_ISDIR(st.st_mode)
            why = "is a directory" if folder else "not a regular file"
            raise BuildFailed(f"unexpected error reading {what}: read {name}: {why}")
        if st.st_size > most:
            raise BuildFailed(f"{name} is over {most} bytes: refused")
        return os.pread(fd, most, 0)
    finally:
        os.close(fd)


def _remove_ignored(root: Root, dockerfile: str) -> None:
    """Remove the two files that the client had to send, if .dockerignore names them."""
    try:
        ignored = _ignored(_read(root, _IGNORE, limits.IGNORE_BYTES, _IGNORE))
    except FileNotFoundError:
        return
    if ignored is None:
        return
    for name in (_IGNORE, dockerfile):
        path = name.strip("/")
        if ignored.matches(path):
            folder, last = root.parent(f"/{path}")
            try:
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(last, dir_fd=folder)
            finally:
                os.close(folder)


def _ignored(text: bytes) -> Ignored | None:
    """None for what has a bad pattern: dockerd removes nothing then."""
    try:
        return Ignored(ignore_lines(text.decode("utf-8", "surrogateescape")))
    except ValueError:
        return None
