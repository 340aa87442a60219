"""Unpack a layer's tar into a directory for overlayfs; nothing in it can reach outside.

The archive is read as a stream; parent directories are resolved beneath the target, and the last
component is created without following links.  Memory and stack do not grow with the archive.
Whiteouts are converted to overlayfs's format (kernel Documentation/filesystems/overlayfs.rst;
image-spec layer.md).
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.filetree.remove import clear
from runtime.filetree.scoped_root import Root
from runtime.tar import header as tar
from runtime.tar.attributes import FolderTimes, dress, dress_fd
from runtime.tar.compression import Unpacked
from runtime.tar.header import Member
from runtime.tar.members import fill_whole, refusal
from runtime.tar.stream import Tar

_WHITEOUT, _OPAQUE, _OTHER = ".wh.", ".wh..wh..opq", ".wh..wh."


def unpack(source: Unpacked, target: Path) -> int:
    """Unpack into `target`, an empty directory; the bytes of its files.

    InvalidSpec names the member that is refused, KernelError for a full or broken disk; the caller
    must then discard `target`.
    """
    name = "/"
    try:
        with Root(target) as root, FolderTimes(target.parent) as times:
            layer = _Layer(root, target.parent, times)
            try:
                for member in (archive := Tar(source)):
                    name = member.name
                    layer.add(archive, member)
            finally:
                layer.close()
            name = "/"
            times.apply(root)
            source.drain()
            return layer.size
    except OSError as e:
        raise refusal(e, name) from e


class _Layer:
    """Creates members below `root`; replaced directories are renamed into `aside` first."""

    def __init__(self, root: Root, aside: Path, times: FolderTimes) -> None:
        self.root = root
        self.size = 0
        self.times = times
        self._aside = aside
        self._above = -1  # the directory of the last member: mostly the next one's, too
        self._above_path = ""
        self._moved = False  # something was replaced: the path may lead elsewhere now

    def close(self) -> None:
        if self._above >= 0:
            os.close(self._above)
        self._above = -1

    def _folder(self, path: str) -> int:
        if self._above < 0 or path != self._above_path or self._moved:
            self.close()
            self._above = self.root.open_folder(path or "/")
            self._above_path, self._moved = path, False
        return self._above

    def add(self, archive: Tar, m: Member) -> None:
        path = _clean(m.name)
        self.size += m.size
        if m.kind == tar.SYMLINK:  # as lstat(2) has it, and dockerd's sizes of layers
            self.size += len(os.fsencode(m.link))
        if path == "":
            if m.kind == tar.DIRECTORY:
                self._dress("/", m)
            return
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self._moved = True
            self._hide(folder, name)
            return
        self._make(archive, m, path, self._folder(folder), name)

    def _make(self, archive: Tar, m: Member, path: str, above: int, name: str) -> None:
        # A member replaces what the archive had under its name before, except that a directory
        # keeps its content.
        is_folder, there = m.kind == tar.DIRECTORY, _mode(above, name)
        kept = is_folder and stat.S_ISDIR(there)
        if there and not kept:
            self._moved = True
            clear(above, name, self._aside)
        if is_folder:
            if not kept:
                os.mkdir(name, 0o700, dir_fd=above)
        elif m.kind == tar.HARDLINK:
            self._link(m, above, name)
            return  # owner and mode are the target's
        elif m.kind == tar.SYMLINK:
            os.symlink(m.link, name, dir_fd=above)
        elif m.kind == tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=above)
        elif m.kind in {tar.CHARACTER, tar.DEVICE}:
            if m.kind == tar.CHARACTER and m.device == (0, 0):
                raise InvalidSpec(f"{m.name!r} poses as a whiteout: refused")
            kind = stat.S_IFCHR if m.kind == tar.CHARACTER else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*m.device), dir_fd=above)
        elif m.kind == tar.REGULAR:
            fill_whole(above, name, archive, m)
            return
        else:
            raise InvalidSpec(f"{m.name!r} is of a kind that no layer has ({m.kind!r})")
        dress(above, name, m)
        if is_folder:
            self.times.remember(path, m.mtime_ns)

    def _link(self, m: Member, above: int, name: str) -> None:
        target = _clean(m.link)
        folder, _, last = target.rpartition("/")
        try:
            there = self.root.open(folder or "/", os.O_PATH | os.O_DIRECTORY)
        except OSError as e:
            raise InvalidSpec(f"{m.name!r} links to {m.link!r}: {e.strerror}") from e
        try:
            if stat.S_ISDIR(_mode(there, last)):
                raise InvalidSpec(f"{m.name!r} is a hard link to a directory")
            os.link(last, name, src_dir_fd=there, dst_dir_fd=above, follow_symlinks=False)
        except OSError as e:
            raise InvalidSpec(f"{m.name!r} links to {m.link!r}: {e.strerror}") from e
        finally:
            os.close(there)

    def _hide(self, folder: str, name: str) -> None:
        self.root.make_folder(folder or "/")
        above = self.root.open(folder or "/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if name == _OPAQUE:
                os.setxattr(above, "trusted.overlay.opaque", b"y")
            elif not name.startswith(_OTHER):
                hidden = name.removeprefix(_WHITEOUT)
                if hidden in {"", ".", ".."} or "/" in hidden:
                    raise InvalidSpec(f"whiteout {name!r} names nothing that can be hidden")
                clear(above, hidden, self._aside)
                os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=above)
        finally:
            os.close(above)

    def _dress(self, path: str, m: Member) -> None:
        fd = self.root.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            dress_fd(fd, m)
        finally:
            os.close(fd)
        self.times.remember(path, m.mtime_ns)


def _clean(name: str) -> str:
    """The member's path below the layer, "" for the layer itself; InvalidSpec if it climbs out."""
    if ".." in name.split("/"):
        raise InvalidSpec(f"{name!r} climbs out of the layer: refused")
    clean = posixpath.normpath("/" + name).lstrip("/")
    if len(os.fsencode(clean)) >= limits.PATH_BYTES:
        raise InvalidSpec(f"a path in the archive is too long: {clean[:60]!r}...")
    return clean


def _mode(above: int, name: str) -> int:
    """Of an entry, with the bits of its kind; 0 if there is none."""
    try:
        return os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
