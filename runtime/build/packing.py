"""Receive a context: keep it packed if its tree is a plain one, else unpack it."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from runtime import limits
from runtime.build import digests
from runtime.build.errors import UNPACKING, failed
from runtime.build.packed import PackedFile, PackedFiles
from runtime.build.unpack import BEHIND, clean, in_go, unpack_tar
from runtime.filetree.scoped_root import Root
from runtime.tar import header as tar
from runtime.tar.compression import Unpacked
from runtime.tar.header import Member
from runtime.tar.stream import Source, Tar

_BLOCK = 1 << 18


def receive_packed(source: Source, tree: Path, aside: Path) -> PackedFiles | None:
    """Receive an archive; None: it has what is not kept packed, and was unpacked below `tree`.

    `aside` is a directory for temporary files.  Errors as `unpack` has them.
    """
    spool = tempfile.TemporaryFile(dir=aside, buffering=0)  # noqa: SIM115  PackedFiles closes it
    try:
        with in_go(), Unpacked(source, hashed=False) as stream:
            kept = _Kept(stream, spool)
            files = _indexed(kept, tree)
            if files is None:
                with Root(tree) as root:
                    unpack_tar(kept.again(), root, aside, whiteouts=False)
            stream.read(BEHIND)
        if files is not None:
            return PackedFiles(files, spool, tree)
    except BaseException:
        spool.close()
        raise
    spool.close()
    return None


def _indexed(kept: _Kept, tree: Path) -> dict[str, PackedFile] | None:
    index = PackedIndex(os.stat(tree).st_mode)
    for member in (archive := Tar(kept)):
        if not index.add(archive, member, kept):
            return None
    return index.files


class _Kept:
    """What comes of an archive, kept in a file as it is read; `again` from the beginning."""

    def __init__(self, stream: Source, spool: BinaryIO) -> None:
        self._stream, self._spool = stream, spool
        self._block, self._at = b"", 0
        self._end = 0  # bytes in the file

    @property
    def offset(self) -> int:
        """Of the next byte in the archive."""
        return self._end - len(self._block) + self._at

    def read(self, size: int = -1, /) -> bytes:
        if self._at == len(self._block):
            self._fill()
        end = len(self._block) if size < 0 else self._at + size
        data = self._block[self._at : end]
        self._at += len(data)
        return data

    def _fill(self) -> None:
        self._block, self._at = self._stream.read(_BLOCK), 0
        try:
            rest = memoryview(self._block)
            while rest:
                rest = rest[self._spool.write(rest) :]
        except OSError as error:
            raise failed(f"{UNPACKING}write", "/", error) from error
        self._end += len(self._block)

    def again(self) -> _Replayed:
        self._spool.seek(0)
        return _Replayed(self._spool, self._stream)


class _Replayed:
    """A file, and then the rest of the stream that it is the beginning of."""

    def __init__(self, file: BinaryIO, stream: Source) -> None:
        self._file, self._stream = file, stream

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size) or self._stream.read(size)


class PackedIndex:
    """Members of an archive by path, as they come: a tree as unpacking them would make it."""

    def __init__(self, mode: int) -> None:
        """`mode` of the directory of all, and of those that the archive does not have itself."""
        self.files = {"": PackedFile(mode, 0, 0, -1)}
        self._bytes = 0  # of paths and targets of links

    def add(self, archive: Tar, m: Member, kept: _Kept) -> bool:
        """False for what is not kept packed; then nothing of its content has been read.

        That is what has a name twice, but directories; what is no file, directory or link; what
        leads over a link or through a file; extended attributes, sparse files, and names that a
        file system would refuse; and what is beyond limits.BUILD_PACKED_FILES and _BYTES.
        """
        path = clean(m.name)
        if not path:
            return True
        if m.xattrs or not self._fits(path) or not self._has_room(path, m):
            return False
        known = self.files.get(path)
        if m.kind == tar.DIRECTORY:
            if known is not None and not known.is_folder:
                return False
            self.files[path] = PackedFile(stat.S_IFDIR | m.mode, m.uid, m.gid, m.mtime_ns)
            return True
        if known is not None:
            return False
        if m.kind == tar.SYMLINK:
            return self._link(path, m)
        if m.kind != tar.REGULAR or m.regions != ((0, m.size),):
            return False
        self._file(path, archive, m, kept)
        return True

    def _fits(self, path: str) -> bool:
        """Whether the path is one of a plain tree; its directories are made."""
        if len(os.fsencode(posixpath.basename(path))) > limits.NAME_BYTES:
            return False
        folder = path.rpartition("/")[0]
        while (found := self.files.get(folder)) is None:
            if len(os.fsencode(posixpath.basename(folder))) > limits.NAME_BYTES:
                return False
            self.files[folder] = PackedFile(self.files[""].mode, 0, 0, -1)
            self._bytes += len(folder)
            folder = folder.rpartition("/")[0]
        return found.is_folder

    def _has_room(self, path: str, m: Member) -> bool:
        self._bytes += len(path) + len(m.link)
        return (
            len(self.files) < limits.BUILD_PACKED_FILES and self._bytes < limits.BUILD_PACKED_BYTES
        )

    def _link(self, path: str, m: Member) -> bool:
        if not 0 < len(os.fsencode(m.link)) < limits.PATH_BYTES:
            return False
        file = PackedFile(stat.S_IFLNK | 0o777, m.uid, m.gid, m.mtime_ns)
        file.link = m.link
        file.digest = digests.of_head(digests.head(path, file.mode, m.uid, m.gid, link=m.link))
        self.files[path] = file
        return True

    def _file(self, path: str, archive: Tar, m: Member, kept: _Kept) -> None:
        file = PackedFile(stat.S_IFREG | m.mode, m.uid, m.gid, m.mtime_ns)
        file.size, file.offset = m.size, kept.offset
        digest = hashlib.sha256(digests.head(path, file.mode, m.uid, m.gid, m.size))
        if m.size:
            digest.update(digests.extent(0, m.size))
            for _, data in archive.pieces():
                digest.update(data)
        file.digest = digest.digest()
        self.files[path] = file
