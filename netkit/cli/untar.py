"""A tar stream from a container, unpacked below a folder: nothing in it leads outside.

Every path is walked component by component from the folder's descriptor, and no link on the
way is followed: what the container put into the archive cannot choose where we write.
Owners are not restored; permissions and times are, but for set-user-ID and set-group-ID bits where
the owner becomes another: as with chown(2), who ran a file as its owner must not become us.
"""

from __future__ import annotations

import os
import stat
import tarfile

from netkit.cli.tarreader import TarReader
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(archive: BinaryIO, folder: str, old: str, new: str) -> int:
    """Unpack with the first part `old` of every name replaced by `new`; the bytes of files.

    Failure for an entry that would leave the folder, and for a folder in a file's place or the
    other way round.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    total = 0
    late: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []
    try:
        tar = TarReader(archive)
        for entry in tar:
            parts = _parts(rebased(entry.name, old, new))
            if not parts:
                continue  # the folder itself
            total += _place(root, parts, entry, tar, old, new)
            if entry.isdir():
                late.append((parts, entry))
        # Children change a folder's times, and its mode may forbid to make them.
        for parts, entry in reversed(late):
            _finish_folder(root, parts, entry)
    finally:
        os.close(root)
    return total


def rebased(name: str, old: str, new: str) -> str:
    """ "old/x" as "new/x"; "." stands for the folder itself."""
    plain = name.removeprefix("./") if old != "." else name
    if old == ".":
        inside = plain.removeprefix("./").removeprefix(".")
        return f"{new}/{inside}" if new not in ("", ".") else inside
    head, slash, rest = plain.strip("/").partition("/")
    return f"{new}{slash}{rest}" if head == old else plain


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Failure(f"the archive from the container has an unsafe name: {name}")
    return parts


def _parent(root: int, parts: tuple[str, ...]) -> int:
    """A descriptor of the folder that holds `parts`; made where it is missing."""
    at = os.dup(root)
    for part in parts[:-1]:
        try:
            try:
                inner = os.open(part, DIRECTORY, dir_fd=at)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=at)
                inner = os.open(part, DIRECTORY, dir_fd=at)
        except OSError as error:
            raise Failure(
                f"cannot unpack {'/'.join(parts)}: {part} is no folder ({error.strerror})"
            ) from None
        finally:
            os.close(at)
        at = inner
    return at


def _place(
    root: int, parts: tuple[str, ...], entry: tarfile.TarInfo, tar: TarReader,
    old: str, new: str,
) -> int:  # fmt: skip
    parent, name = _parent(root, parts), parts[-1]
    try:
        _make_room(parent, name, entry)
        if entry.isdir():
            if not _exists(parent, name):
                os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.issym():
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.islnk():
            _link(root, _parts(rebased(entry.linkname, old, new)), parent, name)
        elif entry.isreg():
            _write(parent, name, entry, tar)
            return entry.size
        else:
            kind = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR,
                    tarfile.BLKTYPE: stat.S_IFBLK}[entry.type]  # fmt: skip
            device = os.makedev(entry.devmajor, entry.devminor)
            os.mknod(name, kind | (entry.mode & 0o777), device, dir_fd=parent)
    except KeyError:
        raise Failure(f"cannot unpack {'/'.join(parts)}: unknown type {entry.type!r}") from None
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise Failure(f"cannot unpack {'/'.join(parts)}: {why}") from None
    finally:
        os.close(parent)
    return 0


def _make_room(parent: int, name: str, entry: tarfile.TarInfo) -> None:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    is_folder = stat.S_ISDIR(found.st_mode)
    if is_folder and not entry.isdir():
        raise Failure(f"cannot overwrite directory {name} with non-directory")
    if entry.isdir() and not is_folder:
        raise Failure(f"cannot overwrite non-directory {name} with directory")
    if not is_folder:
        os.unlink(name, dir_fd=parent)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write(parent: int, name: str, entry: tarfile.TarInfo, tar: TarReader) -> None:
    with os.fdopen(os.open(name, CREATE, 0o600, dir_fd=parent), "wb") as file:
        for block in tar.content():
            file.write(block)
        file.flush()
        os.fchmod(file.fileno(), _mode(entry, os.fstat(file.fileno())))
        os.utime(file.fileno(), (entry.mtime, entry.mtime))


def _mode(entry: tarfile.TarInfo, made: os.stat_result) -> int:
    same = (entry.uid, entry.gid) == (made.st_uid, made.st_gid)
    return entry.mode & (0o7777 if same else 0o1777)


def _link(root: int, target: tuple[str, ...], parent: int, name: str) -> None:
    holder = _parent(root, target)
    try:
        os.link(target[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(holder)


def _finish_folder(root: int, parts: tuple[str, ...], entry: tarfile.TarInfo) -> None:
    parent = _parent(root, parts)
    try:
        folder = os.open(parts[-1], DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise Failure(f"cannot unpack {'/'.join(parts)}: {error.strerror}") from None
    finally:
        os.close(parent)
    try:
        os.fchmod(folder, _mode(entry, os.fstat(folder)))
        os.utime(folder, (entry.mtime, entry.mtime))
    finally:
        os.close(folder)
