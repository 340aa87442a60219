"""Write files and trees of a context, or of another image, into an image.

What the image has under a name goes, but that a folder keeps its content.  Nothing is resolved by a
path that a link could turn: every step is relative to a descriptor and follows no link.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass

from netkit.errors import Conflict
from runtime import limits
from runtime.build.errors import BuildFailed, failed
from runtime.build.owners import Owner
from runtime.build.whiteouts import hide, is_whiteout
from runtime.cancellation import Check, unchecked
from runtime.filetree.extents import extents
from runtime.filetree.remove import remove_entry
from runtime.filetree.scoped_root import Root
from runtime.filetree.walk import Entry, Path, walk

_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CAPABILITY = "security.capability"
_SECOND = 1_000_000_000
_PIECE = 64 << 20


def write_tree(top: int, target: Root, owner: Owner | None, check: Check = unchecked) -> None:
    """Merge all that is below the directory `top` into `target`.

    All gets the `owner`; None keeps owners and file capabilities.  BuildFailed.
    """
    with closing(_Tree(target, owner, check)) as tree:
        for entry in walk(top):
            check()
            if entry.leaving:
                tree.leave(entry)
            else:
                tree.add(entry)


def write_file(
    folder: int,
    name: str,
    above: int,
    new_name: str,
    owner: Owner | None,
    check: Check = unchecked,
) -> None:
    """Copy what is no directory to `new_name` in the directory `above`; OSError.

    As dockerd, without file capabilities.
    """
    st = os.stat(name, dir_fd=folder, follow_symlinks=False)
    _write(Entry(folder, name, st), above, new_name, _Dress(owner, False, check))


@dataclass(frozen=True, slots=True)
class _Dress:
    """What copies get: the owner (None: the source's), and with that its capabilities or not."""

    owner: Owner | None
    capabilities: bool
    check: Check


class _Tree:
    def __init__(self, target: Root, owner: Owner | None, check: Check) -> None:
        self._target = target
        self._dress = _Dress(owner, True, check)
        self._first: dict[tuple[int, int], str] = {}  # files with several links: where one went
        self._path = Path("", limits.PATH_BYTES)
        self._above = target.open("/", os.O_PATH | os.O_DIRECTORY)

    def close(self) -> None:
        if self._above >= 0:
            os.close(self._above)
        self._above = -1

    def add(self, entry: Entry) -> None:
        try:
            shown = self._path.of(entry.name)
        except Conflict as error:
            raise BuildFailed(str(error)) from error
        operation = "open"
        try:
            if entry.is_folder:
                operation = "mkdir"
                self._folder(entry)
                self._path.down(entry.name)
            elif is_whiteout(entry.name):
                hide(self._above, entry.name)
            elif not self._linked(entry, shown):
                _write(entry, self._above, entry.name, self._dress)
        except OSError as error:
            if error.errno == errno.EPERM:  # a device 0, 0: overlayfs's own whiteout
                operation, shown = "", ""
            raise failed(operation, f"/{shown}" if shown else "", error) from error

    def leave(self, entry: Entry) -> None:
        self._path.up()
        self.close()
        above = "/" + self._path.of("")
        self._above = self._target.open(above, os.O_PATH | os.O_DIRECTORY)
        _set_times(self._above, entry.name, entry.st)

    def _folder(self, entry: Entry) -> None:
        """Make the directory, or keep it, and go into it."""
        try:
            os.mkdir(entry.name, 0o700, dir_fd=self._above)
        except FileExistsError:
            st = os.stat(entry.name, dir_fd=self._above, follow_symlinks=False)
            if not stat.S_ISDIR(st.st_mode):
                os.unlink(entry.name, dir_fd=self._above)
                os.mkdir(entry.name, 0o700, dir_fd=self._above)
        below = os.open(entry.name, _FOLDER, dir_fd=self._above)
        self.close()
        self._above = below
        uid, gid = _ids(entry.st, self._dress.owner)
        os.chown(f"/proc/self/fd/{below}", uid, gid)
        os.chmod(f"/proc/self/fd/{below}", stat.S_IMODE(entry.st.st_mode))

    def _linked(self, entry: Entry, shown: str) -> bool:
        """Link a file that has been copied under another of its names; False if it was not."""
        if entry.st.st_nlink < 2:
            return False
        first = self._first.setdefault((entry.st.st_dev, entry.st.st_ino), shown)
        if first == shown:
            return False
        remove_entry(self._above, entry.name)
        there, name = self._target.parent(f"/{first}")
        try:
            os.link(name, entry.name, src_dir_fd=there, dst_dir_fd=self._above,
                    follow_symlinks=False)  # fmt: skip
        finally:
            os.close(there)
        return True


def _write(entry: Entry, above: int, name: str, dress: _Dress) -> None:
    remove_entry(above, name)
    mode = entry.st.st_mode
    if stat.S_ISREG(mode):
        _regular(entry, above, name, dress)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(entry.name, dir_fd=entry.folder), name, dir_fd=above)
    elif stat.S_ISSOCK(mode):
        return  # archives have none, through which dockerd copies
    elif stat.S_ISCHR(mode) and entry.st.st_rdev == 0:
        raise PermissionError(errno.EPERM, "overlayfs's own whiteout")
    else:
        os.mknod(name, stat.S_IFMT(mode) | 0o600, entry.st.st_rdev, dir_fd=above)
    uid, gid = _ids(entry.st, dress.owner)
    os.chown(name, uid, gid, dir_fd=above, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode))
        finally:
            os.close(fd)
    _set_times(above, name, entry.st)


def _regular(entry: Entry, above: int, name: str, dress: _Dress) -> None:
    source = os.open(entry.name, _SOURCE, dir_fd=entry.folder)
    try:
        st = os.fstat(source)
        if not stat.S_ISREG(st.st_mode):
            raise BuildFailed(f"{entry.name[:200]!r} changed while it was copied: try again")
        target = os.open(name, _TARGET, 0o600, dir_fd=above)
        try:
            _pour(source, target, st, dress.check)
            uid, gid = _ids(st, dress.owner)
            mode = stat.S_IMODE(st.st_mode)
            os.fchown(target, uid, gid)
            if dress.owner is None and dress.capabilities:
                _keep_capability(source, target)
            os.fchmod(target, mode)
            if dress.owner is not None and mode & (stat.S_ISUID | stat.S_ISGID):
                os.fchown(target, uid, gid)  # takes these bits away, as it does in dockerd
            seconds = st.st_mtime_ns // _SECOND * _SECOND
            os.utime(target, ns=(seconds, seconds))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _keep_capability(source: int, target: int) -> None:
    try:
        os.setxattr(target, _CAPABILITY, os.getxattr(source, _CAPABILITY))
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise


def _pour(source: int, target: int, st: os.stat_result, check: Check) -> None:
    """Copy the content; holes stay holes."""
    at = 0
    for start, end in extents(source, st.st_size):
        at = start
        os.lseek(target, at, os.SEEK_SET)
        while at < end and (done := os.sendfile(target, source, at, min(_PIECE, end - at))):
            check()
            at += done
    if at != st.st_size:
        os.ftruncate(target, st.st_size)


def _ids(st: os.stat_result, owner: Owner | None) -> Owner:
    """The owner to set; -1 of a request means that of the source."""
    if owner is None:
        return st.st_uid, st.st_gid
    return (
        st.st_uid if owner[0] < 0 else owner[0],
        st.st_gid if owner[1] < 0 else owner[1],
    )


def _set_times(above: int, name: str, st: os.stat_result) -> None:
    """The source's time of change, in whole seconds as in an archive."""
    seconds = st.st_mtime_ns // _SECOND * _SECOND
    os.utime(name, ns=(seconds, seconds), dir_fd=above, follow_symlinks=False)
