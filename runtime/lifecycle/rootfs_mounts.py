"""Create mount points in a container's root file system, and the mounts for them.

As in Docker, the mount points that every container has are in a layer below its own, which is made
at `create`; others are created in its own layer.  Files that exist already are left as they are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime.container.model import Container, MountPoint
from runtime.container.mount_specs import clean
from runtime.filetree.scoped_root import Root
from runtime.oci.inputs import BundleMount
from runtime.rootfs import mount

_MADE = "tmpfs"  # in Container.extra: mount points of tmpfs that the image did not have
STICKY = 0o1777  # the mode of a tmpfs without one in its options
_FOLDERS = ("/dev/pts", "/dev/shm", "/proc", "/sys")
_FILES = ("/.dockerenv", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/dev/console")
_LINKS = {"/etc/mtab": "/proc/mounts"}
_HOST = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))  # faults of the host, not the request


def furnish_init(inside: Root) -> None:
    """Create the files and directories that every container has, in its `init` layer.

    InvalidSpec if the image has a file where a directory must be.
    """
    for path in _FOLDERS:
        folder(inside, path, "image")
    for path in _FILES:
        _file(inside, path, "image")
    for path, target in _LINKS.items():
        with _making("image", "create", path):
            inside.make_link(path, target)


def furnish(c: Container, inside: Root) -> None:
    """Create volume targets and the working directory, in the container's own layer as in Docker.

    InvalidSpec if the image has a file there.
    """
    for path, what in _own_folders(c):
        folder(inside, path, what)


def asks_for_folders(c: Container) -> bool:
    """Is there anything that `furnish` creates, unless the image has it?"""
    return any(_own_folders(c))


def lacks(c: Container, inside: Root) -> bool:
    """Is there anything for `furnish` to create or refuse?"""
    return not all(inside.is_folder(path) for path, _ in _own_folders(c))


def _own_folders(c: Container) -> Iterator[tuple[str, str]]:
    """(path, what it is) of directories that the container's configuration asks for."""
    mounted = {clean(m.destination) for m in c.mounts}
    mounted |= {clean(target) for target in c.host_config.tmpfs or ()}
    for target in c.config.volumes or {}:
        if clean(target) not in mounted:
            yield clean(target), f"volume {target}"
    if c.config.working_dir:
        yield clean(c.config.working_dir), "working directory"


def folder(inside: Root, path: str, what: str, mode: int = 0o755) -> None:
    """Create a directory.  InvalidSpec in dockerd's words if the path is something else."""
    with _making(what, "mkdir", path):
        inside.make_folder(path, mode)


def _file(inside: Root, path: str, what: str) -> None:
    """Create a file to mount on.  InvalidSpec if the path is something else."""
    with _making(what, "create", path):
        inside.make_file(path)


@contextmanager
def _making(what: str, verb: str, path: str) -> Iterator[None]:
    """Translate errors of creating a path: InvalidSpec, or KernelError for faults of the host
    (a full or broken disk)."""
    try:
        yield
    except (NotADirectoryError, FileExistsError):
        if verb == "mkdir":
            raise InvalidSpec(f"{what}: Cannot mkdir: {path} is not a directory") from None
        raise InvalidSpec(f"{what}: Cannot {verb}: {path}: not a directory") from None
    except (OSError, ValueError) as e:
        raise _refusal(f"{what}: Cannot {verb}: {path[:200]}", e) from e


def _refusal(what: str, error: OSError | ValueError) -> NetkitError:
    """KernelError for faults of the host (a full or broken disk), else InvalidSpec."""
    if isinstance(error, OSError):
        kind = KernelError if error.errno in _HOST else InvalidSpec
        return kind(f"{what}: {error.strerror or error}")
    return InvalidSpec(f"{what}: {error}")


def share_memory(place: Path, size: int) -> None:
    """Mount a tmpfs of `size` bytes as the /dev/shm that several containers share."""
    place.mkdir(mode=STICKY, exist_ok=True)
    if not os.path.ismount(place):
        flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
        mount.mount("shm", str(place), "tmpfs", flags, f"mode=1777,size={size}")


def unshare_memory(place: Path) -> None:
    """Unmount it if it is mounted; containers that have joined it keep their mounts."""
    if place.exists():
        mount.unmount(place)
        place.rmdir()


def network_files(c: Container, files: dict[str, Path], inside: Root) -> Iterator[BundleMount]:
    """Yield mounts of /etc/hosts, hostname and resolv.conf; read-only if the root is."""
    taken = {m.destination for m in c.mounts}
    access = "ro" if c.host_config.readonly_rootfs else "rw"
    for destination, source in files.items():
        if destination not in taken and source.exists():
            _file(inside, destination, "network files")
            yield BundleMount(
                source=str(source), destination=destination, options=("rbind", "rprivate", access)
            )


def place_tmpfs(c: Container, inside: Root, target: str, words: list[str]) -> int | None:
    """Create the mount point of a tmpfs; the mode to restore after the mount, None to keep it.

    runc gives a tmpfs the mode of its mount point, also if the options have mode=: so the directory
    has the requested mode while runc mounts.  One that is made here is like any other mount point:
    an image of the container has it.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("mode=")]
    try:
        wanted = int(given[-1], 8) if given else None
    except ValueError:
        raise InvalidSpec(f"invalid tmpfs option 'mode={given[-1]}' for {target}") from None
    with _making(f"tmpfs {target[:200]}", "mkdir", clean(target)):
        there, made = inside.mode(target), c.extra.setdefault(_MADE, [])
        if there is None:
            inside.make_folder(clean(target))
            there = 0o755
            made.append(clean(target))
        if wanted is None and clean(target) in made:
            wanted = STICKY
        if wanted is None or there == wanted:
            return None
        inside.chmod(target, wanted)
        return there


def bind(
    point: MountPoint, inside: Root, *, recursive_read_only: bool, source: str = ""
) -> BundleMount:
    """Render a mount of a path, a volume or an image, and create its mount point.

    `source`: what is bound, "" for the mount's own source.
    `recursive_read_only`: the kernel can make mounts below a read-only one read-only, too
    (mount_setattr(2), Linux 5.12).
    """
    # As Docker: -v creates a missing source, --mount (marked "mount") only with an option.
    words = set(point.mode.split(","))
    create = point.type == "bind" and ("mount" not in words or "create" in words)
    source = source or point.source
    is_folder = _source(source, make=create)
    make = folder if is_folder else _file
    make(inside, point.destination, f"mount {point.destination[:200]}")
    recursion = "bind" if "nonrecursive" in words else "rbind"
    return BundleMount(
        source=source,
        destination=point.destination,
        options=(recursion, point.propagation or "rprivate",
                 _access(point, words, recursive_read_only)),
    )  # fmt: skip


def _source(path: str, *, make: bool) -> bool:
    """Is the source of a bind mount a directory?  `make`: create one if there is none.

    InvalidSpec in dockerd's words, KernelError for a full or broken disk.
    """
    try:
        try:
            st = os.stat(path)
        except FileNotFoundError:
            if not make:
                raise InvalidSpec(
                    f'invalid mount config for type "bind": bind source path does not exist: {path}'
                ) from None
            os.makedirs(path, mode=0o755, exist_ok=True)
            st = os.stat(path)
    except (OSError, ValueError) as e:
        raise _refusal(f"error while creating mount source path '{path[:200]}'", e) from e
    return stat.S_ISDIR(st.st_mode)


def _access(point: MountPoint, words: set[str], recursive: bool) -> str:
    if point.rw:
        return "rw"
    if "readonlyforcerecursive" in words and not recursive:
        raise NetkitError(
            f"mount {point.destination}: bind-recursive=readonly needs Linux 5.12 or newer"
        )
    return "ro" if "readonlynonrecursive" in words or not recursive else "rro"
