"""Parse the maps of sparse files in tar archives.

Four formats of GNU tar: its old header, and 0.0, 0.1, 1.0 in PAX records
(https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.tar.header import BLOCK, decimal, too_sparse

Regions = tuple[tuple[int, int], ...]
Blocks = Callable[[], bytes]  # the next block of the member's data

_OLD, _OLD_ROOM = 386, 4
_MORE_ROOM = 21
_FIELD = 12


def old(block: bytes, read: Callable[[int], bytes]) -> tuple[Regions, int]:
    """(regions, size of the file) of a member of kind S; `read` gives the blocks that follow."""
    numbers: list[int] = []
    _fields(block, _OLD, _OLD_ROOM, numbers)
    more, whole = block[482], _value(block[483 : 483 + _FIELD])
    while more:
        if len(numbers) > 2 * limits.SPARSE_REGIONS:
            raise InvalidSpec(too_sparse())
        block = read(BLOCK)
        _fields(block, 0, _MORE_ROOM, numbers)
        more = block[504]
    return _pairs(numbers), whole


def _fields(block: bytes, at: int, room: int, into: list[int]) -> None:
    for _ in range(2 * room):
        field = block[at : at + _FIELD]
        at += _FIELD
        if not field.strip(b"\0 "):
            break
        into.append(_value(field))


def _value(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[4:], "big")
    digits = field.strip(b"\0 ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise InvalidSpec("the map of a sparse file in the archive is malformed") from None


def pax(
    records: dict[str, bytes], pairs: Sequence[int], block: Blocks
) -> tuple[Regions, int] | None:
    """(regions, size of the file) from PAX records; None for a file that is not sparse."""
    size = records.get("GNU.sparse.realsize") or records.get("GNU.sparse.size")
    if size is None:
        return None
    whole = decimal(size, "GNU.sparse.size")
    if records.get("GNU.sparse.major") == b"1":
        return _pairs(_in_data(block)), whole
    if (text := records.get("GNU.sparse.map")) is not None:
        if text.count(b",") > 2 * limits.SPARSE_REGIONS:
            raise InvalidSpec(too_sparse())
        return _pairs([decimal(n, "GNU.sparse.map") for n in text.split(b",")]), whole
    return _pairs(pairs), whole


def _in_data(block: Blocks) -> list[int]:
    """Format 1.0: a count, then offsets and sizes, one a line, in blocks before the data."""
    numbers: list[int] = []
    wanted, rest = 1, b""
    while len(numbers) < wanted:
        *lines, rest = (rest + block()).split(b"\n")
        for line in lines:
            if len(numbers) < wanted:
                numbers.append(decimal(line, "map"))
            if len(numbers) == 1:
                wanted = 1 + 2 * numbers[0]
                if numbers[0] > limits.SPARSE_REGIONS:
                    raise InvalidSpec(too_sparse())
        if len(rest) > BLOCK:
            raise InvalidSpec("the map of a sparse file in the archive is malformed")
    return numbers[1:]


def _pairs(numbers: Sequence[int]) -> Regions:
    if len(numbers) % 2:
        raise InvalidSpec("the map of a sparse file in the archive is malformed")
    if len(numbers) > 2 * limits.SPARSE_REGIONS:
        raise InvalidSpec(too_sparse())
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check(regions: Regions, whole: int, stored: int) -> None:
    """InvalidSpec unless the regions ascend within the file and have all the data that follows."""
    end = 0
    for offset, size in regions:
        if offset < end or size < 0:
            raise InvalidSpec("the map of a sparse file in the archive is malformed")
        end = offset + size
    if end > whole or sum(size for _, size in regions) != stored:
        raise InvalidSpec("the map of a sparse file in the archive is malformed")
