"""Stat a path in a container's file system, never outside its root.

The container may run and change files concurrently: every step is relative to a descriptor, the
last component of a path is never followed, and types are checked with fstat after opening.  The
same holds for `tar_out` and `tar_in`.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass

from netkit.errors import InvalidSpec, KernelError, NotFound
from netkit.timestamps import rfc3339
from runtime.filetree.scoped_root import HOST_ERRORS, Root


def stat_path(root: Root, path: str) -> PathStat:
    """Stat the path itself; a trailing slash or "/." means the directory a link leads to."""
    folder, name, st = look(root, path)
    try:
        link = ""
        if stat.S_ISLNK(st.st_mode):
            link = _resolved(root, path, os.readlink(name, dir_fd=folder))
    finally:
        os.close(folder)
    return PathStat(
        name=_shown_name(path),
        size=st.st_size,
        mode=st.st_mode,
        mtime=rfc3339(st.st_mtime_ns),
        link=link,
    )


def _shown_name(path: str) -> str:
    """The base name, as Go's filepath.Base has it: "." for what ends with "/."."""
    if path.endswith("/."):
        return "."
    return posixpath.basename(posixpath.normpath("/" + path)) or "/"


def _resolved(root: Root, path: str, target: str) -> str:
    """The final target of a link, as a path in the container: the client stats that next."""
    seen = posixpath.normpath("/" + path.lstrip("/"))
    for _ in range(40):  # the kernel's limit, path_resolution(7)
        seen = posixpath.normpath(posixpath.join(posixpath.dirname(seen), target))
        try:
            folder, name = root.parent(seen)
        except OSError as error:
            return _unless_the_host(error, seen)
        try:
            target = os.readlink(name, dir_fd=folder)
        except OSError as error:
            return _unless_the_host(error, seen)
        finally:
            os.close(folder)
    return seen


def _unless_the_host(error: OSError, seen: str) -> str:
    """The path of a dangling link's target; raises errors that are the host's."""
    if error.errno in HOST_ERRORS:
        raise error
    return seen


def look(root: Root, path: str) -> tuple[int, str, os.stat_result]:
    """(folder descriptor, name in it, what it is).  NotFound in Docker's words."""
    clean = posixpath.normpath("/" + path)
    wants_folder = path.endswith(("/", "/."))
    try:
        if clean == "/" or wants_folder:
            folder, name = root.open(clean, os.O_RDONLY | os.O_DIRECTORY), "."
        else:
            folder, name = root.parent(clean)
    except FileNotFoundError:
        raise missing(path) from None
    except NotADirectoryError:
        raise InvalidSpec(f"{path} is not a directory") from None
    except OSError as e:
        kind = KernelError if e.errno in HOST_ERRORS else InvalidSpec
        raise kind(f"{path[:200]}: {e.strerror}") from e
    try:
        return folder, name, os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.close(folder)
        raise missing(path) from None
    except BaseException:
        os.close(folder)
        raise


def missing(path: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """A file in a container.  `mode` is a Unix st_mode; `link` the target of a symlink."""

    name: str
    size: int
    mode: int
    mtime: str  # RFC 3339
    link: str = ""
