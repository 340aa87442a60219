"""Pack the writable directory of overlayfs into a layer's tar, as dockerd does.

Whiteouts become ".wh." files (image-spec layer.md), names are sorted, times are whole seconds, and
modes have the bits of the file's type.  The directory may be a running container's: each step is
relative to a descriptor and follows no link, and what is removed meanwhile is left out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection
from typing import NamedTuple

from netkit.errors import Conflict
from netkit.gone import gone
from runtime import limits
from runtime.filetree.walk import Entry, Path, walk
from runtime.tar import header as tar
from runtime.tar.writing import END, header, padding

_BLOCK = 1 << 18
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_OPAQUE_XATTR = "trusted.overlay.opaque"
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not blocked by a fifo
_KINDS = {
    stat.S_IFDIR: tar.DIRECTORY, stat.S_IFREG: tar.REGULAR, stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFIFO: tar.FIFO, stat.S_IFCHR: tar.CHARACTER, stat.S_IFBLK: tar.DEVICE,
}  # fmt: skip


class Packed(NamedTuple):
    entries: int  # members of the archive; 0: nothing has changed, there is no layer
    size: int  # bytes of the files


def pack(upper: int, write: Callable[[bytes], object], leave_out: Collection[str] = ()) -> Packed:
    """Write the tar of all below the directory `upper`, but not of the directory itself.

    `leave_out`: absolute paths of the container that are left out with what is below them.
    Conflict for paths and sizes beyond what an image may have, OSError for a broken disk.
    """
    packing = _Packing(write, leave_out)
    for entry in walk(upper):
        if entry.leaving:
            packing.leave()
        else:
            packing.see(entry)
    if packing.entries:
        write(END)
    return Packed(packing.entries, packing.size)


class _Packing:
    def __init__(self, write: Callable[[bytes], object], leave_out: Collection[str]) -> None:
        self._write, self._leave_out = write, leave_out
        self._path = Path("", limits.PATH_BYTES)
        self._seen: dict[tuple[int, int], str] = {}  # files with several names
        self._outside = 0  # depth below what is left out
        self.entries = self.size = 0

    def leave(self) -> None:
        self._path.up()
        self._outside -= self._outside > 0

    def see(self, entry: Entry) -> None:
        path = self._path.of(entry.name)
        hidden = self._outside > 0 or (self._leave_out and f"/{path}" in self._leave_out)
        if not hidden:
            try:
                self._add(entry, path)
            except OSError as error:
                if not gone(error) and error.errno != errno.EINVAL:  # readlink(2) of another kind
                    raise
                # removed or replaced meanwhile
        if entry.is_folder:
            self._path.down(entry.name)
            self._outside += bool(hidden)

    def _add(self, entry: Entry, path: str) -> None:
        st = entry.st
        kind = _KINDS.get(stat.S_IFMT(st.st_mode))
        if kind is None:
            return  # a socket: tar has no type for them
        if kind == tar.CHARACTER and st.st_rdev == 0:
            folder = path[: -len(entry.name)]
            self._member(f"{folder}{_WHITEOUT}{entry.name}", tar.REGULAR, st, mode=0o600)
            return
        names = os.listxattr(_at(entry), follow_symlinks=False)
        if kind == tar.DIRECTORY:
            self._member(f"{path}/", kind, st, xattrs=_xattrs(entry, names))
            if _OPAQUE_XATTR in names and _opaque(entry):
                mode = stat.S_IMODE(st.st_mode) & 0o777
                self._member(f"{path}/{_OPAQUE}", tar.REGULAR, st, mode=mode, mtime=0)
            return
        if st.st_nlink > 1 and (first := self._seen.get((st.st_dev, st.st_ino))):
            self._member(path, tar.HARDLINK, st, link=first)
            return
        if kind == tar.REGULAR:
            self._file(entry, path, names)
            return
        link = os.readlink(entry.name, dir_fd=entry.folder) if kind == tar.SYMLINK else ""
        self.size += len(os.fsencode(link))  # dockerd counts what lstat(2) says
        special = kind in {tar.CHARACTER, tar.DEVICE}
        device = (os.major(st.st_rdev), os.minor(st.st_rdev)) if special else (0, 0)
        self._member(path, kind, st, link=link, device=device, xattrs=_xattrs(entry, names))
        self._remember(st, path)

    def _remember(self, st: os.stat_result, path: str) -> None:
        if st.st_nlink > 1:
            self._seen[st.st_dev, st.st_ino] = path

    def _member(
        self,
        name: str,
        kind: bytes,
        st: os.stat_result,
        *,
        mode: int | None = None,
        mtime: int | None = None,
        size: int = 0,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        self.entries += 1
        if self.entries > limits.ARCHIVE_ENTRIES:
            raise Conflict(f"the container has changed more than {limits.ARCHIVE_ENTRIES} files: "
                           "refused")  # fmt: skip
        self._write(header(
            name, kind, mode=st.st_mode if mode is None else mode, uid=st.st_uid, gid=st.st_gid,
            size=size, mtime=st.st_mtime_ns // 10**9 if mtime is None else mtime, link=link,
            device=device, xattrs=xattrs,
        ))  # fmt: skip

    def _file(self, entry: Entry, path: str, names: list[str]) -> None:
        with open(os.open(entry.name, _FILE, dir_fd=entry.folder), "rb", buffering=0) as file:
            st = os.fstat(file.fileno())
            if not stat.S_ISREG(st.st_mode):
                return  # replaced after the stat
            self.size += st.st_size
            if self.size > limits.ARCHIVE_BYTES:
                raise Conflict(f"the files that the container has changed have more than "
                               f"{limits.ARCHIVE_BYTES} bytes: refused")  # fmt: skip
            attributes = _xattrs(entry, names)
            self._member(path, tar.REGULAR, st, size=st.st_size, xattrs=attributes)
            left = st.st_size
            while left:
                data = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))
                left -= len(data)  # a file that shrank is padded to the size in the header
                self._write(data)
            self._write(padding(st.st_size))
            self._remember(st, path)


def _at(entry: Entry) -> str:
    return f"/proc/self/fd/{entry.folder}/{entry.name}"


def _opaque(entry: Entry) -> bool:
    return os.getxattr(_at(entry), _OPAQUE_XATTR, follow_symlinks=False) == b"y"


def _xattrs(entry: Entry, names: list[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        if name.startswith(_XATTRS):
            try:
                found[name] = os.getxattr(_at(entry), name, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed meanwhile
                    raise
    return found
