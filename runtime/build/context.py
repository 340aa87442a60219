"""Build contexts: the tree of files that COPY and ADD read, received into a folder of the store.

A context is unpacked below a folder that belongs to builds alone, with the archive's owners, modes
and times, so that digests see what the client sent; nothing in it can reach outside.  It is removed
when its build ends, and at the start of a daemon that was killed meanwhile (`sweep`).
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from netkit.errors import NotSupported
from runtime.apitypes import Upload
from runtime.build.errors import BuildFailed
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import Root


class BuildContext:
    """An unpacked context; a context manager that removes it.

    `root` is None for a build that has a Dockerfile and nothing else; COPY and ADD of files then
    fail.
    """

    def __init__(self, folder: Path, root: Root | None, dockerfile: bytes) -> None:
        self._folder = folder
        self.root = root
        self.dockerfile = dockerfile

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.root is not None:
            self.root.close()
        remove_tree(self._folder)

    def read(self, name: str, limit: int) -> bytes:
        """Content of a regular file, at most `limit` bytes; BuildFailed if there is none."""
        found = self.root.read_file(name, limit) if self.root is not None else b""
        if not found:
            raise BuildFailed(f"Cannot locate specified Dockerfile: {name}")
        return found


def receive(tar: Upload, folder: Path, *, dockerfile: str) -> BuildContext:
    """Unpack what a client sends: a tar, plain or compressed with gzip, bzip2, xz or zstd.

    `folder` holds contexts of all builds; `dockerfile` is the name in the archive.  The Dockerfile
    and .dockerignore are removed from the context if .dockerignore names them, as dockerd does.
    BuildFailed (no such Dockerfile), InvalidSpec (what is in the archive), KernelError (the disk),
    ConnectionError (the client has gone).
    """
    raise NotSupported("build contexts are not supported yet")


def fetch(remote: str, folder: Path, *, dockerfile: str, check: Upload | None) -> BuildContext:
    """Fetch the context from `remote`: http(s) of a tar or a Dockerfile, or a git repository.

    `check` is asked now and then whether the client is still there.  Errors as for `receive`.
    """
    raise NotSupported("remote build contexts are not supported yet")


def sweep(folder: Path) -> None:
    """Remove contexts that builds of a killed daemon have left, at the start."""
    if folder.is_dir():
        for left in folder.iterdir():
            remove_tree(left) if left.is_dir() else left.unlink()
