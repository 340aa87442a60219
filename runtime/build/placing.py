"""Write what COPY and ADD found to its place in an image, as dockerd chooses it."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
from pathlib import Path
from typing import BinaryIO

from netkit.errors import InvalidSpec, NetkitError, NotSupported
from runtime.build.errors import UNPACKING, BadArchive, BuildFailed, failed
from runtime.build.finding import Found
from runtime.build.owners import ROOT, Owner
from runtime.build.scope import is_folder, outside, resolve
from runtime.build.unpack import unpack
from runtime.build.whiteouts import hide, is_whiteout
from runtime.build.writing import write_file, write_tree
from runtime.cancellation import Check, unchecked
from runtime.filetree.scoped_root import Root
from runtime.tar.compression import Unpacked
from runtime.tar.stream import Tar

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SNIFFED = 32 << 10  # bytes that Go's gzip reader gives at a time: what is cut before is no archive
_ZSTD = (b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18")  # dockerd's ADD copies it


def place(
    found: Found,
    image: Root,
    path: str,
    owner: Owner | None,
    aside: Path | None,
    check: Check = unchecked,
) -> None:
    """Write a source to `path` of the image, absolute, with the slash at its end if it has one.

    `owner` None keeps the source's.  `aside`, a directory for temporary files, says that an archive
    is unpacked.  BuildFailed in Docker's words, with paths of the image for the host's.
    """
    try:
        target = _resolved(image, path)
        if found.is_folder:
            _folder(found, image, target, owner, check)
        elif aside is not None and not found.is_url and _is_archive(found):
            _archive(found, image, target, aside, check)
        else:
            _file(found, image, target, path.endswith("/"), owner, check)
    except NetkitError as error:
        raise BuildFailed(f"failed to copy files: {error}") from error
    except OSError as error:
        raise failed("failed to copy files: open", found.path, error) from error


def _resolved(image: Root, path: str) -> str:
    if outside(path.lstrip("/")):
        raise BuildFailed(f"evalSymlinksInScope: {path} is not in /")
    try:
        return resolve(image, path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BuildFailed(f"evalSymlinksInScope: too many links in {path}") from error
        raise failed("lstat", path.rstrip("/"), error) from error


def _folder(found: Found, image: Root, target: str, owner: Owner | None, check: Check) -> None:
    existed = is_folder(image, target)
    try:
        into = _made(image, target, ROOT)
    except OSError as error:
        raise BuildFailed(f"failed to copy directory: {failed('mkdir', target, error)}") from error
    try:
        top = found.root.open(found.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with Root(f"/proc/self/fd/{into}") as below:
                write_tree(top, below, owner, check)
        finally:
            os.close(top)
        if owner is not None and not existed:
            os.chown(f"/proc/self/fd/{into}", *owner)
    except BuildFailed as error:
        raise BuildFailed(f"failed to copy directory: {UNPACKING}{error}") from error
    except OSError as error:
        raise failed("failed to copy directory: open", found.path, error) from error
    finally:
        os.close(into)


def _file(
    found: Found, image: Root, target: str, slash: bool, owner: Owner | None, check: Check
) -> None:
    if slash or is_folder(image, target):
        target = posixpath.join(target, found.name)
    folder, name = posixpath.split(target)
    try:
        above = _made(image, folder, owner or ROOT)
    except OSError as error:
        operation = "mkdir" if owner is None else "failed to create new directory: mkdir"
        raise failed(operation, folder, error) from error
    try:
        if is_whiteout(name):
            hide(above, name)
            return
        there, last = found.root.parent(found.path)
        try:
            write_file(there, last, above, name, owner, check)
        finally:
            os.close(there)
    except OSError as error:
        raise failed(f"failed to copy file: {UNPACKING}open", target, error) from error
    finally:
        os.close(above)


def _archive(found: Found, image: Root, target: str, aside: Path, check: Check) -> None:
    try:
        into = _made(image, target, ROOT)
    except OSError as error:
        pivot = f"{target}/.pivot_root"
        raise failed(f"{UNPACKING}Error setting up pivot dir: mkdir", pivot, error) from error
    try:
        with _opened(found) as file, Root(f"/proc/self/fd/{into}") as below:
            unpack(_Watched(file, check), below, aside, whiteouts=True)
    except (BadArchive, InvalidSpec, NotSupported) as error:
        raise BuildFailed(f"{UNPACKING}{error}") from error
    finally:
        os.close(into)


def _is_archive(found: Found) -> bool:
    """By content, as dockerd decides: something it can unpack, with a member that it can read."""
    with _opened(found) as file:
        head = file.read(4)
        if not head or head.startswith(_ZSTD[0]) or head[1:] == _ZSTD[1]:
            return False
        file.seek(0)
        try:
            with Unpacked(file) as stream:
                begun = _Begun(stream.read(_SNIFFED), stream)
                return next(iter(Tar(begun)), None) is not None
        except (InvalidSpec, NotSupported):
            return False


class _Watched:
    """A file that is read as long as somebody waits for it."""

    def __init__(self, file: BinaryIO, check: Check) -> None:
        self._file, self._check = file, check

    def read(self, size: int = -1, /) -> bytes:
        self._check()
        return self._file.read(size)


class _Begun:
    """A stream, and what was read of it already."""

    def __init__(self, data: bytes, rest: Unpacked) -> None:
        self._data, self._rest = data, rest

    def read(self, size: int = -1, /) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data or self._rest.read(size)


def _opened(found: Found) -> BinaryIO:
    """A regular file; what is none is empty here."""
    there, last = found.root.parent(found.path)
    try:
        fd = os.open(last, _FILE, dir_fd=there)
    finally:
        os.close(there)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return io.BytesIO()
    return open(fd, "rb")


def _made(image: Root, path: str, owner: Owner) -> int:
    """Descriptor of a folder whose path has no links; what is made gets the owner.  OSError."""
    here = image.open("/", os.O_PATH | os.O_DIRECTORY)
    for name in filter(None, path.split("/")):
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=here)
                os.chown(name, *owner, dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                pass
            below = os.open(name, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here
