"""A temporary folder that is removed, at the latest by the next one who makes one beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "netkit-bootstrap."
YOUNG_SECONDS = 60  # a folder may have been made and not been locked yet


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A folder that only its owner may enter: what is bootstrapped has setuid programs."""
    _sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path)
        os.close(held)


def _sweep(parent: Path) -> None:
    """Remove what killed processes have left: the lock ended with them."""
    for entry in os.scandir(parent):
        if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        found = entry.stat(follow_symlinks=False)
        if found.st_uid != os.geteuid() or time.time() - found.st_ctime < YOUNG_SECONDS:
            continue
        held = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(entry.path)
        finally:
            os.close(held)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for the process that has it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
