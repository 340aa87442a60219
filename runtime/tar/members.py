"""Write members of archives to files, and report why one cannot be written."""

from __future__ import annotations

import os
from io import RawIOBase

from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime.filetree.scoped_root import HOST_ERRORS
from runtime.tar.header import Member
from runtime.tar.stream import Tar

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def fill(folder: int, name: str, archive: Tar, m: Member) -> None:
    """Create a file from the member whose header was read last."""
    with open(os.open(name, _FLAGS, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        write(file, archive, m)


def write(file: RawIOBase, archive: Tar, m: Member) -> None:
    """Write the member's content to an empty file; holes stay holes."""
    end = 0
    for offset, data in archive.pieces():
        rest = memoryview(data)
        while rest:
            done = os.pwrite(file.fileno(), rest, offset)
            rest, offset = rest[done:], offset + done  # noqa: PLW2901
        end = offset
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
