"""See the files of a container that does not run, its mounts included.

The mounts are made in a mount namespace that only descriptors refer to: they show nowhere else, and
end with the view, also by a kill of the daemon.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netkit import threads
from netkit.errors import KernelError, NetkitError
from runtime.filetree.scoped_root import Root
from runtime.rootfs import mount

_CLONE_NEWNS = 0x20000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Bind:
    source: str
    destination: str  # in the container
    read_only: bool
    recursive: bool = True


@contextmanager
def view(place: Path, binds: Sequence[Bind]) -> Iterator[Root]:
    """The root file system mounted at `place` with these mounts in it.

    Missing mount points are created, as a start of the container would.  KernelError.
    """
    made: list[tuple[int, Root]] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(_entered(place, binds))
        except (OSError, NetkitError) as error:
            failed.append(error)

    # The namespace is one thread's: it ends at once, and the descriptors keep the namespace.
    thread = threads.once("netkit-view", work)
    thread.start()
    thread.join()
    for error in failed:
        if isinstance(error, NetkitError):
            raise error
        raise KernelError(f"cannot mount the container's volumes: {error}") from error
    if not made:
        raise KernelError("cannot mount the container's volumes: see the log")
    namespace, root = made[0]
    try:
        with root:
            yield root
    finally:
        os.close(namespace)


def _entered(place: Path, binds: Sequence[Bind]) -> tuple[int, Root]:
    """Descriptors of a new mount namespace of this thread, and of its root."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE)
    namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Root(place) as inside:
            for bind in sorted(binds, key=lambda b: b.destination.count("/")):
                _bind(inside, bind)
            os.fchdir(inside.fd)
        _pivot()
        return namespace, Root("/")
    except BaseException:
        os.close(namespace)
        raise


def _bind(inside: Root, bind: Bind) -> None:
    if stat.S_ISDIR(os.stat(bind.source).st_mode):
        inside.make_folder(bind.destination)
    else:
        inside.make_file(bind.destination)
    fd = inside.open(bind.destination, os.O_PATH)
    try:
        recursion = mount.MS_REC if bind.recursive else 0
        mount.mount(bind.source, f"/proc/self/fd/{fd}", "", mount.MS_BIND | recursion)
    finally:
        os.close(fd)
    if bind.read_only:
        fd = inside.open(bind.destination, os.O_PATH)  # of what is mounted there now
        try:
            flags = mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY
            mount.mount("", f"/proc/self/fd/{fd}", "", flags)
        finally:
            os.close(fd)


def _pivot() -> None:
    """Make the working directory the root, and drop all other mounts of the namespace: else it
    would keep those of other containers in use."""
    if _libc.pivot_root(b".", b"."):
        code = ctypes.get_errno()
        if code != errno.EINVAL:  # the host's root is an initramfs: its mounts stay meanwhile
            raise OSError(code, f"pivot_root: {os.strerror(code)}")
        _check(_libc.chroot(b"."), "chroot")
        return
    _check(_libc.umount2(b".", mount.MNT_DETACH), "umount2")
    os.chdir("/")


def _check(result: int, call: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
