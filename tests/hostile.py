"""Archives that a stranger may send: harmless, and asking for too much or for what is outside.

`ARCHIVES` has a name and a maker for each; what they are made into is a root file system's tar, to
be imported, to be copied into a container, or to be a layer of an image (`as_image`).
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

REG, LNK, SYM, DIR = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
END = bytes(1024)
Entry = tuple[str, bytes, str]  # name, kind, where it links to


def entry(name: str, kind: bytes = REG, link: str = "", **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755 if kind == DIR else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(members: Iterable[tarfile.TarInfo], data: bytes = b"", form: int = 1) -> bytes:
    """`form`: tarfile.GNU_FORMAT (1) or PAX_FORMAT (2)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info in members:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entries(*given: Entry) -> bytes:
    return tar(entry(*one) for one in given)


def pax(data: bytes = b"x", **headers: str) -> bytes:
    return tar([entry("f", pax_headers={k.replace("__", "."): v for k, v in headers.items()})],
               data, tarfile.PAX_FORMAT)  # fmt: skip


def raw(kind: bytes = b"0", size: bytes | int = 0, name: bytes = b"f", **at: bytes) -> bytes:
    """Return a header with fields as they are given, and a valid checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[136:148], block[156:157], block[257:265] = b"00000000000\0", kind, b"ustar\00000"
    for field, value in at.items():
        start = int(field.removeprefix("at"))
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def records(*given: tuple[str, str]) -> bytes:
    """Return an extended header that has these records, in this order."""
    data = b""
    for key, value in given:
        body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        data += str(length).encode() + body
    return raw(b"x", len(data)) + data + bytes(-len(data) % 512)


def sparse(size: int, regions: str, stored: bytes = b"") -> bytes:
    head = records(("GNU.sparse.size", str(size)), ("GNU.sparse.map", regions))
    return head + raw(size=len(stored)) + stored + bytes(-len(stored) % 512) + END


def nested(depth: int, leaf: str = "leaf") -> bytes:
    return tar([entry("/".join(["d"] * depth + [leaf]))], b"x", tarfile.PAX_FORMAT)


def zeros(pack: Callable[[bytes], bytes], size: int = 128 << 20) -> bytes:
    """Return a compressed archive with that much padding after its end."""
    return pack(tar([]) + bytes(size))


OUT, SECRET = "{outside}", "{outside}/secret"
Maker = Callable[[], bytes]
ESCAPES: dict[str, Maker] = {
    "dot-dot": lambda: entries((f"../{OUT}/x", REG, "")),
    "dot-dot inside": lambda: entries(("a/../../b", REG, "")),
    "many dot-dots": lambda: entries(("../" * 40 + f"{OUT}/x", REG, "")),
    "dot-dot at the end": lambda: entries(("a/..", DIR, "")),
    "absolute": lambda: entries((f"{OUT}/x", REG, "")),
    "absolute with slashes": lambda: entries((f"///{OUT}/x", REG, "")),
    "through a link": lambda: entries(("l", SYM, OUT), ("l/x", REG, "")),
    "through a relative link": lambda: entries(("l", SYM, "../" * 30 + OUT), ("l/x", REG, "")),
    "through a chain of links": lambda: entries(
        ("a", SYM, OUT), ("b", SYM, "a"), ("c", SYM, "b"), ("c/x", REG, "")
    ),
    "through a loop of links": lambda: entries(("a", SYM, "b"), ("b", SYM, "a"), ("a/x", REG, "")),
    "a link to itself": lambda: entries(("a", SYM, "a"), ("a/x", REG, "")),
    "through /proc": lambda: entries(("l", SYM, "/proc/self/cwd"), ("l/x", REG, "")),
    "through a magic link": lambda: entries(("l", SYM, "/proc/self/fd/0"), ("l/x", REG, "")),
    "a link in place of a folder": lambda: entries(
        ("a", DIR, ""), ("a", SYM, OUT), ("a/x", REG, "")
    ),
    "a link over a file that is written again": lambda: entries(("a", SYM, SECRET), ("a", REG, "")),
    "a hard link outside": lambda: entries(("a", LNK, SECRET)),
    "a hard link with dot-dots": lambda: entries(("a", LNK, "../" * 30 + SECRET)),
    "a hard link through a link": lambda: entries(("l", SYM, OUT), ("a", LNK, "l/secret")),
    "a hard link to a link, then through it": lambda: entries(
        ("l", SYM, OUT), ("m", LNK, "l"), ("m/x", REG, "")
    ),
    "a hard link to itself": lambda: entries(("a", LNK, "a")),
    "a hard link to a folder": lambda: entries(("d", DIR, ""), ("a", LNK, "d")),
    "a hard link to nothing": lambda: entries(("a", LNK, "nothing")),
    "a whiteout through a link": lambda: entries(("l", SYM, OUT), ("l/.wh.secret", REG, "")),
    "a whiteout of dot-dot": lambda: entries((".wh...", REG, "")),
    "a whiteout of dot": lambda: entries((".wh..", REG, "")),
    "a whiteout of nothing": lambda: entries((".wh.", REG, "")),
    "an opaque folder through a link": lambda: entries(
        ("l", SYM, OUT), ("l/.wh..wh..opq", REG, "")
    ),
    "a mode through a link": lambda: tar([entry("l", SYM, SECRET), entry("l", DIR, mode=0o777)]),
}
REQUESTS: dict[str, Maker] = {
    "a whiteout device": lambda: tar([entry("n", tarfile.CHRTYPE, devmajor=0, devminor=0)]),
    "the host's disk": lambda: tar([entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)]),
    "memory of the host": lambda: tar([entry("mem", tarfile.CHRTYPE, devmajor=1, devminor=1)]),
    "setuid": lambda: tar([entry("su", mode=0o6755)], b"x"),
    "capabilities": lambda: pax(SCHILY__xattr__security__capability="\x01\0\0\2" + "\0" * 16),
    "an attribute of overlayfs": lambda: pax(SCHILY__xattr__trusted__overlay__redirect="/etc"),
    "an attribute of 100 KiB": lambda: pax(SCHILY__xattr__user__a="x" * 100_000),
    "many attributes": lambda: pax(**{f"SCHILY__xattr__user__a{n}": "y" * 900 for n in range(500)}),
    "an attribute without a name": lambda: pax(SCHILY__xattr__user__="x"),
    "a negative size": lambda: records(("size", "-1")) + raw() + END,
    "a huge size": lambda: records(("size", "9" * 18)) + raw() + END,
    "a size of 20 digits": lambda: records(("size", "9" * 20)) + raw() + END,
    "a binary size below 0": lambda: raw(size=b"\xff" * 12) + END,
    "a binary size of 2**62": lambda: raw(size=b"\x80\0\0\0\x40" + bytes(7)) + END,
    "an owner of 2**32-1": lambda: records(("uid", "4294967295")) + raw() + END,
    "an owner of 2**64": lambda: records(("uid", str(2**64))) + raw() + END,
    "a negative time": lambda: records(("mtime", "-1e400")) + raw() + END,
    "a time of 1e30": lambda: records(("mtime", "1" + "0" * 30)) + raw() + END,
    "a sparse file of 60 GiB": lambda: sparse(60 << 30, f"{(60 << 30) - 1},1", b"x"),
    "a sparse file of an exabyte": lambda: sparse(10**18 - 1, "0,0"),
    "sparse regions that overlap": lambda: sparse(100, "0,10,5,10", b"x" * 20),
    "sparse regions that go on": lambda: sparse(100, "0,1," * 40_000 + "0,1", b"x"),
    "PAX headers of 8 GiB": lambda: raw(b"x", (8 << 30) - 1) + bytes(1 << 20),
    "PAX headers of 900 KiB": lambda: records(("comment", "x" * 900_000)) + raw() + END,
    "a global header of 8 GiB": lambda: raw(b"g", (8 << 30) - 1) + bytes(1 << 20),
    "10,000 records": lambda: records(*((f"k{n}", "v") for n in range(10_000))) + raw() + END,
    "a name of 64 KiB": lambda: tar([entry("n" * 65_536)]),
    "a link of 64 KiB": lambda: tar([entry("l", SYM, "n" * 65_536)]),
    "a long name of 8 GiB": lambda: raw(b"L", (8 << 30) - 1) + bytes(1 << 20),
    "5,000 long names for one file": lambda: (
        (raw(b"L", 2) + b"n\0" + bytes(510)) * 5000 + raw() + END
    ),
    "a NUL in a name": lambda: records(("path", "a\0b")) + raw() + END,
    "a name that is not UTF-8": lambda: raw(name=b"\xff\xfe") + END,
    "an empty name": lambda: raw(name=b"") + END,
    "a name of dots and slashes": lambda: raw(name=b"./././/.") + END,
    "folders nested 2,000 deep": lambda: nested(2000),
    "folders nested 3,000 deep": lambda: nested(3000),
    "the same file 3,000 times": lambda: tar([entry("f")] * 3000, b"x"),
    "names that differ in case": lambda: tar([entry("F"), entry("f")], b"x"),
    "a file, then a folder, then a file": lambda: entries(
        ("a", REG, ""), ("a", DIR, ""), ("a", REG, "")
    ),
    "a folder with files in place of which comes a file": lambda: entries(
        ("a/b/c", REG, ""), ("a", REG, "")
    ),
    "a file as a folder": lambda: entries(("a", REG, ""), ("a/b", REG, "")),
    "an unknown kind": lambda: raw(b"Z") + END,
    "a volume of several": lambda: raw(b"M") + END,
    "two archives": lambda: tar([entry("a")], b"x") + tar([entry("b")], b"x"),
    "cut short in the data": lambda: tar([entry("a")], b"x" * 5000)[:3000],
    "cut short in a header": lambda: tar([entry("a")])[:300],
    "no checksum": lambda: tar([entry("a")])[:148] + b"        " + tar([entry("a")])[156:],
    "rubbish": lambda: b"\xde\xad\xbe\xef" * 5000,
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1 << 20),
    "gzip cut short": lambda: gzip.compress(tar([entry("a")], bytes(range(256)) * 99))[:-20],
    "gzip and then rubbish": lambda: gzip.compress(tar([entry("a")])) + b"rubbish" * 99,
    "gzip within gzip": lambda: gzip.compress(gzip.compress(tar([entry("a")]))),
    "a gzip bomb": lambda: zeros(lambda data: gzip.compress(data, 9)),
    "a bzip2 bomb": lambda: zeros(bz2.compress, 96 << 20),
    "an xz bomb": lambda: zeros(lambda data: lzma.compress(data, preset=0)),
    "an xz dictionary of 64 MiB": lambda: lzma.compress(tar([entry("a")], b"x"), preset=9),
    "an xz dictionary of 1 GiB": lambda: _wide(1 << 30),
    "a bomb of files": lambda: gzip.compress(
        tar([entry(f"f{n}") for n in range(90)], bytes(1 << 20)), 9
    ),
}  # fmt: skip
ARCHIVES = {**ESCAPES, **REQUESTS}


def _wide(size: int) -> bytes:
    """An xz stream that says it needs a dictionary of that size: the byte in its header is set,
    and the header's checksum made to fit."""
    import zlib

    data = bytearray(lzma.compress(tar([entry("a")], b"x"), preset=0))
    bits = 2 * (size.bit_length() - 1) - 24  # size is 2 << (bits / 2 + 11)
    data[16] = bits
    data[20:24] = zlib.crc32(bytes(data[12:20])).to_bytes(4, "little")
    return bytes(data)


def made(name: str, outside: str) -> bytes:
    """The archive, with the folder outside that must stay as it is in place of {outside}."""
    data = ARCHIVES[name]()
    if name not in ESCAPES:
        return data
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=out, mode="w") as target,
    ):
        for info in source:
            info.name = info.name.replace(OUT, outside)
            info.linkname = info.linkname.replace(OUT, outside)
            target.addfile(info, io.BytesIO(b"planted"[: info.size]))
    return out.getvalue()


def as_context(data: bytes, dockerfile: bytes = b"FROM x") -> bytes:
    """The archive with a Dockerfile as its first entry, unless it is compressed."""
    if data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return data
    return tar([entry("Dockerfile")], dockerfile)[:1024] + data


def as_image(
    layers: Sequence[bytes], tag: str = "", diff_ids: Sequence[str] | None = None
) -> bytes:
    """Return a `docker save` archive of these layers, as they are (compressed, or garbage)."""
    ids = diff_ids or [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
         "rootfs": {"type": "layers", "diff_ids": list(ids)}}
    ).encode()  # fmt: skip
    names = [f"layer{n}.tar" for n in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [tag] if tag else None, "Layers": names}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in [
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
            *zip(names, layers, strict=True),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
