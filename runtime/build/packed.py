"""A context that stays the archive it came as: digests are known, files are written when needed.

A step that is in the cache needs digests alone, and creating thousands of files to compute them
takes most of the time of such a build.  Only plain trees are kept so (`PackedIndex` says which):
directories, regular files and links whose paths lead over no link, each once.  What is below a path
is written before anyone reads it, with the archive's owners, modes and times.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime import limits
from runtime.build import digests
from runtime.build.errors import UNPACKING, failed
from runtime.build.files import FilesOnDisk
from runtime.cancellation import Check
from runtime.filetree.scoped_root import Root

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PackedFile:
    """A directory, regular file or link in an archive."""

    __slots__ = ("digest", "gid", "link", "mode", "mtime_ns", "offset", "size", "uid", "written")

    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        self.mode, self.uid, self.gid = mode, uid, gid
        self.mtime_ns = mtime_ns  # -1: of a directory that the archive does not have itself
        self.size = self.offset = 0  # of the content in the archive
        self.link = ""
        self.digest = b""  # of all but directories
        self.written = False

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


def _by_component(path: str) -> str:
    """NUL is in no name, and before all letters: what is in a directory comes right after it."""
    return path.replace("/", "\0")


class PackedFiles:
    """Implements Files.  Thread-safe.

    `files`: by path, without the slash at its beginning; "" is the directory of all.  `tree` is
    that directory, still empty.
    """

    def __init__(self, files: dict[str, PackedFile], archive: BinaryIO, tree: Path) -> None:
        self._files, self._archive = files, archive
        self._order: list[str] = []
        self._root = Root(tree)
        self._lock = threading.Lock()
        files[""].written = True

    def close(self) -> None:
        self._root.close()
        self._archive.close()

    # looking

    def has(self, path: str) -> bool:
        return path in self._files

    def read(self, path: str, most: int) -> bytes | None:
        """Content of a regular file of at most `most` bytes; None for what is none."""
        found = self._files.get(path)
        if found is None or not stat.S_ISREG(found.mode) or found.size > most:
            return None
        return os.pread(self._archive.fileno(), found.size, found.offset)

    def forget(self, path: str) -> None:
        """Leave a file out.  Before anything is written."""
        del self._files[path]

    def target(self, path: str) -> str | None:
        raw = os.fsencode(path)
        if len(raw) >= limits.PATH_BYTES or len(raw) - raw.rfind(b"/") > limits.NAME_BYTES + 1:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        above = self._files.get(path.rpartition("/")[0][1:])
        if above is not None and not above.is_folder:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        found = self._files.get(path[1:])
        return None if found is None else found.link

    def names(self, folder: str, *, folders: bool) -> list[str]:
        start = len(folder.rstrip("/"))
        return [
            path[start:]
            for path in self._below(folder[1:])
            if "/" not in path[start:] and (not folders or self._files[path].is_folder)
        ]

    def walked(self) -> Iterator[str]:
        return self._below("")

    def _below(self, folder: str) -> Iterator[str]:
        """Paths in the order of a walk."""
        if not self._order:
            self._order = sorted(filter(None, self._files), key=_by_component)
        inside = f"{folder}/" if folder else ""
        return (path for path in self._order if path.startswith(inside))

    def digest(self, path: str, name: str, check: Check) -> tuple[bool, str]:
        """As that of the files on a disk, which need not be there."""
        found = self._files.get(path[1:])
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if path[1:] != name:  # digested under the name of a link
            return FilesOnDisk(self.root(path)).digest(path, name, check)
        if not found.is_folder:
            return False, "file:" + found.digest.hex()
        below = ((each, self._files[each]) for each in self._below(name))
        return True, "dir:" + digests.of_digests(
            digests.head(name, found.mode, found.uid, found.gid),
            (
                digests.of_head(digests.head(each, file.mode, file.uid, file.gid))
                if file.is_folder
                else file.digest
                for each, file in below
            ),
        )

    # writing

    def root(self, path: str) -> Root:
        with self._lock:
            self._write(path.strip("/"))
        return self._root

    def _write(self, top: str) -> None:
        above = [top[:at] for at, letter in enumerate(top) if letter == "/"]
        found = [top] if top in self._files else []
        wanted = [*above, *found, *self._below(top)]
        changed: set[str] = set()  # directories
        folder, fd = "", os.open(".", _FOLDER, dir_fd=self._root.fd)
        try:
            for path in wanted:
                file = self._files[path]
                if file.written:
                    continue
                into, _, name = path.rpartition("/")
                if into != folder:
                    os.close(fd)
                    folder, fd = into, -1
                    fd = self._root.open(into, os.O_RDONLY | os.O_DIRECTORY)
                self._make(fd, name, path, file)
                changed |= {into, path} if file.is_folder else {into}
        finally:
            if fd >= 0:
                os.close(fd)
        self._set_times(changed)

    def _make(self, above: int, name: str, path: str, file: PackedFile) -> None:
        try:
            if file.is_folder:
                os.mkdir(name, 0o700, dir_fd=above)
                fd = os.open(name, _FOLDER, dir_fd=above)
                try:
                    self._dress(fd, file)
                finally:
                    os.close(fd)
            elif stat.S_ISLNK(file.mode):
                os.symlink(file.link, name, dir_fd=above)
                os.chown(name, file.uid, file.gid, dir_fd=above, follow_symlinks=False)
                times = (file.mtime_ns, file.mtime_ns)
                os.utime(name, ns=times, dir_fd=above, follow_symlinks=False)
            else:
                self._copy(above, name, file)
        except OSError as error:
            raise failed(f"{UNPACKING}write", f"/{path}", error) from error
        file.written = True

    def _copy(self, above: int, name: str, file: PackedFile) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=above)
        try:
            at, end = file.offset, file.offset + file.size
            while at < end:
                at += os.sendfile(fd, self._archive.fileno(), at, end - at)
            self._dress(fd, file)
            os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))
        except OSError:
            os.unlink(name, dir_fd=above)
            raise
        finally:
            os.close(fd)

    @staticmethod
    def _dress(fd: int, file: PackedFile) -> None:
        os.fchown(fd, file.uid, file.gid)
        os.fchmod(fd, stat.S_IMODE(file.mode))

    def _set_times(self, folders: Collection[str]) -> None:
        """Last, since creating a file in a directory changes them."""
        for path in folders:
            ns = self._files[path].mtime_ns
            if ns < 0:
                continue
            fd = self._root.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.utime(fd, ns=(ns, ns))
            finally:
                os.close(fd)
