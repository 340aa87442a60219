"""Classify errors of system calls that mean that an object does not exist, or not any more.

All others (EMFILE, ENOMEM, EIO, EACCES) do not mean that: code that takes them so loses files
from an archive, or starts a second process beside one that lives.
"""

from __future__ import annotations

import errno
from types import TracebackType

GONE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,  # open(2) with O_DIRECTORY; or a folder above became something else
        errno.ELOOP,  # open(2) with O_NOFOLLOW: it is a symbolic link now; or links in a circle
        errno.ENXIO,  # open(2): a socket, or the device of it is not there
        errno.ENODEV,  # of a device or a control group that was removed
        errno.ESRCH,  # proc(5): the process has ended
        errno.ESTALE,
        errno.ENAMETOOLONG,  # no file system has such a name
    }
)


def gone(error: OSError) -> bool:
    """Whether the error means that the file, process or object does not exist."""
    return error.errno in GONE


class if_there:
    """`with if_there():` ends the block where a thing does not exist; other errors pass."""

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, OSError) and gone(error)
