"""A layer's tar into a directory, for overlayfs: nothing in the archive can reach outside.

The stdlib reads the archive as a stream (it cannot be made to seek, so no header makes it loop);
what is made, is made by us: parents resolved beneath the directory, the last part without
following anything.  Whiteouts become overlayfs's own marks
(kernel Documentation/filesystems/overlayfs.rst; image-spec layer.md).
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import tarfile
from pathlib import Path

from netkit.errors import InvalidSpec
from runtime.images.compression import Unpacked
from runtime.rootfs.beneath import Root

MOST_ENTRIES = 4_000_000
MOST_BYTES = 64 << 30  # of one layer, unpacked
_WHITEOUT, _OPAQUE, _OTHER = ".wh.", ".wh..wh..opq", ".wh..wh."
_XATTR_PREFIX = "SCHILY.xattr."
_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_BLOCK = 1 << 20


def unpack(source: Unpacked, target: Path) -> int:
    """Fill `target`, an empty directory; the bytes its files hold.

    InvalidSpec names the member that is refused; `target` is then half full and to be thrown away.
    """
    with Root(target) as root:
        layer = _Layer(root)
        try:
            with tarfile.open(fileobj=source, mode="r|", tarinfo=tarfile.TarInfo) as archive:  # type: ignore[call-overload]
                for member in archive:
                    layer.add(archive, member)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as e:
            raise InvalidSpec(f"not a valid tar archive: {e}") from e
        except OSError as e:
            name = e.filename if isinstance(e.filename, str) else ""
            raise InvalidSpec(f"cannot unpack {name!r}: {e.strerror}") from e
        layer.finish()
    source.drain()
    return layer.size


class _Layer:
    def __init__(self, root: Root) -> None:
        self.root = root
        self.size = 0
        self._entries = 0
        self._folders: list[tuple[str, int]] = []  # whose times are set last

    def add(self, archive: tarfile.TarFile, m: tarfile.TarInfo) -> None:
        path = _clean(m.name)
        self._entries += 1
        self.size += max(0, m.size) if m.isreg() else 0
        if self._entries > MOST_ENTRIES or self.size > MOST_BYTES or m.size < 0:
            raise InvalidSpec(f"the archive is too large at {m.name!r}")
        if path == "":
            if m.isdir():
                self._dress("/", m)
            return
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self._hide(folder, name)
            return
        self.root.make_folder(folder or "/")
        above = self.root.open(folder or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            self._make(archive, m, path, above, name)
        finally:
            os.close(above)

    def _make(
        self, archive: tarfile.TarFile, m: tarfile.TarInfo, path: str, above: int, name: str
    ) -> None:
        if not m.isdir() or not _is_folder(above, name):
            _clear(above, name)
        if m.isdir():
            if not _is_folder(above, name):
                os.mkdir(name, 0o700, dir_fd=above)
        elif m.islnk():
            self._link(m, above, name)
            return  # metadata is the target's
        elif m.issym():
            os.symlink(m.linkname, name, dir_fd=above)
        elif m.isfifo():
            os.mkfifo(name, 0o600, dir_fd=above)
        elif m.ischr() or m.isblk():
            if m.ischr() and (m.devmajor, m.devminor) == (0, 0):
                raise InvalidSpec(f"{m.name!r} poses as a whiteout: refused")
            kind = stat.S_IFCHR if m.ischr() else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(m.devmajor, m.devminor), dir_fd=above)
        elif m.isreg():
            self._file(archive, m, above, name)
        else:
            raise InvalidSpec(f"{m.name!r} is of a kind that no layer has ({m.type!r})")
        self._dress_at(above, name, m)
        if m.isdir():
            self._folders.append((path, _ns(m)))

    def _file(self, archive: tarfile.TarFile, m: tarfile.TarInfo, above: int, name: str) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        content = archive.extractfile(m)
        with open(os.open(name, flags, 0o600, dir_fd=above), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _BLOCK)

    def _link(self, m: tarfile.TarInfo, above: int, name: str) -> None:
        target = _clean(m.linkname)
        folder, _, last = target.rpartition("/")
        try:
            there = self.root.open(folder or "/", os.O_PATH | os.O_DIRECTORY)
        except OSError as e:
            raise InvalidSpec(f"{m.name!r} links to {m.linkname!r}: {e.strerror}") from e
        try:
            if _is_folder(there, last):
                raise InvalidSpec(f"{m.name!r} is a hard link to a directory")
            os.link(last, name, src_dir_fd=there, dst_dir_fd=above, follow_symlinks=False)
        except OSError as e:
            raise InvalidSpec(f"{m.name!r} links to {m.linkname!r}: {e.strerror}") from e
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
                _clear(above, hidden)
                os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=above)
        finally:
            os.close(above)

    def _dress(self, path: str, m: tarfile.TarInfo) -> None:
        fd = self.root.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            _dress_fd(fd, m)
        finally:
            os.close(fd)
        self._folders.append((path, _ns(m)))

    def _dress_at(self, above: int, name: str, m: tarfile.TarInfo) -> None:
        os.chown(name, m.uid, m.gid, dir_fd=above, follow_symlinks=False)
        if not m.issym():
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            try:
                _dress_fd(fd, m)
            finally:
                os.close(fd)
        os.utime(name, ns=(_ns(m), _ns(m)), dir_fd=above, follow_symlinks=False)

    def finish(self) -> None:
        """Times of directories, now that nothing is put into them any more."""
        for path, ns in reversed(self._folders):
            try:
                fd = self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # hidden or replaced by a later member
            try:
                os.utime(fd, ns=(ns, ns))
            finally:
                os.close(fd)


def _dress_fd(fd: int, m: tarfile.TarInfo) -> None:
    """Owner, mode, attributes of what the O_PATH descriptor is (never a symlink)."""
    here = f"/proc/self/fd/{fd}"
    os.chown(here, m.uid, m.gid)
    os.chmod(here, m.mode & 0o7777)
    for key, value in m.pax_headers.items():
        name = key.removeprefix(_XATTR_PREFIX)
        if name != key and name.startswith(_XATTRS):
            try:
                os.setxattr(here, name, value.encode("utf-8", "surrogateescape"))
            except OSError as e:
                if e.errno != errno.ENOTSUP:
                    raise


def _clean(name: str) -> str:
    """The member's path below the layer, "" for the layer itself; InvalidSpec if it climbs out."""
    if "\0" in name or ".." in name.split("/"):
        raise InvalidSpec(f"{name!r} climbs out of the layer: refused")
    clean = posixpath.normpath("/" + name).lstrip("/")
    if len(clean) > 4096:
        raise InvalidSpec(f"a path in the archive is too long: {clean[:60]!r}...")
    return clean


def _is_folder(above: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _clear(above: int, name: str) -> None:
    """Remove what stands at the name, whatever it is; follows nothing."""
    try:
        if _is_folder(above, name):
            shutil.rmtree(name, dir_fd=above)
        else:
            os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        pass


def _ns(m: tarfile.TarInfo) -> int:
    """Modification time in ns; out of range is the epoch."""
    value = m.pax_headers.get("mtime")
    try:
        seconds, _, fraction = (value or str(m.mtime)).partition(".")
        ns = int(seconds) * 1_000_000_000 + int((fraction + "000000000")[:9] or 0)
    except ValueError:
        return 0
    return ns if 0 <= ns < 2**62 else 0
