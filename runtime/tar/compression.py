"""Decompress streams of any supported format, in this process, with bounds.

Nothing from an image is ever run to unpack it (CVE-2026-41567).
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import threading
from collections.abc import Callable
from typing import Any, Protocol

from isal import isal_zlib

from netkit.errors import Busy, InvalidSpec, NotSupported
from runtime import limits
from runtime.tar.stream import Source

_BLOCK = 1 << 18
_INPUT = 1 << 16  # of many tiny members, all that follows is copied at the end of each
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"  # bytes 1 to 3 of a frame to be skipped, RFC 8878 section 3.1.2
_OTHERS = {
    b"\x5d\0\0\x80\0": "lzma", b"\x5d\0\0\0\x04": "lzma", b"LZIP\x01": "lzip",
    b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress (.Z)", b"\x1f\xa0": "compress (.Z)",
    b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7-zip",
    b"\x89LZO\0": "lzop", b"Rar!\x1a": "rar",
}  # fmt: skip
_ZSTD_INPUT = 256  # bytes at a time: one block of 4 bytes may be 128 KiB of zeros


class _Decoder(Protocol):
    """Takes input when `hungry`, b"" otherwise; gives about _BLOCK bytes at a time."""

    def decode(self, data: bytes) -> bytes: ...
    @property
    def hungry(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def rest(self) -> bytes:
        """Input beyond the end."""
        ...


class _Plain:
    hungry, ended, rest = True, False, b""

    def decode(self, data: bytes) -> bytes:
        return data


class _Gzip:
    def __init__(self) -> None:
        # ISA-L: two thirds of zlib's time, and a layer's unpacking is mostly this.
        self._inner = isal_zlib.decompressobj(16 + isal_zlib.MAX_WBITS)
        self.hungry = True

    def decode(self, data: bytes) -> bytes:
        out: bytes = self._inner.decompress(self._inner.unconsumed_tail + data, _BLOCK)
        self.hungry = not self._inner.unconsumed_tail and len(out) < _BLOCK
        return out

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data


class _Block:
    """bz2 and lzma have the same interface."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def decode(self, data: bytes) -> bytes:
        out: bytes = self._inner.decompress(data, _BLOCK)
        return out

    @property
    def hungry(self) -> bool:
        return bool(self._inner.needs_input)

    @property
    def ended(self) -> bool:
        return bool(self._inner.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inner.unused_data)


class _Zstd:
    def __init__(self, window: int) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
        self._input = b""

    def decode(self, data: bytes) -> bytes:
        self._input += data
        now, self._input = self._input[:_ZSTD_INPUT], self._input[_ZSTD_INPUT:]
        out: bytes = self._inner.decompress(now)
        return out

    @property
    def hungry(self) -> bool:
        return not self._input

    @property
    def ended(self) -> bool:
        return bool(self._inner.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inner.unused_data) + self._input


class _Dictionaries:
    """Bounds the memory for dictionaries of all decoders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self) -> int:
        """Reserve bytes for one more stream: nearly all for the first, little for others."""
        with self._lock:
            large = limits.DECODER_BYTES - limits.DECODER_SMALL
            room = limits.DECODER_BYTES - self._taken
            mine = large if room >= large else limits.DECODER_SMALL
            if mine > room:
                raise Busy(
                    "too many archives compressed with xz or zstd are being unpacked: try again "
                    "when one is finished"
                )
            self._taken += mine
            return mine

    def give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size


_dictionaries = _Dictionaries()


class Unpacked:
    """The uncompressed bytes of a stream, read once; knows their sha256 as it goes, if `hashed`.

    A context manager.  InvalidSpec for damaged data, for what unpacks to more than limits.RATIO
    times what came in or needs more than limits.DECODER_BYTES; NotSupported for other kinds of
    compression; Busy while other streams have the memory that is needed.
    """

    def __init__(self, source: Source, *, hashed: bool = True) -> None:
        self._source = source
        self._hashed = hashed
        self._memory = 0
        head = _exactly(source, 6)
        self._new = self._kind(head)
        self._decoder = self._new()
        self._pending = head
        self._out = bytearray()
        self._ended = False
        self._between = False  # one compressed member has ended; another may follow
        self._hash = hashlib.sha256()
        self.taken = len(head)
        self.given = 0

    def __enter__(self) -> Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        _dictionaries.give_back(self._memory)
        self._memory = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        while not self._ended and (size < 0 or len(self._out) < size):
            self._fill()
        end = len(self._out) if size < 0 else size
        with memoryview(self._out) as out:
            data = bytes(out[:end])
        del self._out[:end]
        if self._hashed:
            self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read to the end of the stream, so that the digest covers all of it."""
        while self.read(_BLOCK):
            pass

    def _fill(self) -> None:
        data = b""
        if self._between or self._decoder.hungry:
            data, self._pending = self._pending, b""
            if not data:
                data = self._source.read(_INPUT)
                self.taken += len(data)
            if not data:
                self._end()
                return
        if self._between:
            data = data.lstrip(b"\0")  # padding
            if not data:
                return
            self._decoder, self._between = self._new(), False
        self._out += self._decode(data)
        if self._decoder.ended:
            self._between, self._pending = True, self._decoder.rest

    def _end(self) -> None:
        self._ended = True
        if not self._between and self.taken and not isinstance(self._decoder, _Plain):
            raise InvalidSpec("the compressed archive is cut short")

    def _decode(self, data: bytes) -> bytes:
        try:
            piece = self._decoder.decode(data)
        except MemoryError as e:
            raise Busy("there is no memory to unpack the archive now: try again") from e
        except Exception as e:  # zstandard's errors have a class of their own
            if "emory usage limit" in str(e) or "too much memory" in str(e):
                raise self._too_wide() from e
            raise InvalidSpec(f"the archive is damaged: {e}") from e
        self.given += len(piece)
        if self.given > limits.RATIO_GRACE + limits.RATIO * self.taken:
            raise InvalidSpec(
                f"the archive unpacks to more than {limits.RATIO} times its size: refused as a bomb"
            )
        return piece

    def _too_wide(self) -> Busy | InvalidSpec:
        if self._memory < limits.DECODER_BYTES - limits.DECODER_SMALL:
            return Busy(
                "the archive needs much memory to be unpacked, which another one has now: try "
                "again when that is finished"
            )
        return InvalidSpec(
            "the archive needs more memory to be unpacked than the "
            f"{limits.DECODER_BYTES >> 20} MiB there are for all archives: compress it at a lower "
            "level"
        )

    def _kind(self, head: bytes) -> Callable[[], _Decoder]:
        if head.startswith(b"\x1f\x8b"):
            return _Gzip
        if head.startswith(b"BZh"):
            return lambda: _Block(bz2.BZ2Decompressor())
        if head.startswith(b"\xfd7zXZ\x00"):
            memory = self._memory = _dictionaries.take()
            return lambda: _Block(lzma.LZMADecompressor(memlimit=memory))
        if head.startswith(_ZSTD) or (head[1:4] == _SKIPPED and head[0] >> 4 == 5):
            return self._zstd()
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise NotSupported(
                    f"the archive is compressed with {name}: use gzip, bzip2, xz or zstd"
                )
        return _Plain

    def _zstd(self) -> Callable[[], _Decoder]:
        memory = self._memory = _dictionaries.take()
        window = 1 << (memory.bit_length() - 1)  # zstd takes powers of two
        return lambda: _Zstd(window)


def _exactly(source: Source, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := source.read(size - len(data))):
        data += piece
    return data
