"""Render the headers of a tar archive, in ustar form with PAX records where it has no room.  Pure.

The standard library's tarfile takes some 40 us for a header, which is half the time of a layer of
small files; this takes 6.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from runtime.tar.header import BLOCK

END = bytes(2 * BLOCK)
_OCTAL_ID, _OCTAL_SIZE = 0o7777777, 0o77777777777
_PAX = b"x"


def header(
    name: str,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: str = "",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
) -> bytes:
    """The header blocks of a member.  Names are in the encoding of the file system (os.fsdecode).

    `mtime`: whole seconds since 1970; times before that become 0.
    """
    raw, target, mtime = os.fsencode(name), os.fsencode(link), max(0, mtime)
    pax: dict[bytes, bytes] = {}
    for key, value in ((b"path", raw), (b"linkpath", target)):
        if len(value) > 100 or not value.isascii():
            pax[key] = value
    for key, number, most in (
        (b"uid", uid, _OCTAL_ID), (b"gid", gid, _OCTAL_ID), (b"size", size, _OCTAL_SIZE),
        (b"mtime", mtime, _OCTAL_SIZE),
    ):  # fmt: skip
        if number > most:
            pax[key] = b"%d" % number
    for attribute, value in sorted((xattrs or {}).items()):
        pax[b"SCHILY.xattr." + os.fsencode(attribute)] = value
    block = _block(raw[:100], kind, mode, uid, gid, size, mtime, target[:100], device)
    return _extension(raw, pax) + block if pax else block


def padding(size: int) -> bytes:
    """What follows the content of a member."""
    return bytes(-size % BLOCK)


def _extension(name: bytes, pax: dict[bytes, bytes]) -> bytes:
    if not _text(pax.get(b"path", b"")) or not _text(pax.get(b"linkpath", b"")):
        pax = {b"hdrcharset": b"BINARY", **pax}  # POSIX: else values are UTF-8
    body = b"".join(_record(key, value) for key, value in pax.items())
    short = b"PaxHeaders.0/" + name.rpartition(b"/")[2][:80]
    head = _block(short, _PAX, 0o644, 0, 0, len(body), 0, b"", (0, 0))
    return head + body + padding(len(body))


def _text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """ "LENGTH KEY=VALUE\\n", where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        mode,
        uid if uid <= _OCTAL_ID else 0,
        gid if gid <= _OCTAL_ID else 0,
        size if size <= _OCTAL_SIZE else 0,
        mtime if mtime <= _OCTAL_SIZE else 0,
    )
    tail = b"".join((
        link.ljust(100, b"\0"), b"ustar\x0000", bytes(64), b"%07o\0%07o\0" % device, bytes(167),
    ))  # fmt: skip
    block = name.ljust(100, b"\0") + numbers + b"        " + kind + tail
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
