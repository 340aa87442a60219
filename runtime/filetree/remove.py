"""Remove trees of any depth, with two descriptors and without recursion.

A container may have nested directories deeper than PATH_MAX or a recursion limit.  So
sub-directories of a directory that is not empty are renamed into the top one, which empties it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from runtime.filetree.walk import walk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove a directory and all below it, if it exists.  OSError.

    Follows no link.  Safe to repeat after an interruption at any point.
    """
    try:
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    path.rmdir()


def clear(folder: int, name: str, aside: Path) -> None:
    """Remove a directory's entry of any type, if it exists.

    `aside` is a directory on the same file system, to which trees are renamed first.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
        elif not _removed(folder, name):
            away = aside / f"gone-{secrets.token_hex(8)}"
            os.rename(name, away, src_dir_fd=folder)
            remove_tree(away)


def remove_entry(folder: int, name: str) -> None:
    """Remove a directory's entry of any type where it is, if it exists.  OSError.

    For overlayfs, which does not rename directories of lower layers.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if not is_folder:
        os.unlink(name, dir_fd=folder)
        return
    top = os.open(name, _FOLDER, dir_fd=folder)
    try:
        remove_content(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)


def remove_content(top: int) -> None:
    """Remove all that is in a directory, where it is.  OSError."""
    for entry in walk(top):
        if entry.leaving:
            os.rmdir(entry.name, dir_fd=entry.folder)
        elif not entry.is_folder:
            os.unlink(entry.name, dir_fd=entry.folder)


def _empty(top: int) -> None:
    fresh = (f".gone-{secrets.token_hex(8)}-{n}" for n in count())
    found = True
    while found:
        found = False
        with os.scandir(top) as entries:
            for entry in entries:
                found = True
                with suppress(FileNotFoundError):  # moved, or listed twice by readdir
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=top)
                    elif not _removed(top, entry.name):
                        _hand_up(top, entry.name, fresh)


def _hand_up(top: int, name: str, fresh: Iterator[str]) -> None:
    """Empty the directory `name` of `top`: delete files, move directories into `top`."""
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=folder)
                elif not _removed(folder, entry.name):
                    try:
                        os.rename(entry.name, next(fresh), src_dir_fd=folder, dst_dir_fd=top)
                    except OSError as e:
                        if e.errno not in {errno.ENOSPC, errno.EDQUOT}:
                            raise
                        remove_entry(folder, entry.name)  # no space for a name in `top`
    finally:
        os.close(folder)
    _removed(top, name)


def _removed(folder: int, name: str) -> bool:
    """Remove a directory; False if it is not empty."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as e:
        if e.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True
