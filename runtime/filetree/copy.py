"""Copy trees of any depth: owners, modes, times, attributes, links, devices, holes.

Both trees may be changed by containers meanwhile: every step is relative to a descriptor, no link
is followed, and a file's type is checked once it is open.
"""

from __future__ import annotations

import errno
import os
import stat

from netkit.gone import gone
from runtime import limits
from runtime.filetree.extents import extents
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.filetree.walk import Entry, Path, walk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAY = "trusted.overlay."  # how overlayfs remembers things, no attribute of the file
_CHUNK = 1 << 30


def copy_tree(source: int, target: int) -> None:
    """Copy what is in the directory `source`, and its own owner, mode and times, to the directory
    `target`, which is empty.

    OSError.  Conflict for paths that are too long for any system call.
    """
    with Root(f"/proc/self/fd/{target}") as root:
        _Copy(root).run(source)
        dress(source, target, os.fstat(source))


def dress(source: int, target: int, st: os.stat_result) -> None:
    """Give an open file or directory the owner, mode, attributes and times of another."""
    os.fchown(target, st.st_uid, st.st_gid)
    for name in os.listxattr(source):
        if not name.startswith(_OVERLAY):
            _set_attribute(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(st.st_mode))  # last: chown clears set-user-ID bits
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def _set_attribute(target: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(target, name, value)
    except OSError as error:  # e.g. a tmpfs has no user.* attributes on some kernels
        if error.errno != errno.ENOTSUP:
            raise


class _Copy:
    """`root` is the target."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._path = Path("", limits.PATH_BYTES)
        self._here = root.open("/", os.O_RDONLY | os.O_DIRECTORY)
        self._parents: list[str] = []
        self._linked: dict[tuple[int, int], str] = {}  # first name of each file with several

    def run(self, source: int) -> None:
        try:
            for entry in walk(source):
                if entry.leaving:
                    self._leave(entry)
                elif entry.is_folder:
                    self._enter(entry)
                else:
                    self._file(entry)
        finally:
            os.close(self._here)

    def _enter(self, entry: Entry) -> None:
        self._path.of(entry.name)  # Conflict if it is too deep
        os.mkdir(entry.name, 0o700, dir_fd=self._here)
        below = os.open(entry.name, _FOLDER, dir_fd=self._here)
        os.close(self._here)
        self._here = below
        self._path.down(entry.name)
        self._parents.append(entry.name)

    def _leave(self, entry: Entry) -> None:
        """Complete a directory: its times and mode come last, for its entries change both."""
        try:
            source = os.open(entry.name, _FOLDER, dir_fd=entry.folder)
        except OSError as error:
            _must_be_gone(error)
        else:
            try:
                dress(source, self._here, os.fstat(source))
            finally:
                os.close(source)
        self._path.up()
        self._parents.pop()
        above = self._root.open("/".join(self._parents) or "/", os.O_RDONLY | os.O_DIRECTORY)
        os.close(self._here)
        self._here = above

    def _file(self, entry: Entry) -> None:
        path = self._path.of(entry.name)
        key = (entry.st.st_dev, entry.st.st_ino)
        if entry.st.st_nlink > 1 and (first := self._linked.get(key)) is not None:
            folder, name = self._root.parent(f"/{first}")
            try:
                os.link(name, entry.name, src_dir_fd=folder, dst_dir_fd=self._here,
                        follow_symlinks=False)  # fmt: skip
            finally:
                os.close(folder)
            return
        try:
            made = self._made(entry)
        except OSError as error:
            _must_be_gone(error)
            return
        if made and entry.st.st_nlink > 1:
            self._linked[key] = path

    def _made(self, entry: Entry) -> bool:
        mode = entry.st.st_mode
        if stat.S_ISREG(mode):
            return self._regular(entry)
        if stat.S_ISLNK(mode):
            try:
                link = os.readlink(entry.name, dir_fd=entry.folder)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return False  # replaced after the stat
                raise
            os.symlink(link, entry.name, dir_fd=self._here)
        else:  # a device, a fifo, a socket
            os.mknod(entry.name, mode, entry.st.st_rdev, dir_fd=self._here)
        self._dress_special(entry)
        return True

    def _dress_special(self, entry: Entry) -> None:
        """Of what must not be opened: a device or fifo would act, or block."""
        st, name = entry.st, entry.name
        os.chown(name, st.st_uid, st.st_gid, dir_fd=self._here, follow_symlinks=False)
        if not stat.S_ISLNK(st.st_mode):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._here)
            try:
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(st.st_mode))
            finally:
                os.close(fd)
        times = (st.st_atime_ns, st.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self._here, follow_symlinks=False)

    def _regular(self, entry: Entry) -> bool:
        # O_NONBLOCK: a fifo that has replaced the file must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(entry.name, flags, dir_fd=entry.folder)
        try:
            st = os.fstat(source)
            if not stat.S_ISREG(st.st_mode):
                return False  # replaced after the stat
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(entry.name, flags, 0o600, dir_fd=self._here)
            try:
                copy_data(source, target, st.st_size, sparse=st.st_blocks * 512 < st.st_size)
                dress(source, target, st)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return True


def copy_data(source: int, target: int, size: int, *, sparse: bool) -> None:
    """Copy a file's bytes; holes stay holes, as far as the file system shows them.

    A file that becomes shorter meanwhile is padded to `size`.
    """
    if not sparse:
        _send(source, target, 0, size)
        os.ftruncate(target, size)
        return
    for start, end in extents(source, size):
        os.lseek(target, start, os.SEEK_SET)
        _send(source, target, start, end)
    os.ftruncate(target, size)


def _send(source: int, target: int, at: int, end: int) -> None:
    while at < end and (sent := os.sendfile(target, source, at, min(end - at, _CHUNK))):
        at += sent


def _must_be_gone(error: OSError) -> None:
    """Raise errors other than those of a file that was removed or replaced meanwhile."""
    if error.errno in HOST_ERRORS or not (gone(error) or error.errno == errno.ELOOP):
        raise error
