"""`cp` into a container: a tar's files below a path of it, and nowhere else."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from contextlib import suppress
from typing import BinaryIO

from netkit.errors import InvalidSpec
from runtime.images.compression import Unpacked
from runtime.rootfs.beneath import Root
from runtime.rootfs.pathstat import missing

_BLOCK = 1 << 20


def unpack(
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
        raise missing(path) from None
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
