"""Parse a header of a tar archive, and PAX records.  Pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from netkit.errors import InvalidSpec
from runtime import limits

BLOCK = 512
REGULAR, HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = (
    b"0", b"1", b"2", b"3", b"4", b"5", b"6",
)  # fmt: skip
SPARSE = b"S"
HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO))
_ALIASES = {b"\0": REGULAR, b"7": REGULAR}
_OCTAL = b"01234567"
_NUMBER = re.compile(rb" *([0-7]*) *\0?")
_MTIME = re.compile(rb"([0-9]{1,10})(?:\.([0-9]*))?")


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header block.  `size` is never negative."""

    name: bytes
    link: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    device: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive.  Names are in the encoding of the file system (os.fsdecode)."""

    name: str
    link: str
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int  # bytes of the file, holes included
    mtime: bytes  # seconds since 1970, decimal, as the archive has it
    device: tuple[int, int]
    xattrs: dict[str, bytes] = field(default_factory=dict)
    regions: tuple[tuple[int, int], ...] = ()  # (offset, size) of the parts that have data

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since 1970; 0 for what is out of range."""
        found = _MTIME.fullmatch(self.mtime)
        if found is None:
            return 0
        return int(found[1]) * 1_000_000_000 + int((found[2] or b"")[:9].ljust(9, b"0"))


def header(block: bytes) -> Header:
    """Parse a header block.  InvalidSpec if the checksum is wrong or a number malformed."""
    _check_sum(block)
    name = _cut(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _cut(block[345:500])):
        name = prefix + b"/" + name
    kind = block[156:157]
    size = _number(block[124:136], "size")
    if size < 0:
        raise InvalidSpec("not a valid tar archive: a size is negative")
    is_device = kind in {CHARACTER, DEVICE}
    return Header(
        name=name,
        link=_cut(block[157:257]),
        kind=_ALIASES.get(kind, kind),
        mode=_number(block[100:108], "mode") & 0o7777,
        uid=owner(_number(block[108:116], "uid")),
        gid=owner(_number(block[116:124], "gid")),
        size=size,
        mtime=max(0, _number(block[136:148], "mtime")),
        device=device(block) if is_device else (0, 0),
    )


def _check_sum(block: bytes) -> None:
    """Verify the sum of all bytes, with spaces for the field; old tars used signed bytes."""
    promised = _number(block[148:156], "checksum")
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if promised == unsigned:
        return
    signed = unsigned - 256 * sum(b > 127 for b in block[:148] + block[156:])
    if promised != signed:
        raise InvalidSpec("not a valid tar archive: a header has a wrong checksum")


def device(block: bytes) -> tuple[int, int]:
    """Major and minor number, which Linux keeps in 12 and 20 bits."""
    major, minor = _number(block[329:337], "devmajor"), _number(block[337:345], "devminor")
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise InvalidSpec(f"not a valid tar archive: no device has the numbers {major}, {minor}")
    return major, minor


def owner(id: int) -> int:
    """A user or group id.  2**32-1 means "unchanged" to chown(2): it is none."""
    if not 0 <= id < 0xFFFFFFFF:
        raise InvalidSpec(f"not a valid tar archive: {id} is no user or group id")
    return id


def _cut(data: bytes) -> bytes:
    return data.split(b"\0", 1)[0]


def _number(data: bytes, what: str) -> int:
    """Octal digits, or GNU's binary form when the first bit is set."""
    if data[-1] == 0 and (digits := data[:-1]).isdigit() and not digits.translate(None, _OCTAL):
        return int(digits, 8)  # as nearly all are
    if data[0] & 0x80:
        value = int.from_bytes(data, "big", signed=True)
        if data[0] != 0xFF:
            value = int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
        if not -(1 << 62) <= value < 1 << 62:
            raise InvalidSpec(f"not a valid tar archive: a {what} is out of range")
        return value
    found = _NUMBER.match(data)
    whole = found is not None and found.end() in {len(data), data.find(b"\0") + 1}
    if found is None or not whole:
        raise InvalidSpec(f"not a valid tar archive: a {what} is malformed")
    return int(found[1] or b"0", 8)


def records(data: bytes, into: dict[str, bytes], sparse: list[int]) -> None:
    """Add the records "LENGTH KEY=VALUE\\n" to `into`; an empty value removes a key.

    The only keys that may come more than once make the map `sparse`.
    """
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise InvalidSpec("not a valid tar archive: a PAX record is malformed")
        name = key.decode("utf-8", "surrogateescape")
        if name in {"GNU.sparse.offset", "GNU.sparse.numbytes"}:
            sparse.append(decimal(value, name))
            if len(sparse) > 2 * limits.SPARSE_REGIONS:
                raise InvalidSpec(too_sparse())
        elif value:
            into[name] = value
        else:
            into.pop(name, None)
        at = end


def too_sparse() -> str:
    return f"a sparse file of the archive has more than {limits.SPARSE_REGIONS} regions: refused"


def decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 18:
        raise InvalidSpec(f"not a valid tar archive: PAX record {what} is no number in range")
    return int(value)


def number_of(pax: dict[str, bytes], key: str, otherwise: int) -> int:
    """The number a PAX record has for the header's; ids are checked."""
    if key not in pax:
        return otherwise
    value = decimal(pax[key], key)
    return owner(value) if key in {"uid", "gid"} else value


def text(name: bytes, what: str) -> str:
    if b"\0" in name:
        raise InvalidSpec(f"a {what} in the archive has a NUL byte: refused")
    if len(name) > limits.PATH_BYTES:
        raise InvalidSpec(f"a {what} in the archive has over {limits.PATH_BYTES} bytes: refused")
    return os.fsdecode(name)
