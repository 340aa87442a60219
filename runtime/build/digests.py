"""Digests of files for the build cache: what is copied, and nothing that is not.

Names, modes, owners, sizes, kinds, targets of links, device numbers, extended attributes and
content count; times and names of owners do not, as in dockerd.  Links below a folder count by their
targets, hard links by the name that came first.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable

from netkit.errors import Conflict
from runtime import limits
from runtime.build.errors import BuildFailed
from runtime.cancellation import Check, unchecked
from runtime.filetree.extents import extents
from runtime.filetree.walk import Path, walk

_BLOCK = 1 << 18
_XATTRS = ("user.", "security.capability")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def of_file(folder: int, entry: str, name: str, check: Check = unchecked) -> str:
    """Hexadecimal sha256 of an entry of a directory that is no directory, under the path `name`."""
    st = os.stat(entry, dir_fd=folder, follow_symlinks=False)
    return _entry(folder, entry, name, st, check).hex()


def of_tree(top: int, name: str, check: Check = unchecked) -> str:
    """Hexadecimal sha256 of a directory and all below it; its own name and mode count, too."""
    digest = hashlib.sha256(_head(name, os.fstat(top), ""))
    first: dict[tuple[int, int], str] = {}
    path = Path(name, limits.PATH_BYTES)
    try:
        for entry in walk(top):
            if entry.leaving:
                path.up()
                continue
            check()
            shown = path.of(entry.name)
            if entry.is_folder:
                path.down(entry.name)
            same = ""
            if entry.st.st_nlink > 1 and not entry.is_folder:
                same = first.setdefault((entry.st.st_dev, entry.st.st_ino), shown)
            digest.update(
                hashlib.sha256(_head(shown, entry.st, same)).digest()
                if same not in {"", shown}
                else _entry(entry.folder, entry.name, shown, entry.st, check)
            )
    except Conflict as error:
        raise BuildFailed(str(error)) from error
    return digest.hexdigest()


def of_several(digests: list[str]) -> str:
    return "multi:" + hashlib.sha256(",".join(digests).encode()).hexdigest()


def of_digests(top: bytes, below: Iterable[bytes]) -> str:
    """As `of_tree`: `top` is the head of the directory, `below` has the digests of its files."""
    digest = hashlib.sha256(top)
    for each in below:
        digest.update(each)
    return digest.hexdigest()


def of_head(head: bytes) -> bytes:
    """Digest of a file that has no content: a directory or a link."""
    return hashlib.sha256(head).digest()


def _entry(folder: int, entry: str, name: str, st: os.stat_result, check: Check) -> bytes:
    if stat.S_ISLNK(st.st_mode):
        return hashlib.sha256(_head(name, st, os.readlink(entry, dir_fd=folder))).digest()
    digest = hashlib.sha256(_head(name, st, ""))
    if stat.S_ISREG(st.st_mode):
        with open(os.open(entry, _OPEN, dir_fd=folder), "rb", buffering=0) as file:
            for key in sorted(os.listxattr(file.fileno())):
                if key.startswith(_XATTRS):
                    digest.update(_framed(os.fsencode(key), os.getxattr(file.fileno(), key)))
            if st.st_size:
                _content(file.fileno(), st.st_size, digest, check)
    return digest.digest()


def _content(fd: int, size: int, digest: hashlib._Hash, check: Check) -> None:
    """Read all that is no hole, each part after its extent."""
    for start, end in extents(fd, size):
        digest.update(extent(start, end))
        at = start
        while at < end and (block := os.pread(fd, min(_BLOCK, end - at), at)):
            check()
            digest.update(block)
            at += len(block)


def _head(name: str, st: os.stat_result, link: str) -> bytes:
    mode = st.st_mode
    is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    size = st.st_size if stat.S_ISREG(mode) else 0
    return head(name, mode, st.st_uid, st.st_gid, size, st.st_rdev if is_device else 0, link)


def head(
    name: str, mode: int, uid: int, gid: int, size: int = 0, device: int = 0, link: str = ""
) -> bytes:
    """What is digested of any file, and before the content of a regular one."""
    return _framed(
        os.fsencode(name), b"%o" % mode, b"%d" % uid, b"%d" % gid, b"%d" % size, b"%d" % device,
        os.fsencode(link),
    )  # fmt: skip


def extent(start: int, end: int) -> bytes:
    """What is digested before the data of a file from `start` to `end`."""
    return _framed(b"%d %d" % (start, end))


def _framed(*fields: bytes) -> bytes:
    """One text of several, from which they could be separated again."""
    return b"".join(b"%d:%b," % (len(field), field) for field in fields)
