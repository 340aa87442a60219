"""A hint to ext4 that the directories in a directory have nothing to do with each other.

Without it the inodes of all of them are taken from one block group.  There an ext4 without a
journal, as virtual machines have it, passes over each inode that was removed in the last minutes
(recently_deleted() in fs/ext4/ialloc.c): once fifty containers had come and gone a few times, that
was two thirds of the daemon's time in the kernel for a start.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

# ioctl_iflags(2).  The numbers have the size of a long in them; what is passed is an int.
_GET, _SET = 0x80086601, 0x40086602
_TOP = 0x00020000  # FS_TOPDIR_FL, chattr(1): T


def spread(folder: Path) -> None:
    """New directories in `folder` are put in block groups of their own, where that is known.

    Existing ones stay where they are.  Any file system may refuse it: it changes nothing else.
    """
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GET, bytes(4)))
            if not flags & _TOP:
                fcntl.ioctl(fd, _SET, struct.pack("i", flags | _TOP))
        finally:
            os.close(fd)
