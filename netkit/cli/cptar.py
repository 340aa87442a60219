"""Files of this machine as a tar stream for a container; never held in memory whole."""

from __future__ import annotations

import os
import stat
import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 18
RECORD = tarfile.BLOCKSIZE


def pack(path: str, name: str) -> Iterator[bytes]:
    """`path` and all below it, called `name` in the archive ("." for the contents alone)."""
    links: dict[tuple[int, int], str] = {}
    for real, shown in _walk(path, name):
        found = os.lstat(real)
        if stat.S_ISSOCK(found.st_mode):
            continue  # as every archiver: a socket means nothing elsewhere
        yield from entry(real, shown, found, links)
    yield bytes(2 * RECORD)


def _walk(path: str, name: str) -> Iterator[tuple[str, str]]:
    yield path, name
    if os.path.islink(path) or not os.path.isdir(path):
        return
    for each in sorted(os.listdir(path)):
        yield from _walk(os.path.join(path, each), f"{name}/{each}")


def entry(
    real: str, shown: str, found: os.stat_result, links: dict[tuple[int, int], str],
    *, plain: bool = False,
) -> Iterator[bytes]:  # fmt: skip
    """One member; `links` remembers which files with several names have come.

    `plain`: owned by root, its time in whole seconds, as a build context's.
    """
    made = tarfile.TarInfo(shown)
    made.mode = stat.S_IMODE(found.st_mode)
    made.mtime = int(found.st_mtime) if plain else found.st_mtime
    if not plain:
        made.uid, made.gid = found.st_uid, found.st_gid
    seen = links.setdefault((found.st_dev, found.st_ino), shown)
    if stat.S_ISDIR(found.st_mode):
        made.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        made.type, made.linkname = tarfile.SYMTYPE, os.readlink(real)
    elif found.st_nlink > 1 and seen != shown:
        made.type, made.linkname = tarfile.LNKTYPE, seen
    elif stat.S_ISREG(found.st_mode):
        made.size = found.st_size
    elif stat.S_ISFIFO(found.st_mode):
        made.type = tarfile.FIFOTYPE
    else:
        made.type = tarfile.CHRTYPE if stat.S_ISCHR(found.st_mode) else tarfile.BLKTYPE
        made.devmajor, made.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    yield made.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    if made.isreg():
        yield from content(real, made.size)


def content(path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, padded: a file that grows is cut, one that shrinks filled up."""
    left = size
    with open(path, "rb") as file:
        while left and (block := file.read(min(BLOCK, left))):
            left -= len(block)
            yield block
    while left:
        yield bytes(min(BLOCK, left))
        left -= min(BLOCK, left)
    if size % RECORD:
        yield bytes(RECORD - size % RECORD)
