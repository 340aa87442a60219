"""Resolve paths of images and contexts, also where not all of a path exists."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from runtime.filetree.scoped_root import Root

_LINKS = 255  # that one path may lead over; dockerd: the same


def resolve(root: Root, path: str) -> str:
    """The absolute path below `root` that `path` means, its links followed; the last, too.

    What does not exist is taken as it is written: a link to nothing leads there.  OSError (ELOOP
    for links in a circle, ENOTDIR for a path through a file).  The answer is a name, not a claim:
    it is to be opened below `root`.
    """
    return resolved(partial(link_target, root), path)


def resolved(target_of: Callable[[str], str | None], path: str) -> str:
    """The same of files of which `target_of` says what `link_target` does."""
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    done: list[str] = []
    todo = path.split("/")[::-1]
    links, there = 0, True
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            done, there = done[:-1], True
            continue
        done.append(part)
        target = target_of("/" + "/".join(done)) if there else None
        there = target is not None
        if target:
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            done = [] if target.startswith("/") else done[:-1]
            todo += target.split("/")[::-1]
    return "/" + "/".join(done)


def link_target(root: Root, path: str) -> str | None:
    """Where a link leads; "" for what is no link, None for what does not exist."""
    try:
        folder, name = root.parent(path)
    except FileNotFoundError:
        return None
    try:
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            return ""
        raise
    finally:
        os.close(folder)


def is_folder(root: Root, path: str) -> bool:
    """Whether a directory is there.  OSError, but for what does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.close(root.open(path, os.O_PATH | os.O_DIRECTORY))
        return True
    return False


def outside(path: str) -> bool:
    """Whether a relative path leads outside by its dots, before any link is looked at."""
    clean = posixpath.normpath(path)
    return clean == ".." or clean.startswith("../")
