"""Reading tar streams whatever they are compressed with, in this process, with a limit.

Nothing from an image is ever run to unpack it (CVE-2026-41567).
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from netkit.errors import InvalidSpec, NotSupported

GRACE = 64 << 20  # bytes that may come out of however little
RATIO = 200  # bytes out for each byte in, beyond that: real layers stay below 100
_BLOCK = 1 << 18


class _Decoder(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


class _Plain:
    def decompress(self, data: bytes, /) -> bytes:
        return data


_ZSTD = b"\x28\xb5\x2f\xfd"
_KINDS: tuple[tuple[bytes, Callable[[], _Decoder]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(memlimit=256 << 20)),
)


class Unpacked:
    """The uncompressed bytes of a stream, read once; knows their sha256 as it goes.

    InvalidSpec for damaged data and for bombs: more than RATIO times what came in.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        head = _exactly(source, 6)
        self._new = _decoder_for(head)
        self._decoder = self._new()
        self._pending = head
        self._out = bytearray()
        self._ended = False
        self._hash = hashlib.sha256()
        self.taken = 0
        self.given = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        while not self._ended and (size < 0 or len(self._out) < size):
            self._fill()
        end = len(self._out) if size < 0 else size
        data = bytes(self._out[:end])
        del self._out[:end]
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read what follows the archive, so that the digest is that of everything."""
        while self.read(_BLOCK):
            pass

    def _fill(self) -> None:
        data = self._pending or self._source.read(_BLOCK)
        self._pending = b""
        if not data:
            self._ended = True
            if not getattr(self._decoder, "eof", True) and self.taken:
                raise InvalidSpec("the compressed archive is cut short")
            return
        self.taken += len(data)
        self._out += self._decode(data)

    def _decode(self, data: bytes) -> bytes:
        out = b""
        while data:
            try:
                piece = self._decoder.decompress(data)
            except (zlib.error, OSError, lzma.LZMAError, EOFError) as e:
                raise InvalidSpec(f"the archive is damaged: {e}") from e
            out += piece
            self.given += len(piece)
            if self.given > GRACE + RATIO * self.taken:
                raise InvalidSpec(
                    f"the archive unpacks to more than {RATIO} times its size: refused as a bomb"
                )
            if not getattr(self._decoder, "eof", False):
                break
            data = getattr(self._decoder, "unused_data", b"")
            if data.strip(b"\0"):
                self._decoder = self._new()  # several members one after another
            else:
                break
        return out


def _decoder_for(head: bytes) -> Callable[[], _Decoder]:
    if head.startswith(_ZSTD):
        try:
            import zstandard
        except ImportError:
            raise NotSupported(
                "the archive is compressed with zstd: install the Python package zstandard"
            ) from None
        return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    for magic, new in _KINDS:
        if head.startswith(magic):
            return new
    return _Plain


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := source.read(size - len(data))):
        data += piece
    return data
