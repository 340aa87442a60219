"""Where a file has data: a hole may stand for terabytes.  lseek(2), SEEK_DATA."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of the first `size` bytes that is no hole, in order.

    It moves the position of `fd`.  Ends early if the file becomes shorter meanwhile; what it gets
    in addition is left out.
    """
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        if start >= size:
            return
        yield start, end
        at = end
