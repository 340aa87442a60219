"""Write members of archives to files, and report why one cannot be written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from io import RawIOBase

from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime import limits
from runtime.filetree.scoped_root import HOST_ERRORS
from runtime.tar.attributes import dress_file
from runtime.tar.header import Member
from runtime.tar.stream import Tar

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(1 << 16)


def fill(folder: int, name: str, archive: Tar, m: Member) -> None:
    """Create a file from the member whose header was read last."""
    with open(os.open(name, _FLAGS, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        write(file, archive, m)


def fill_whole(folder: int, name: str, archive: Tar, m: Member) -> None:
    """The same, with owner, mode, attributes and time of the member."""
    with open(os.open(name, _FLAGS, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        write(file, archive, m)
        dress_file(file.fileno(), m)


def write(file: RawIOBase, archive: Tar, m: Member) -> None:
    """Write the member's content to an empty file; holes stay holes."""
    for _ in writing(file, archive, m):
        pass


def write_hashed(file: RawIOBase, archive: Tar, m: Member) -> str:
    """As `write`; the hexadecimal SHA-256 digest of the content, holes included.

    "" for a file with large holes: a few bytes could take minutes.
    """
    if m.size - sum(size for _, size in m.regions) > limits.RATIO_GRACE:
        write(file, archive, m)
        return ""
    digest, end = hashlib.sha256(), 0
    for offset, data in writing(file, archive, m):
        _add_zeros(digest, offset - end)
        digest.update(data)
        end = offset + len(data)
    _add_zeros(digest, m.size - end)
    return digest.hexdigest()


def _add_zeros(digest: hashlib._Hash, size: int) -> None:
    while size > 0:
        digest.update(_ZEROS[:size])
        size -= len(_ZEROS)


def writing(file: RawIOBase, archive: Tar, m: Member) -> Iterator[tuple[int, bytes]]:
    """Write piece by piece: (offset, data) of each when it is written."""
    end = 0
    for start, data in archive.pieces():
        offset = start
        rest = memoryview(data)
        while rest:
            done = os.pwrite(file.fileno(), rest, offset)
            rest, offset = rest[done:], offset + done
        end = offset
        yield start, data
    if end != m.size:
        os.ftruncate(file.fileno(), m.size)


def refusal(error: OSError, name: str) -> Exception:
    """The error to raise when the member `name` cannot be unpacked.

    InvalidSpec for faults of the archive, KernelError for those of the host; `error` itself if the
    client has disconnected.
    """
    if isinstance(error, ConnectionError):
        return error
    kind: type[NetkitError] = KernelError if error.errno in HOST_ERRORS else InvalidSpec
    return kind(f"cannot unpack {name[:200]!r}: {error.strerror or error}")
