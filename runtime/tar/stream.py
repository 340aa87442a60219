"""Read tar archives as streams, with bounds on everything that headers declare.

ustar, PAX and GNU formats, sparse files of all four kinds
(https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html,
https://www.gnu.org/software/tar/manual/html_node/Standard.html).  The stdlib's tarfile reads
extension headers of any size into memory and recurses from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.tar import sparse as tarsparse
from runtime.tar.header import (
    BLOCK,
    DIRECTORY,
    HEADER_ONLY,
    REGULAR,
    SPARSE,
    Header,
    Member,
    header,
    number_of,
    records,
    text,
)

_PIECE = 1 << 18
_EXTENSIONS = frozenset((b"x", b"X", b"g", b"L", b"K"))


class Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Extensions:
    """Extension headers (PAX, GNU) that precede a member's own."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.pax: dict[str, bytes] = {}
        self.map: list[int] = []  # of GNU.sparse 0.0: offset, size, offset, size, ...
        self.bytes = 0


class Tar:
    """Iterate for the members; `pieces` gives the content of the one that came last.

    InvalidSpec for what is malformed, cut short or beyond a bound.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._member: Member | None = None
        self._left = 0  # stored bytes of the member that have not been read
        self._padding = 0
        self._headers = 0
        self._bytes = 0

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            self._member = member
            yield member

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """(offset, data) of the member's content; what lies between is a hole of zeros."""
        member = self._member
        assert member is not None
        for offset, size in member.regions:
            end = offset + size
            while offset < end:
                data = self._some(min(_PIECE, end - offset))
                self._left -= len(data)
                yield offset, data
                offset += len(data)  # noqa: PLW2901

    # headers

    def _next(self) -> Member | None:
        self._skip(self._left)
        unpadded = len(self._upto(self._padding)) < self._padding
        self._left = self._padding = 0
        if unpadded:  # as docker's client leaves the last member of a context; Go's reader, too
            return None
        more = _Extensions()
        while (block := self._block()) is not None:
            self._headers += 1
            if self._headers > limits.ARCHIVE_ENTRIES:
                raise InvalidSpec(
                    f"the archive has more than {limits.ARCHIVE_ENTRIES} entries: refused"
                )
            head = header(block)
            if head.kind not in _EXTENSIONS:
                return self._described(head, block, more)
            self._extension(head, more)
        if more.bytes:
            _cut_short()
        return None

    def _block(self) -> bytes | None:
        """A header; None at the end of the archive: a block of zeros, or no more data."""
        data = self._upto(BLOCK)
        if data and len(data) < BLOCK:
            _cut_short()
        return data if data.strip(b"\0") else None

    def _extension(self, head: Header, more: _Extensions) -> None:
        if head.size > limits.HEADER_BYTES - more.bytes:
            raise InvalidSpec(
                f"headers of one member of the archive have over {limits.HEADER_BYTES} bytes: "
                "refused"
            )
        more.bytes += max(1, head.size)
        data = self._exactly(head.size)
        self._skip(-head.size % BLOCK)
        if head.kind == b"L":
            more.name = data.split(b"\0", 1)[0]
        elif head.kind == b"K":
            more.link = data.split(b"\0", 1)[0]
        elif head.kind != b"g":  # global ones are ignored, as Docker does
            records(data, more.pax, more.map)

    def _described(self, head: Header, block: bytes, more: _Extensions) -> Member:
        pax = more.pax
        name = pax.get("GNU.sparse.name") or pax.get("path") or more.name or head.name
        link = pax.get("linkpath") or more.link or head.link
        size = number_of(pax, "size", head.size)
        kind = REGULAR if head.kind == SPARSE else head.kind
        if block[156:157] == b"\0" and name.endswith(b"/"):
            kind = DIRECTORY
        if kind in HEADER_ONLY:
            size = 0
        self._left, self._padding = size, -size % BLOCK
        regions, whole = self._layout(head, block, more) if kind == REGULAR else ((), 0)
        self._count(whole)
        return Member(
            name=text(name, "name"),
            link=text(link, "link"),
            kind=kind,
            mode=head.mode,
            uid=number_of(pax, "uid", head.uid),
            gid=number_of(pax, "gid", head.gid),
            size=whole,
            mtime=pax.get("mtime", b"%d" % head.mtime),
            device=head.device,
            xattrs={
                key.removeprefix("SCHILY.xattr."): value
                for key, value in pax.items()
                if key.startswith("SCHILY.xattr.")
            },
            regions=regions,
        )

    def _layout(
        self, head: Header, block: bytes, more: _Extensions
    ) -> tuple[tarsparse.Regions, int]:
        """(regions with data, size) of the file whose stored data comes next."""
        if head.kind == SPARSE:
            found = tarsparse.old(block, self._exactly)
        else:
            sparse = tarsparse.pax(more.pax, more.map, self._map_block)
            if sparse is None:
                return ((0, self._left),), self._left
            found = sparse
        tarsparse.check(*found, self._left)
        return found

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > limits.ARCHIVE_BYTES:
            raise InvalidSpec(
                f"the files of the archive have more than {limits.ARCHIVE_BYTES} bytes: refused"
            )

    def _map_block(self) -> bytes:
        """A block at the start of the member's data: GNU's format 1.0 keeps its map there."""
        if self._left < BLOCK:
            raise InvalidSpec("the map of a sparse file in the archive is malformed")
        self._left -= BLOCK
        return self._exactly(BLOCK)

    # bytes

    def _upto(self, size: int) -> bytes:
        data = self._source.read(size)
        while data and len(data) < size and (more := self._source.read(size - len(data))):
            data += more
        return data

    def _some(self, size: int) -> bytes:
        return self._source.read(size) or _cut_short()

    def _exactly(self, size: int) -> bytes:
        data = self._upto(size) if size else b""
        return data if len(data) == size else _cut_short()

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._some(min(size, _PIECE)))


class CutShort(InvalidSpec):
    """The archive ends in the middle of a member, or before the first one."""


@contextmanager
def whole() -> Iterator[None]:
    """Say of an archive for an image that ends early what dockerd says, whose unpacking is a
    process of its own."""
    try:
        yield
    except CutShort:
        raise InvalidSpec("Error processing tar file(exit status 1): unexpected EOF") from None


def _cut_short() -> NoReturn:
    raise CutShort("not a valid tar archive: it is cut short")
