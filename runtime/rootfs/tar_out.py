"""Archive a container's files (`docker cp`, `export`) while they may change."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from runtime import limits
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.filetree.walk import Path, walk
from runtime.rootfs.stat import PathStat, look, stat_path

_BLOCK = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTRS = ("user.", "security.capability", "system.posix_acl_")


def archive(root: Root, path: str) -> tuple[PathStat, Iterator[bytes]]:
    """Archive a path; the top member has its base name."""
    shown = stat_path(root, path)
    top = shown.name if shown.name != "/" else "."

    def stream() -> Iterator[bytes]:
        folder, name, _ = look(root, path)  # only here: a generator never started runs no finally
        try:
            yield from _Members().tree(folder, name, top)
            yield bytes(1024)
        finally:
            os.close(folder)

    return shown, stream()


def export(root: Root) -> Iterator[bytes]:
    """Archive the whole root file system."""
    folder = root.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _Members().tree(folder, ".", "")
        yield bytes(1024)
    finally:
        os.close(folder)


class _Members:
    """Renders members of an archive; detects hard links."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], str] = {}

    def tree(self, folder: int, name: str, shown: str) -> Iterator[bytes]:
        """Yield one entry of a directory, and all below it."""
        try:
            st = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return  # removed meanwhile
        yield from self._member(folder, name, shown, st)
        if not stat.S_ISDIR(st.st_mode):
            return
        try:
            top = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as error:
            _must_be_gone(error)
            return  # no longer a directory
        path = Path(shown, limits.PATH_BYTES)
        try:
            for entry in walk(top):
                if entry.leaving:
                    path.up()
                    continue
                yield from self._member(entry.folder, entry.name, path.of(entry.name), entry.st)
                if entry.is_folder:
                    path.down(entry.name)
        finally:
            os.close(top)

    def _member(self, folder: int, name: str, shown: str, st: os.stat_result) -> Iterator[bytes]:
        if stat.S_ISSOCK(st.st_mode):
            return  # tar has no type for sockets
        try:
            info = self._info(folder, name, shown, st)
        except OSError as error:
            _must_be_gone(error)
            return  # removed or replaced meanwhile
        if info.isreg():
            yield from self._file(folder, name, info)
        elif shown:
            yield info.tobuf(tarfile.PAX_FORMAT)

    def _info(self, folder: int, name: str, shown: str, st: os.stat_result) -> tarfile.TarInfo:
        info = tarfile.TarInfo(shown)
        info.mode = stat.S_IMODE(st.st_mode)
        info.uid, info.gid = st.st_uid, st.st_gid
        info.mtime = st.st_mtime_ns / 1e9 if st.st_mtime_ns % 1_000_000_000 else int(st.st_mtime)
        mode = st.st_mode
        if stat.S_ISDIR(mode):
            info.type = tarfile.DIRTYPE
            info.name = shown + "/" if shown else ""
        elif stat.S_ISLNK(mode):
            info.type = tarfile.SYMTYPE
            info.linkname = os.readlink(name, dir_fd=folder)
        elif stat.S_ISFIFO(mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
        elif st.st_nlink > 1 and (first := self._seen.get((st.st_dev, st.st_ino))):
            info.type, info.linkname = tarfile.LNKTYPE, first
        return info

    def _file(self, folder: int, name: str, info: tarfile.TarInfo) -> Iterator[bytes]:
        # O_NONBLOCK: a fifo that has replaced the file must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            _must_be_gone(error)
            return
        with open(fd, "rb") as file:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                return  # replaced after the stat
            if st.st_nlink > 1:
                self._seen[st.st_dev, st.st_ino] = info.name
            info.size = st.st_size
            _add_xattrs(fd, info)
            yield info.tobuf(tarfile.PAX_FORMAT)
            left = info.size
            while left:
                data = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))
                left -= len(data)  # a file that shrank is padded to the size in the header
                yield data
            yield bytes(-info.size % 512)


def _must_be_gone(error: OSError) -> None:
    """Raise errors of the host: without them an incomplete archive would look complete."""
    if error.errno in HOST_ERRORS:
        raise error


def _add_xattrs(fd: int, info: tarfile.TarInfo) -> None:
    info.pax_headers = {
        f"SCHILY.xattr.{name}": os.getxattr(fd, name).decode("utf-8", "surrogateescape")
        for name in os.listxattr(fd)
        if name.startswith(_XATTRS)
    }
