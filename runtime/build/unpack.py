"""Unpack a build context, or an archive that ADD found, below a folder and nowhere else.

As dockerd does, which changes its root to that folder first: ".." and absolute names end in it,
links in the way of a name are followed inside it, and a member replaces what has its name, but
that a folder keeps its content.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netkit.errors import InvalidSpec, NotSupported
from runtime import limits
from runtime.build.errors import UNPACKING, BadArchive, BuildFailed, failed
from runtime.build.whiteouts import hide, is_whiteout
from runtime.filetree.remove import remove_entry
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.tar import header as tar
from runtime.tar.attributes import FolderTimes, dress
from runtime.tar.compression import Unpacked
from runtime.tar.header import Member
from runtime.tar.members import fill_whole
from runtime.tar.stream import Source, Tar

_FOLDER = os.O_PATH | os.O_DIRECTORY
BEHIND = 1 << 20  # bytes after the archive's end that are read, so that the sender can end
_GO = {
    "not a valid tar archive: it is cut short": "unexpected EOF",
    "the compressed archive is cut short": "unexpected EOF",
}


def unpack(source: Source, root: Root, aside: Path, *, whiteouts: bool) -> None:
    """Unpack an archive, plain or compressed, below `root`.

    `aside` is a directory for a temporary file.  `whiteouts`: files named .wh.NAME delete NAME.
    BadArchive and BuildFailed in Docker's words; InvalidSpec for what is beyond a bound;
    ConnectionError.
    """
    with in_go(), Unpacked(source, hashed=False) as stream:
        unpack_tar(stream, root, aside, whiteouts=whiteouts)
        stream.read(BEHIND)


def unpack_tar(stream: Source, root: Root, aside: Path, *, whiteouts: bool) -> None:
    """Unpack an archive that is not compressed; InvalidSpec for what is none."""
    with FolderTimes(aside) as times:
        tree = _Tree(root, times, whiteouts)
        try:
            for member in (archive := Tar(stream)):
                tree.add(archive, member)
        finally:
            tree.close()
        times.apply(root)


@contextmanager
def in_go() -> Iterator[None]:
    """Raise what the archive is refused for in Docker's words."""
    try:
        yield
    except (InvalidSpec, NotSupported) as error:
        raise _in_go(error) from error


def _in_go(error: InvalidSpec | NotSupported) -> Exception:
    text = str(error)
    if text in _GO:
        return BadArchive(_GO[text])
    if text.startswith("not a valid tar archive"):
        return BadArchive("archive/tar: invalid tar header")
    return error


class _Tree:
    def __init__(self, root: Root, times: FolderTimes, whiteouts: bool) -> None:
        self._root = root
        self._times = times
        self._whiteouts = whiteouts
        self._above = -1  # the folder of the last member: mostly the next one's, too
        self._above_path = ""
        self._moved = False  # something was replaced: the path may lead elsewhere now

    def close(self) -> None:
        if self._above >= 0:
            os.close(self._above)
        self._above = -1

    def add(self, archive: Tar, m: Member) -> None:
        path = clean(m.name)
        if not path:
            return
        folder, _, name = path.rpartition("/")
        operation = _OPERATIONS.get(m.kind, "")
        try:
            above = self._folder(folder)
            if self._whiteouts and is_whiteout(name):
                self._moved = True
                hide(above, name)
                return
            self._clear(above, name, m)
            self._make(archive, m, above, name)
            if m.kind not in {tar.REGULAR, tar.HARDLINK}:  # of the latter it is the target's
                dress(above, name, m)
            if m.kind == tar.DIRECTORY:
                self._times.remember(path, m.mtime_ns)
        except OSError as error:
            raise _failed(operation, path, m, error) from error

    def _folder(self, path: str) -> int:
        if self._above >= 0 and path == self._above_path and not self._moved:
            return self._above
        self.close()
        self._above, self._above_path, self._moved = self._opened(path), path, False
        return self._above

    def _opened(self, path: str) -> int:
        """The folder; it and those above are made if they do not exist.  OSError."""
        try:
            return self._root.open(path or "/", _FOLDER)
        except FileNotFoundError as missing:
            try:
                return self._root.open_folder(path)
            except OSError as error:
                if error.errno in HOST_ERRORS:
                    raise
                raise missing from error  # a link to nothing is in the way

    def _clear(self, above: int, name: str, m: Member) -> None:
        try:
            st = os.stat(name, dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not (stat.S_ISDIR(st.st_mode) and m.kind == tar.DIRECTORY):
            self._moved = True
            remove_entry(above, name)

    def _make(self, archive: Tar, m: Member, above: int, name: str) -> None:
        if m.kind == tar.REGULAR:
            fill_whole(above, name, archive, m)
        elif m.kind == tar.DIRECTORY:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=above)
        elif m.kind == tar.SYMLINK:
            os.symlink(m.link, name, dir_fd=above)
        elif m.kind == tar.HARDLINK:
            self._link(m, above, name)
        elif m.kind == tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=above)
        elif m.kind in {tar.CHARACTER, tar.DEVICE}:
            if self._whiteouts and m.kind == tar.CHARACTER and m.device == (0, 0):
                raise PermissionError(errno.EPERM, "overlayfs's own whiteout")
            kind = stat.S_IFCHR if m.kind == tar.CHARACTER else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*m.device), dir_fd=above)
        else:
            raise BuildFailed(f"{UNPACKING}unhandled tar header type {m.kind[0]}")

    def _link(self, m: Member, above: int, name: str) -> None:
        there, last = self._root.parent(f"/{clean(m.link)}")
        try:
            os.link(last, name, src_dir_fd=there, dst_dir_fd=above, follow_symlinks=False)
        finally:
            os.close(there)


_OPERATIONS = {tar.REGULAR: "open", tar.DIRECTORY: "mkdir"}


def _failed(operation: str, path: str, m: Member, error: OSError) -> Exception:
    if error.errno in HOST_ERRORS:
        return failed(f"{UNPACKING}write", f"/{path}", error)
    if m.kind == tar.HARDLINK:
        return failed(f"{UNPACKING}link", f"/{clean(m.link)} /{path}", error)
    if m.kind == tar.SYMLINK:
        return failed(f"{UNPACKING}symlink", f"{m.link} /{path}", error)
    return failed(UNPACKING + operation, f"/{path}" if operation else "", error)


def clean(name: str) -> str:
    """The member's path below the folder, "" for the folder itself."""
    path = posixpath.normpath("/" + name).lstrip("/")
    if len(os.fsencode(path)) >= limits.PATH_BYTES:
        raise InvalidSpec(f"a path in the archive is too long: {path[:60]!r}...")
    return path
