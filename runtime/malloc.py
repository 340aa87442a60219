"""Make the C library return freed memory to the kernel."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_ARENAS = 2
_LARGE = 512 << 10  # bytes; larger blocks are mapped separately, and unmapped when freed
_KEPT = 4 << 20  # bytes at the end of an arena that are not returned


def return_freed() -> None:
    """Configure malloc; call it before threads start.

    By default glibc has eight arenas per processor, and raises the mmap threshold once a large
    block was freed: later blocks of that size are taken from arenas, and never returned.  The
    blocks of 256 KiB in which layers are read stay below the threshold: to map each of them takes
    a quarter of the time of a pull.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return  # another C library
    for name, value in (
        (_ARENA_MAX, _ARENAS),
        (_MMAP_THRESHOLD, _LARGE),
        (_TRIM_THRESHOLD, _KEPT),
    ):
        mallopt(name, value)


def trim(*, collect: bool = True) -> None:
    """Return free pages, after a burst of work; unless `collect` is False, collect garbage first.

    A collection stops all other threads for some 50 ms.
    """
    if collect:
        gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
