"""Read and write small files with few system calls.

A file object of Python's makes nine to read one.  Each of them gives up the interpreter's lock,
which another thread may take for 5 ms; a start and its end read some thirty such files.
"""

from __future__ import annotations

import os
from pathlib import Path

_PIECE = 1 << 16


def content(path: str | Path) -> bytes:
    """All of a file, which may be one of the kernel's: those give no size.  OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _PIECE)
        while piece := os.read(fd, _PIECE) if data else b"":
            data += piece
        return data
    finally:
        os.close(fd)


def create(path: str | Path, data: bytes, mode: int) -> None:
    """Write a file that does not exist yet.  OSError; FileExistsError if it does."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
