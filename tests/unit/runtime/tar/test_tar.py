"""Tar archives as streams: what tarfile and GNU tar write is read, hostile headers are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from netkit.errors import Busy, InvalidSpec, NotSupported
from runtime import limits
from runtime.tar import compression
from runtime.tar import header as tarheader
from runtime.tar.compression import Unpacked
from runtime.tar.header import Member
from runtime.tar.stream import Tar

LONG = "d/" * 120 + "ümläut"


def written(form: int, *members: tarfile.TarInfo, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for m in members:
            if m.isreg():
                m.size = len(data)
            tar.addfile(m, io.BytesIO(data))
    return out.getvalue()


def member(name: str = "f", kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def read(data: bytes) -> list[tuple[Member, bytes]]:
    """The members with their content, holes filled."""
    found = []
    for m in (tar := Tar(io.BytesIO(data))):
        content = bytearray(m.size)
        for offset, piece in tar.pieces():
            content[offset : offset + len(piece)] = piece
        found.append((m, bytes(content)))
    return found


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_tarfile_writes_is_read(form: int) -> None:
    data = written(
        form,
        member(LONG, mode=0o4755, uid=70_000, gid=3_000_000, mtime=1_700_000_000),
        member("folder", tarfile.DIRTYPE),
        member("link", tarfile.SYMTYPE, linkname=LONG),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("last"),
        data=b"x" * 700,
    )
    found = read(data)
    assert [m.name.rstrip("/") for m, _ in found] == [LONG, "folder", "link", "null", "last"]
    first, link, null = found[0][0], found[2][0], found[3][0]
    assert (first.mode, first.uid, first.gid) == (0o4755, 70_000, 3_000_000)
    assert first.mtime_ns == 1_700_000_000_000_000_000
    assert (link.link, null.device) == (LONG, (1, 3))
    assert [content for m, content in found if m.kind == tarheader.REGULAR] == [b"x" * 700] * 2


def test_pax_records_win_over_the_header() -> None:
    pax = {"SCHILY.xattr.user.a": "b", "mtime": "12.5", "uid": "5"}
    (m, _), = read(written(tarfile.PAX_FORMAT, member(pax_headers=pax)))  # fmt: skip
    assert (m.xattrs, m.mtime_ns, m.uid) == ({"user.a": b"b"}, 12_500_000_000, 5)


@pytest.mark.parametrize(
    "form", [["gnu"], ["pax", "0.0"], ["pax", "0.1"], ["pax", "1.0"]], ids=" ".join
)
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, form: list[str]) -> None:
    size, parts = 4 << 20, [(n << 17, bytes([n + 65]) * 5000) for n in range(0, 31, 2)]
    with open(tmp_path / "holes", "wb") as file:
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    version = [f"--sparse-version={form[1]}"] if len(form) > 1 else []
    made = subprocess.run(
        ["tar", "-C", str(tmp_path), f"--format={form[0]}", "-S", *version, "-c", "holes"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert len(made) < 1 << 18
    tar = Tar(io.BytesIO(made))
    found = next(iter(tar))
    assert (found.name, found.size) == ("holes", size)
    content = b"".join(data for _, data in tar.pieces())
    assert len(content) < 1 << 18, "holes are not written out"
    offsets = {offset for offset, _ in tar_pieces(made)}
    assert {offset for offset, _ in parts} <= offsets
    assert read(made)[0][1] == (tmp_path / "holes").read_bytes()


def tar_pieces(data: bytes) -> list[tuple[int, bytes]]:
    tar = Tar(io.BytesIO(data))
    next(iter(tar))
    return list(tar.pieces())


def header(**fields: bytes) -> bytes:
    """A good header with some fields replaced, and a checksum that fits."""
    at = {"name": 0, "size": 124, "kind": 156, "uid": 108, "mtime": 136, "prefix": 345}
    block = bytearray(member("f").tobuf(tarfile.USTAR_FORMAT))
    for key, value in fields.items():
        block[at[key] : at[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def special(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    length = len(data) if size is None else size
    return header(kind=kind, size=b"%011o\0" % length) + data + bytes(-len(data) % 512)


def record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


END = bytes(1024)
HOSTILE: dict[str, bytes] = {
    "cut short in a header": header()[:300],
    "cut short in the data": header(size=b"%011o\0" % 5000) + bytes(512),
    "a wrong checksum": header()[:148] + b"0000001\0" + header()[156:],
    "rubbish": b"no tar at all" * 100,
    "a negative size": header(size=b"\xff" * 12),
    "a size beyond all disks": header(size=b"\x80" + b"\x7f" * 11),
    "a size that is no number": header(size=b"12x45678901\0"),
    "a size too large for the archive": header(size=b"\x80" + bytes(6) + b"\x20" + bytes(4)),
    "no user": header(uid=b"\xff" * 8),
    "a PAX user beyond 32 bits": special(b"x", record("uid", b"4294967295")) + header(),
    "a PAX size that is negative": special(b"x", record("size", b"-5")) + header(),
    "a PAX size beyond 64 bits": special(b"x", record("size", b"9" * 30)) + header(),
    "PAX headers of 2 MiB": special(b"x", b"", 2 << 20),
    "PAX headers of 8 GiB": special(b"x", b"", (8 << 30) - 1),
    "a long name of 8 GiB": special(b"L", b"", (8 << 30) - 1),
    "a long link of 2 MiB": special(b"K", b"", 2 << 20),
    "headers that come to more than 1 MiB": special(b"x", record("a", b"x" * 600_000)) * 2,
    "a record that is longer than its header": special(b"x", b"99 a=b\n") + header(),
    "a record of length 0": special(b"x", b"0 a=b\n") + header(),
    "a record without a length": special(b"x", b"a=b\n") + header(),
    "a record whose length is endless": special(b"x", b"1" * 400) + header(),
    "a name of 5,000 bytes": special(b"L", b"n" * 5000) + header(),
    "a NUL in a name": special(b"x", record("path", b"a\0b")) + header(),
    "extensions and then nothing": special(b"x", record("path", b"x")) + END,
    "a device that Linux cannot have": written(
        tarfile.GNU_FORMAT, member(kind=tarfile.CHRTYPE, devmajor=5000)
    ),
    "a sparse file without its data": header(kind=b"S", size=b"%011o\0" % 512) + bytes(512),
    "a sparse map that goes back": special(
        b"x", record("GNU.sparse.size", b"100") + record("GNU.sparse.map", b"50,10,0,10")
    ) + header(size=b"%011o\0" % 20) + bytes(512),
    "a sparse map beyond the file": special(
        b"x", record("GNU.sparse.size", b"10") + record("GNU.sparse.map", b"0,20")
    ) + header(size=b"%011o\0" % 20) + bytes(512),
    "a sparse map of odd length": special(
        b"x", record("GNU.sparse.size", b"10") + record("GNU.sparse.map", b"0,5,5")
    ) + header(size=b"%011o\0" % 10) + bytes(512),
    "a sparse file of an exabyte": special(
        b"x", record("GNU.sparse.size", b"9" * 18) + record("GNU.sparse.map", b"0,0")
    ) + header(),
    "a sparse map in data that has none": special(
        b"x", record("GNU.sparse.major", b"1") + record("GNU.sparse.realsize", b"10")
    ) + header(),
    "a sparse map that never ends": special(
        b"x", record("GNU.sparse.major", b"1") + record("GNU.sparse.realsize", b"10")
    ) + header(size=b"%011o\0" % 102_400) + b"1" * 102_400,
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused_in_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidSpec):
            read_sizes(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def read_sizes(data: bytes) -> int:
    tar = Tar(io.BytesIO(data))
    return sum(len(piece) for _ in tar for _, piece in tar.pieces())


def test_a_chain_of_headers_is_no_recursion() -> None:
    data = special(b"L", b"name\0") * 1500 + header() + END
    assert [m.name for m, _ in read(data)] == ["name"]


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("ARCHIVE_ENTRIES", 2, "more than 2 entries"),
        ("ARCHIVE_BYTES", 1000, "more than 1000 bytes"),
        ("HEADER_BYTES", 100, "over 100 bytes"),
        ("PATH_BYTES", 100, "over 100 bytes"),
    ],
)
def test_bounds_of_an_archive(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int, message: str
) -> None:
    data = written(tarfile.PAX_FORMAT, member(LONG), member("b"), data=b"x" * 600)
    assert len(read(data)) == 2
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(InvalidSpec, match=message):
        read(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": partial(lzma.compress, preset=0),
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_compressed_streams_in_several_members(pack: Callable[[bytes], bytes]) -> None:
    parts = [bytes([n]) * 300_000 for n in range(1, 5)]
    whole = b"".join(map(pack, parts))
    with Unpacked(io.BytesIO(whole)) as stream:
        assert stream.read(5) == parts[0][:5]
        assert stream.read() == b"".join(parts)[5:]
    if pack is not bytes:
        with pytest.raises(InvalidSpec), Unpacked(io.BytesIO(whole[:-9])) as stream:
            stream.drain()
        with Unpacked(io.BytesIO(whole + bytes(5000))) as stream:  # padding
            assert len(stream.read()) == 1_200_000


@pytest.mark.parametrize("pack", list(PACKERS.values())[1:], ids=list(PACKERS)[1:])
def test_the_ratio_is_checked_before_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(bytes(8 << 20))
    monkeypatch.setattr(limits, "RATIO_GRACE", 1 << 20)
    monkeypatch.setattr(limits, "RATIO", 2)
    tracemalloc.start()
    try:
        with (
            Unpacked(io.BytesIO(bomb)) as stream,
            pytest.raises(InvalidSpec, match="more than 2 times its size"),
        ):
            stream.drain()
        assert stream.given < 2 << 20
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_many_tiny_members_do_not_loosen_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"x") * 1000
    with Unpacked(io.BytesIO(data)) as stream:
        stream.drain()
    assert (stream.taken, stream.given) == (len(data), 1000)


def test_dictionaries_of_all_streams_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    small = lzma.compress(b"x" * 1000, preset=6)
    wide = lzma.compress(b"x" * 1000, preset=9)
    with Unpacked(io.BytesIO(wide)) as first:
        first.drain()
        with Unpacked(io.BytesIO(small)) as second:
            second.drain()
            with pytest.raises(Busy, match="try again"):
                Unpacked(io.BytesIO(small))
        with Unpacked(io.BytesIO(wide)) as second, pytest.raises(Busy, match="try again when"):
            second.drain()
    with Unpacked(io.BytesIO(wide)) as again:
        again.drain()  # it was given back
    monkeypatch.setattr(limits, "DECODER_BYTES", 20 << 20)
    with pytest.raises(InvalidSpec, match="lower level"), Unpacked(io.BytesIO(wide)) as stream:
        stream.drain()


UNREADABLE = {
    "lzma": lzma.compress(b"x" * 1000, format=lzma.FORMAT_ALONE),
    "lzip": b"LZIP\x01\x0c" + bytes(100),
    "lz4": b"\x04\x22\x4d\x18\x64\x40" + bytes(100),
    "zip": b"PK\x03\x04\x14\0" + bytes(100),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_compression_that_is_not_read_is_named(name: str) -> None:
    with pytest.raises(NotSupported, match=rf"compressed with {name}: use gzip"):
        Unpacked(io.BytesIO(UNREADABLE[name]))


@pytest.mark.parametrize("name", ["LZIP", "]", "Rar!", "PK"])
def test_a_name_that_begins_as_another_compression_is_read(name: str) -> None:
    data = name.encode().ljust(512, b"\0")
    with Unpacked(io.BytesIO(data)) as stream:
        assert stream.read() == data


@pytest.mark.parametrize("name", list(PACKERS)[1:])
def test_a_compressed_stream_that_ends_anywhere_is_refused(name: str) -> None:
    whole = PACKERS[name](bytes(range(256)) * 40)
    for size in range(6, len(whole), 7):
        with (
            pytest.raises(InvalidSpec, match=r"cut short|damaged"),
            Unpacked(io.BytesIO(whole[:size])) as stream,
        ):
            stream.drain()


def test_a_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(compression._Gzip, "decode", fail)
    with Unpacked(io.BytesIO(gzip.compress(b"x"))) as stream, pytest.raises(Busy):
        stream.drain()
