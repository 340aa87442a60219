"""Bring a file system's changes to its disk: syncfs(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def sync_filesystem(place: Path) -> None:
    """Write all that was changed in the file system of `place`, of any number of files.

    OSError if some of it could not be written, as far as the kernel knows (Linux 5.8).
    """
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, f"syncfs: {os.strerror(code)}", str(place))
    finally:
        os.close(fd)


def sync_directory(place: Path) -> None:
    """Bring the names in a directory to the disk.  OSError."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
