"""The files that COPY and ADD read: of a context, of an image, or one that was downloaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Protocol

from runtime import limits
from runtime.build import digests
from runtime.build.scope import link_target
from runtime.cancellation import Check
from runtime.filetree.scoped_root import Root
from runtime.filetree.walk import Path, walk


class Files(Protocol):
    """A tree of files.  Paths are absolute in it; those of directories lead over no link."""

    def root(self, path: str) -> Root:
        """Where to read what is at `path`, and below it.  It belongs to the tree.  BuildFailed."""
        ...

    def target(self, path: str) -> str | None:
        """Where a link leads; "" for what is no link, None for what does not exist.  OSError."""
        ...

    def names(self, folder: str, *, folders: bool) -> list[str]:
        """What is in a directory, sorted; `folders`: only directories, of links none.  OSError."""
        ...

    def walked(self) -> Iterator[str]:
        """All paths, without the slash at their beginning, in the order of a walk."""
        ...

    def digest(self, path: str, name: str, check: Check) -> tuple[bool, str]:
        """(is it a directory, its digest under `name`).  OSError, BuildFailed."""
        ...


class FilesOnDisk:
    """What is below a directory."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def root(self, path: str) -> Root:
        return self._root

    def target(self, path: str) -> str | None:
        return link_target(self._root, path)

    def names(self, folder: str, *, folders: bool) -> list[str]:
        top = self._root.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(top) as entries:
                return sorted(
                    e.name for e in entries if not folders or e.is_dir(follow_symlinks=False)
                )
        finally:
            os.close(top)

    def walked(self) -> Iterator[str]:
        top = self._root.open("/", os.O_RDONLY | os.O_DIRECTORY)
        path = Path("", limits.PATH_BYTES)
        try:
            for entry in walk(top):
                if entry.leaving:
                    path.up()
                    continue
                name = path.of(entry.name)
                if entry.is_folder:
                    path.down(entry.name)
                yield name
        finally:
            os.close(top)

    def digest(self, path: str, name: str, check: Check) -> tuple[bool, str]:
        if path == "/":
            return True, self._tree(path, name, check)
        folder, last = self._root.parent(path)
        try:
            st = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                return True, self._tree(path, name, check)
            return False, "file:" + digests.of_file(folder, last, name, check)
        finally:
            os.close(folder)

    def _tree(self, path: str, name: str, check: Check) -> str:
        top = self._root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return "dir:" + digests.of_tree(top, name, check)
        finally:
            os.close(top)
