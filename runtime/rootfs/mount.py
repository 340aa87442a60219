"""Call mount(2) and umount2(2), and list mounts."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from netkit import threads

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_PRIVATE = 1, 2, 4, 8, 32, 1 << 18
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 1 << 10, 1 << 11, 1 << 12, 1 << 14
MS_RELATIME = 1 << 21
MNT_DETACH = 2
_CLONE_FS = 0x200
_SHORT = 2048  # bytes of mount options, well within a page
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """OSError as mount(2) has it, and EINVAL for a NUL, at which C would end a string."""
    if any("\0" in text for text in (source, target, kind, data)):
        raise OSError(errno.EINVAL, f"mount {kind}: {os.strerror(errno.EINVAL)}", target)
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        data.encode(),
    )
    if done:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {kind}: {os.strerror(code)}", target)


def overlay(target: str, *, base: Path, lower: Sequence[str], options: str) -> None:
    """Mount overlayfs.  `lower`: absolute paths, or relative to `base`; the top one first.

    mount(2) takes one page of data, which the absolute paths of some 90 layers fill.  So relative
    ones are resolved in `base`, as the working directory of a thread that has one of its own; few
    need no thread.
    """
    whole = f"lowerdir={':'.join(os.path.join(base, path) for path in lower)},{options}"
    if len(os.fsencode(whole)) < _SHORT and not set(str(base)) & set(",:\\"):
        mount("overlay", target, "overlay", 0, whole)
        return
    data = f"lowerdir={':'.join(lower)},{options}"
    failed: list[BaseException] = []

    def there() -> None:
        try:
            if _libc.unshare(_CLONE_FS):
                code = ctypes.get_errno()
                raise OSError(code, f"unshare: {os.strerror(code)}", target)
            os.chdir(base)
            mount("overlay", target, "overlay", 0, data)
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread
            failed.append(error)

    thread = threads.once("netkit-mount", there)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def is_mounted(target: Path) -> bool:
    """Is a file system of its own mounted at a directory?  Two calls; os.path.ismount makes six.

    Not of bind mounts of the file system that the directory is in.
    """
    try:
        return os.lstat(target).st_dev != os.lstat(target.parent).st_dev
    except FileNotFoundError:
        return False


def unmount(target: Path) -> bool:
    """Unmount lazily (MNT_DETACH); False if nothing was mounted there."""
    if not _libc.umount2(os.fsencode(target), MNT_DETACH):
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOENT}:
        return False
    raise OSError(code, f"unmount: {os.strerror(code)}", str(target))


def points(below: Path) -> list[Path]:
    """Mount points below a directory, innermost first."""
    prefix = str(below).rstrip("/") + "/"
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].replace("\\040", " ")  # proc(5): blanks are escaped
        if point.startswith(prefix):
            found.append(Path(point))
    return sorted(found, key=lambda p: len(p.parts), reverse=True)
