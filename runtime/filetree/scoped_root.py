"""Access files below a directory and never outside, even if it is changed concurrently.

Every path is resolved by the kernel with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
(openat2(2)): absolute links and ".." stay below the directory, as they would in a chroot, so
images with /var/run -> /run work and links to the host's files do not.
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from netkit.gone import gone

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_FOLDER = os.O_PATH | os.O_DIRECTORY
_libc = ctypes.CDLL(None, use_errno=True)
# Faults of the host, not of the file: such a file must not be skipped.
HOST_ERRORS = frozenset((
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENFILE, errno.EMFILE, errno.ENOMEM,
))  # fmt: skip
_RETRIES = 128  # openat2 fails with EAGAIN while directories on the path are renamed


def openat2(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` below the directory `root`.  OSError as open(2) has it."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT)
    name = os.fsencode(path) or b"."
    if b"\0" in name:  # the kernel would use the part before it
        raise OSError(errno.EINVAL, "a NUL character in the path", path)
    for _ in range(_RETRIES):
        fd = _libc.syscall(
            _SYS_OPENAT2, root, ctypes.c_char_p(name), ctypes.c_char_p(how), ctypes.c_size_t(24)
        )
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in {errno.EAGAIN, errno.EINTR}:
            raise OSError(code, os.strerror(code), path)
    raise OSError(errno.EAGAIN, "the directory keeps changing", path)


def sync_file_system(fd: int) -> None:
    """Write everything of a file system to its disk: syncfs(2).  OSError."""
    if _libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, f"syncfs: {os.strerror(code)}")


class Root:
    """A directory as the root of all paths; a context manager."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Root:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        return openat2(self.fd, path, flags, mode)

    def parent(self, path: str) -> tuple[int, str]:
        """(descriptor of the parent, last component).  Links in the parent's path are followed."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if name in {"", ".", ".."}:
            raise OSError(errno.EINVAL, "names no file", path)
        return self.open(folder or "/", os.O_PATH | os.O_DIRECTORY), name

    def read_file(self, path: str, limit: int = 1 << 20) -> bytes:
        """Read a regular file, at most `limit` bytes; b"" if there is none.

        Does not block on a fifo or device in its place (CVE-2024-9676).
        """
        try:
            fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if gone(error):
                return b""
            raise
        with open(fd, "rb") as file:
            return file.read(limit) if stat.S_ISREG(os.fstat(fd).st_mode) else b""

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Create a directory and its parents; existing ones are left as they are."""
        os.close(self.open_folder(path, mode))

    def open_folder(self, path: str, mode: int = 0o755) -> int:
        """Open a directory with O_PATH; creates it and its parents if they do not exist.

        Takes time linear in the depth: each component is opened relative to the one above.
        """
        parts = [part for part in posixpath.normpath("/" + path).split("/") if part]
        there, here = self._deepest(parts)
        for name in parts[there:]:
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, mode, dir_fd=here)
                below = os.open(name, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return here

    def _deepest(self, parts: Sequence[str]) -> tuple[int, int]:
        """(how many of the leading parts exist as directories, descriptor of the last of them)."""
        low, high, best = 0, len(parts), -1
        while low < high:
            middle = high if low == 0 else (low + high + 1) // 2  # mostly all of it exists
            try:
                found = self.open("/".join(parts[:middle]), _FOLDER)
            except FileNotFoundError:
                high = middle - 1
                continue
            except BaseException:
                if best >= 0:
                    os.close(best)
                raise
            if best >= 0:
                os.close(best)
            best, low = found, middle
        return (low, best) if best >= 0 else (0, self.open("/", _FOLDER))

    def _made_parent(self, path: str) -> tuple[int, str]:
        """As `parent`, which is created if it does not exist."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if posixpath.normpath(folder or "/") == (folder or "/") and name not in {"", ".", ".."}:
            return self.open_folder(folder or "/"), name
        self.make_folder(folder or "/")
        return self.parent(path)

    def make_link(self, path: str, target: str) -> None:
        """Create a symbolic link, unless something exists there."""
        above, name = self._made_parent(path)
        before = os.stat(".", dir_fd=above)
        try:
            os.symlink(target, name, dir_fd=above)
            os.utime(f"/proc/self/fd/{above}", ns=(before.st_atime_ns, before.st_mtime_ns))
        except FileExistsError:
            pass
        finally:
            os.close(above)

    def mode(self, path: str) -> int | None:
        """Permission bits of a path, following links; None if it does not exist."""
        try:
            fd = self.open(path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return stat.S_IMODE(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def is_folder(self, path: str) -> bool:
        """Does a directory exist there, following links?"""
        try:
            os.close(self.open(path, _FOLDER))
        except OSError as error:
            if gone(error):
                return False
            raise
        return True

    def chmod(self, path: str, mode: int) -> None:
        fd = self.open(path, os.O_PATH)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def make_file(self, path: str) -> None:
        """Create an empty regular file as a mount point, unless something exists there.

        OSError also where a link exists that leads nowhere because it is one of a circle.
        """
        above, name = self._made_parent(path)
        before = os.stat(".", dir_fd=above)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, 0o644, dir_fd=above))
            # keep the directory's mtime: `docker diff` must not show it as changed
            os.utime(f"/proc/self/fd/{above}", ns=(before.st_atime_ns, before.st_mtime_ns))
        except FileExistsError:
            with suppress(FileNotFoundError):
                os.close(self.open(path, os.O_PATH))
        finally:
            os.close(above)
