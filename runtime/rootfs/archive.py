"""`cp` and `export`: tar in and out of a container's file system, never leaving its root.

The container may run and change anything under our hands: every step is taken relative to a
descriptor, the last part of a path is never followed, and what was opened is asked what it is.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from netkit.errors import InvalidSpec, NotFound
from runtime.clock import rfc3339
from runtime.images.compression import Unpacked
from runtime.ports.containers import PathStat
from runtime.rootfs.beneath import Root

_BLOCK = 1 << 20
_XATTRS = ("user.", "security.capability", "system.posix_acl_")


def stat_path(root: Root, path: str) -> PathStat:
    """Of the path itself; a trailing slash or "/." means the directory a link leads to."""
    folder, name, st = _look(root, path)
    try:
        link = ""
        if stat.S_ISLNK(st.st_mode):
            link = _resolved(root, path, os.readlink(name, dir_fd=folder))
    finally:
        os.close(folder)
    return PathStat(
        name=_shown_name(path),
        size=st.st_size,
        mode=st.st_mode,
        mtime=rfc3339(st.st_mtime_ns),
        link=link,
    )


def _shown_name(path: str) -> str:
    """The base name, as Go's filepath.Base has it: "." for what ends with "/."."""
    if path.endswith("/."):
        return "."
    return posixpath.basename(posixpath.normpath("/" + path)) or "/"


def _resolved(root: Root, path: str, target: str) -> str:
    """Where a link leads, as a path in the container: the client asks for that next."""
    seen = posixpath.normpath("/" + path)
    for _ in range(40):
        seen = posixpath.normpath(posixpath.join(posixpath.dirname(seen), target))
        try:
            folder, name = root.parent(seen)
        except OSError:
            return seen
        try:
            target = os.readlink(name, dir_fd=folder)
        except OSError:
            return seen
        finally:
            os.close(folder)
    return seen


def _look(root: Root, path: str) -> tuple[int, str, os.stat_result]:
    """(folder descriptor, name in it, what it is).  NotFound in Docker's words."""
    clean = posixpath.normpath("/" + path)
    wants_folder = path.endswith(("/", "/."))
    try:
        if clean == "/" or wants_folder:
            folder = root.open(clean, os.O_RDONLY | os.O_DIRECTORY)
            return folder, ".", os.fstat(folder)
        folder, name = root.parent(clean)
    except FileNotFoundError:
        raise _missing(path) from None
    except NotADirectoryError:
        raise InvalidSpec(f"{path} is not a directory") from None
    except OSError as e:
        raise InvalidSpec(f"{path}: {e.strerror}") from e
    try:
        return folder, name, os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.close(folder)
        raise _missing(path) from None


def _missing(path: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container")


def read_archive(root: Root, path: str) -> tuple[PathStat, Iterator[bytes]]:
    """What is at the path as a tar whose top member has its base name."""
    shown = stat_path(root, path)
    top = shown.name if shown.name != "/" else "."
    folder, name, _ = _look(root, path)

    def stream() -> Iterator[bytes]:
        try:
            yield from _Writer().tree(folder, name, top)
            yield bytes(1024)
        finally:
            os.close(folder)

    return shown, stream()


def export(root: Root) -> Iterator[bytes]:
    """The whole tree."""
    folder = root.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _Writer().tree(folder, ".", "")
        yield bytes(1024)
    finally:
        os.close(folder)


class _Writer:
    """Writes members; remembers hard links."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], str] = {}

    def tree(self, folder: int, name: str, shown: str) -> Iterator[bytes]:
        try:
            st = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return  # went away meanwhile
        if stat.S_ISSOCK(st.st_mode):
            return
        info = self._info(folder, name, shown, st)
        if info.isreg():
            yield from self._file(folder, name, info)
            return
        if shown:
            yield info.tobuf(tarfile.PAX_FORMAT)
        if info.isdir():
            yield from self._below(folder, name, shown)

    def _below(self, folder: int, name: str, shown: str) -> Iterator[bytes]:
        try:
            fd = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        except OSError:
            return  # no directory any more
        try:
            for child in sorted(os.listdir(fd)):
                yield from self.tree(fd, child, f"{shown}/{child}" if shown else child)
        finally:
            os.close(fd)

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
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=folder)
        except OSError:
            return
        with open(fd, "rb") as file:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                return  # swapped since we looked
            if st.st_nlink > 1:
                self._seen[st.st_dev, st.st_ino] = info.name
            info.size = st.st_size
            _add_xattrs(fd, info)
            yield info.tobuf(tarfile.PAX_FORMAT)
            left = info.size
            while left:
                data = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))
                left -= len(data)  # a file that shrank is filled up: the header has promised
                yield data
            yield bytes(-info.size % 512)


def _add_xattrs(fd: int, info: tarfile.TarInfo) -> None:
    info.pax_headers = {
        f"SCHILY.xattr.{name}": os.getxattr(fd, name).decode("utf-8", "surrogateescape")
        for name in os.listxattr(fd)
        if name.startswith(_XATTRS)
    }


def write_archive(
    root: Root,
    path: str,
    tar: BinaryIO,
    *,
    no_overwrite_dir: bool,
    owner: tuple[int, int] | None = None,
) -> None:
    """Unpack into the directory at the path, with the archive's owners or all of one `owner`.

    InvalidSpec for what does not fit together.
    """
    try:
        os.close(root.open(path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        raise _missing(path) from None
    except NotADirectoryError:
        raise InvalidSpec("extraction point is not a directory") from None
    base = posixpath.normpath("/" + path)
    source = Unpacked(tar)
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                _place(root, base, archive, member, no_overwrite_dir, owner)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as e:
        raise InvalidSpec(f"not a valid tar archive: {e}") from e
    except OSError as e:
        raise InvalidSpec(f"cannot unpack {e.filename}: {e.strerror}") from e
    source.drain()


def _place(
    root: Root,
    base: str,
    archive: tarfile.TarFile,
    m: tarfile.TarInfo,
    no_overwrite_dir: bool,
    owner: tuple[int, int] | None,
) -> None:
    if ".." in m.name.split("/"):
        raise InvalidSpec(f"{m.name!r} climbs out of the archive: refused")
    clean = posixpath.normpath(f"{base}/{m.name}")
    if clean == base:
        return
    root.make_folder(posixpath.dirname(clean))
    folder, name = root.parent(clean)
    try:
        _clash(folder, name, m, no_overwrite_dir)
        if m.isdir():
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
        elif m.issym():
            os.symlink(m.linkname, name, dir_fd=folder)
        elif m.islnk():
            there, last = root.parent(posixpath.normpath(f"{base}/{m.linkname}"))
            try:
                os.link(last, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(there)
            return
        elif m.isreg():
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            content = archive.extractfile(m)
            with open(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
                while content and (data := content.read(_BLOCK)):
                    file.write(data)
        elif m.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            raise InvalidSpec(f"{m.name!r}: devices are not copied into containers")
        _dress(folder, name, m, owner)
    finally:
        os.close(folder)


def _clash(folder: int, name: str, m: tarfile.TarInfo, no_overwrite_dir: bool) -> None:
    """Make room for the member, or say why there is none."""
    try:
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    is_folder = stat.S_ISDIR(st.st_mode)
    if is_folder and m.isdir():
        return
    if is_folder:
        if no_overwrite_dir:
            raise InvalidSpec(f"cannot overwrite directory {m.name!r} with non-directory")
        os.rmdir(name, dir_fd=folder)
    elif m.isdir() and no_overwrite_dir:
        raise InvalidSpec(f"cannot overwrite non-directory {m.name!r} with directory")
    else:
        os.unlink(name, dir_fd=folder)


def _dress(folder: int, name: str, m: tarfile.TarInfo, owner: tuple[int, int] | None) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        uid, gid = owner or (m.uid, m.gid)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        if not m.issym():
            os.chmod(f"/proc/self/fd/{fd}", m.mode & 0o7777)
    finally:
        os.close(fd)
    ns = int(m.mtime * 1e9)
    os.utime(name, ns=(ns, ns), dir_fd=folder, follow_symlinks=False)
