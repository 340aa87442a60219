"""How the C library keeps what the daemon has freed: little, and not for each thread anew."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_ARENAS = 2
_LARGE = 128 << 10  # bytes; from here on a block is a mapping of its own, which goes when freed


def return_freed() -> None:
    """Before threads begin.  glibc has eight arenas for each processor, and once a large block was
    freed it takes the next ones of that size from them, where they are never given back."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return  # another C library
    for name, value in (
        (_ARENA_MAX, _ARENAS),
        (_MMAP_THRESHOLD, _LARGE),
        (_TRIM_THRESHOLD, 2 * _LARGE),
    ):
        mallopt(name, value)


def trim() -> None:
    """Give back what a burst of work has left: cycles of objects, and free pages of the heap."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
