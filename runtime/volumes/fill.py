"""Copy an image's files into a new volume: all of them or none, whenever the daemon is killed.

The copy is made aside, in `.filling`, which counts for nothing.  Once it is complete it is renamed
to `.filled`: from then on its entries are moved into the volume, by the next daemon if need be.
Both are beside the volume's directory, or in it where that is another file system.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from runtime.filetree.copy import copy_tree, dress
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import sync_file_system

FILLING, FILLED = ".netkit-filling", ".netkit-filled"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_empty(data: Path) -> bool:
    return not set(os.listdir(data)) - {FILLING, FILLED}


def fill(data: Path, beside: Path, source: int) -> None:
    """Copy the directory `source` (a descriptor) into the empty directory `data`, which is tidy.

    OSError, then nothing was copied.
    """
    if not os.listdir(source):  # no files: only its owner and mode
        _dressed(data, source)
        return
    filling = beside / FILLING
    filling.mkdir(mode=0o700)
    try:
        target = os.open(filling, _FOLDER)
        try:
            copy_tree(source, target)
            sync_file_system(target)  # a power cut must not leave names without their bytes
        finally:
            os.close(target)
        filling.rename(beside / FILLED)
    except BaseException:
        remove_tree(filling)
        raise
    tidy(data, beside)


def _dressed(data: Path, source: int) -> None:
    target = os.open(data, _FOLDER)
    try:
        dress(source, target, os.fstat(source))
    finally:
        os.close(target)


def tidy(data: Path, beside: Path) -> None:
    """Complete a copy that was complete, drop one that was not."""
    remove_tree(beside / FILLING)
    try:
        filled = os.open(beside / FILLED, _FOLDER)
    except FileNotFoundError:
        return
    try:
        target = os.open(data, _FOLDER)
        st = os.fstat(filled)  # before its times change
        try:
            for name in os.listdir(filled):
                _move(filled, target, name)
            dress(filled, target, st)
            remove_tree(beside / FILLED)
            os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))  # it may have been in there
        finally:
            os.close(target)
    finally:
        os.close(filled)


def _move(filled: int, target: int, name: str) -> None:
    """What a container made of the same name meanwhile stays."""
    with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        try:
            os.rename(name, name, src_dir_fd=filled, dst_dir_fd=target)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
