"""Give files the owner, mode, attributes and times that their members in an archive have."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path

from netkit.errors import InvalidSpec
from netkit.gone import gone
from runtime.filetree.scoped_root import Root
from runtime.tar import header as tar
from runtime.tar.header import Member

_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_TIME = struct.Struct("<qH")  # nanoseconds, length of the path that follows


def dress(above: int, name: str, m: Member) -> None:
    """Set owner, mode, attributes and times of an entry of a directory; follows no link."""
    if m.kind == tar.SYMLINK:
        os.chown(name, m.uid, m.gid, dir_fd=above, follow_symlinks=False)
    else:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            dress_fd(fd, m)
        finally:
            os.close(fd)
    os.utime(name, ns=(m.mtime_ns, m.mtime_ns), dir_fd=above, follow_symlinks=False)


def dress_file(fd: int, m: Member) -> None:
    """Set all of it of an open regular file."""
    _dress(fd, m)
    os.utime(fd, ns=(m.mtime_ns, m.mtime_ns))


def dress_fd(fd: int, m: Member) -> None:
    """Set owner, mode and attributes through an O_PATH descriptor (never of a symlink)."""
    _dress(f"/proc/self/fd/{fd}", m)


def _dress(here: int | str, m: Member) -> None:
    os.chown(here, m.uid, m.gid)
    os.chmod(here, m.mode)
    for name, value in m.xattrs.items():
        if not name.startswith(_XATTRS):
            continue
        try:
            os.setxattr(here, name, value)
        except OSError as e:
            if e.errno != errno.ENOTSUP:  # ENOSPC is the limit of one file here, not the disk
                raise InvalidSpec(
                    f"extended attribute {name[:60]!r} of {m.name!r} ({len(value)} bytes): "
                    f"{e.strerror}"
                ) from e


class FolderTimes:
    """Sets times of directories last, since creating a file in one changes them.

    Until then they are kept in a file in the directory `aside`, not in memory: there may be
    millions.  A context manager.
    """

    def __init__(self, aside: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=aside)  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> FolderTimes:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def remember(self, path: str, ns: int) -> None:
        name = os.fsencode(path)
        self._file.write(_TIME.pack(ns, len(name)) + name)

    def apply(self, root: Root) -> None:
        self._file.seek(0)
        while head := self._file.read(_TIME.size):
            ns, length = _TIME.unpack(head)
            path = os.fsdecode(self._file.read(length))
            try:
                fd = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as e:
                if not gone(e) and e.errno != errno.EXDEV:  # openat2: a link leads outside now
                    raise
                continue  # removed or replaced by a later member
            try:
                os.utime(fd, ns=(ns, ns))
            finally:
                os.close(fd)
