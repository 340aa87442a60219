"""The tar stream of `cp`, read once, with a bound on what a header can ask for.

ustar with the PAX and GNU extensions that engines write (POSIX.1-2008 pax, "ustar Interchange
Format" and "pax Extended Header"; GNU long names).  The stdlib's tarfile keeps all members, reads
extension headers of any size into memory and recurses from one to the next.
"""

from __future__ import annotations

import math
import tarfile

from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE
PIECE = 1 << 18
HEADER_BYTES = 1 << 20  # of the extension headers of one member
PATH_BYTES = 4096  # PATH_MAX: longer names are none of a file
ENTRIES = 4_000_000  # headers of an archive, extension headers included
LATEST = 1 << 40  # seconds: no file system has later times

_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_LOCAL = frozenset((tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE))
_EXTENSIONS = _LOCAL | {_LONG_NAME, _LONG_LINK, tarfile.XGLTYPE}
_WITHOUT_DATA = frozenset(
    (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
     tarfile.BLKTYPE)
)  # fmt: skip


class TarReader:
    """Iterate for the members; `content` gives the data of the one that came last.

    Failure for what is malformed, cut short or beyond a bound.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._left = 0  # bytes of the member's data that have not been read
        self._padding = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        more: dict[str, bytes] = {}
        taken = 0
        for _ in range(ENTRIES):
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            entry = self._header()
            if entry is None:
                if taken:
                    raise _damaged("it is cut short")
                return
            if entry.type not in _EXTENSIONS:
                self._describe(entry, more)
                yield entry
                more, taken = {}, 0
                continue
            taken += BLOCK + entry.size
            if taken > HEADER_BYTES:
                raise _damaged(f"headers of a member have over {HEADER_BYTES} bytes")
            self._extend(entry, more)
        raise _damaged(f"it has more than {ENTRIES} entries")

    def content(self) -> Iterator[bytes]:
        while self._left:
            yield self._some(min(PIECE, self._left))

    def _header(self) -> tarfile.TarInfo | None:
        """The next one; None at the end: a block of zeros, or no more data."""
        block = self._exactly(BLOCK, or_none=True)
        if not block.strip(b"\0"):
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise _damaged(str(error)) from None
        if entry.size < 0:
            raise _damaged("a size is negative")
        return entry

    def _extend(self, entry: tarfile.TarInfo, more: dict[str, bytes]) -> None:
        data = self._exactly(entry.size)
        self._skip(-entry.size % BLOCK)
        if entry.type == _LONG_NAME:
            more["path"] = data.split(b"\0", 1)[0]
        elif entry.type == _LONG_LINK:
            more["linkpath"] = data.split(b"\0", 1)[0]
        elif entry.type in _LOCAL:
            more.update(_records(data))

    def _describe(self, entry: tarfile.TarInfo, more: dict[str, bytes]) -> None:
        if entry.type == tarfile.GNUTYPE_SPARSE or any(k.startswith("GNU.sparse") for k in more):
            raise _damaged("it has sparse files, which no engine sends")
        if "path" in more:
            entry.name = _text(more["path"])
        if "linkpath" in more:
            entry.linkname = _text(more["linkpath"])
        for name in (entry.name, entry.linkname):
            if "\0" in name or len(name.encode("utf-8", "surrogateescape")) > PATH_BYTES:
                raise _damaged(f"{name[:60]!r} is no name of a file")
        try:
            entry.size = int(more.get("size", entry.size))
            entry.mtime = float(more.get("mtime", entry.mtime))
        except ValueError as error:
            raise _damaged(str(error)[:100]) from None
        if entry.size < 0 or not math.isfinite(entry.mtime) or abs(entry.mtime) > LATEST:
            raise _damaged("a size or a time is out of range")
        if entry.type in _WITHOUT_DATA:
            entry.size = 0
        self._left, self._padding = entry.size, -entry.size % BLOCK

    # bytes

    def _some(self, size: int) -> bytes:
        data = self._source.read(size)
        if not data:
            raise _damaged("it is cut short")
        self._left -= len(data)
        return data

    def _exactly(self, size: int, *, or_none: bool = False) -> bytes:
        data = self._source.read(size) if size else b""
        while data and len(data) < size and (more := self._source.read(size - len(data))):
            data += more
        if len(data) < size and (data or not or_none):
            raise _damaged("it is cut short")
        return data

    def _skip(self, size: int) -> None:
        while size:
            data = self._source.read(min(size, PIECE))
            if not data:
                raise _damaged("it is cut short")
            size -= len(data)


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """`LENGTH KEY=VALUE\\\\n` of an extended header."""
    at = 0
    while at < len(data) and data[at : at + 1] != b"\0":
        digits, space, _ = data[at : at + 20].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 3 <= int(digits):
            raise _damaged("an extended header is malformed")
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            raise _damaged("an extended header is malformed")
        yield _text(key), value
        at = end


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _damaged(why: str) -> Failure:
    return Failure(f"the archive from the container is damaged: {why}")
