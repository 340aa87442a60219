"""A process that swaps a directory and a symbolic link as fast as the kernel lets it.

renameat2(2) with RENAME_EXCHANGE: at every instant one of both is there under the name.  It works
in the root of a container's process, where the container could do the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
there = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
one, other = sys.argv[2].encode(), sys.argv[3].encode()
parent = int(sys.argv[4])
if not libc.renameat2(there, one, there, other, 2):
    print("swapping", flush=True)
while os.getppid() == parent:
    for _ in range(200):
        libc.renameat2(there, one, there, other, 2)
"""


@contextmanager
def swapping(folder: Path, one: str, other: str) -> Iterator[None]:
    """Swap the names `one` and `other` in `folder` while the context lasts."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SWAP, str(folder), one, other, str(os.getpid())],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "swapping\n"
        yield
        assert process.poll() is None, "nothing was swapped for a while"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
