"""Unpack a tar below a path of a container (`docker cp`), and nowhere else."""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.filetree.scoped_root import Root
from runtime.rootfs.stat import missing
from runtime.tar import header as tar
from runtime.tar.compression import Unpacked
from runtime.tar.header import Member
from runtime.tar.members import fill, refusal
from runtime.tar.stream import Source, Tar


def unpack(
    root: Root,
    path: str,
    source: Source,
    *,
    no_overwrite_dir: bool,
    owner: tuple[int, int] | None = None,
) -> None:
    """Unpack into the directory at the path, with the archive's owners or all of one `owner`.

    InvalidSpec for conflicts with existing files, KernelError for a full or broken disk.
    """
    try:
        os.close(root.open(path, os.O_PATH | os.O_DIRECTORY))
    except FileNotFoundError:
        raise missing(path) from None
    except NotADirectoryError:
        raise InvalidSpec("extraction point is not a directory") from None
    except OSError as e:
        raise InvalidSpec(f"{path[:200]}: {e.strerror}") from e
    base = posixpath.normpath("/" + path)
    with Unpacked(source) as stream:
        for member in (archive := Tar(stream)):
            try:
                _place(root, base, archive, member, no_overwrite_dir, owner)
            except OSError as e:
                raise refusal(e, member.name) from e
        stream.drain()


def _place(
    root: Root,
    base: str,
    archive: Tar,
    m: Member,
    no_overwrite_dir: bool,
    owner: tuple[int, int] | None,
) -> None:
    if ".." in m.name.split("/"):
        raise InvalidSpec(f"{m.name!r} climbs out of the archive: refused")
    clean = posixpath.normpath(f"{base}/{m.name}")
    if clean == base:
        return
    if len(os.fsencode(clean)) >= limits.PATH_BYTES:
        raise InvalidSpec(f"a path in the archive is too long: {m.name[:60]!r}...")
    folder, name = root.open_folder(posixpath.dirname(clean)), posixpath.basename(clean)
    try:
        _clash(folder, name, m, no_overwrite_dir)
        if m.kind == tar.DIRECTORY:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
        elif m.kind == tar.SYMLINK:
            os.symlink(m.link, name, dir_fd=folder)
        elif m.kind == tar.HARDLINK:
            there, last = root.parent(posixpath.normpath(f"{base}/{m.link}"))
            try:
                os.link(last, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(there)
            return  # owner, mode and time are the target's
        elif m.kind == tar.REGULAR:
            fill(folder, name, archive, m)
        elif m.kind == tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            raise InvalidSpec(f"{m.name!r}: devices are not copied into containers")
        _dress(folder, name, m, owner)
    finally:
        os.close(folder)


def _clash(folder: int, name: str, m: Member, no_overwrite_dir: bool) -> None:
    """Remove what the member replaces; InvalidSpec if it must not be replaced."""
    try:
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    is_folder = stat.S_ISDIR(st.st_mode)
    if is_folder and m.kind == tar.DIRECTORY:
        return
    if is_folder:
        if no_overwrite_dir:
            raise InvalidSpec(f"cannot overwrite directory {m.name!r} with non-directory")
        os.rmdir(name, dir_fd=folder)
    elif m.kind == tar.DIRECTORY and no_overwrite_dir:
        raise InvalidSpec(f"cannot overwrite non-directory {m.name!r} with directory")
    else:
        os.unlink(name, dir_fd=folder)


def _dress(folder: int, name: str, m: Member, owner: tuple[int, int] | None) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        uid, gid = owner or (m.uid, m.gid)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        if m.kind != tar.SYMLINK:
            os.chmod(f"/proc/self/fd/{fd}", m.mode)
    finally:
        os.close(fd)
    os.utime(name, ns=(m.mtime_ns, m.mtime_ns), dir_fd=folder, follow_symlinks=False)
