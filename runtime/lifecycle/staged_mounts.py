"""Mounts that are made for one run of a container, to be bound into it: of images, and of parts of
volumes.

RUN/staged/ID/N     of the Nth mount: an image, read-only
RUN/staged/ID/N.sub of its `subpath`

A subpath is opened within the volume or image, and that descriptor is bound: a link in it, or one
that a container puts there meanwhile, leads nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from netkit.errors import InvalidSpec, KernelError
from runtime.container.model import Container, MountPoint
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.rootfs import mount
from runtime.rootfs.overlay import OverlaySnapshots


class StagedMounts:
    def __init__(self, snapshots: OverlaySnapshots, place: Callable[[str], Path]) -> None:
        self._snapshots = snapshots
        self._place = place

    def source(self, c: Container, point: MountPoint, key: str = "") -> str:
        """What to bind into the container: the source itself where nothing has to be staged.

        `key`: see `up`.
        """
        if point.subpath:
            return f"{self._at(c, point, key)}.sub"
        return str(self._at(c, point, key)) if point.type == "image" else point.source

    def _at(self, c: Container, point: MountPoint, key: str) -> Path:
        number = next(n for n, each in enumerate(c.mounts) if each is point)
        return self._place(key or c.id) / str(number)

    def up(self, c: Container, key: str = "") -> None:
        """Mount them; `down` undoes it, also after an error.  InvalidSpec for a bad subpath.

        `key`: the directory below RUN/staged, "" for that of the container's runs.
        """
        for point in c.mounts:
            if point.type == "image" or point.subpath:
                self._stage(point, self._at(c, point, key))

    def _stage(self, point: MountPoint, at: Path) -> None:
        at.parent.mkdir(mode=0o700, exist_ok=True)
        source = point.source
        if point.type == "image":
            at.mkdir(mode=0o700, exist_ok=True)
            if not os.path.ismount(at):
                self._snapshots.mount_image(point.image, at)
            source = str(at)
        if not point.subpath:
            return
        target = f"{at}.sub"
        with Root(source) as root:
            fd = _opened(root, point)
            try:
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    os.makedirs(target, exist_ok=True)
                else:
                    Path(target).touch()
                if not os.path.ismount(target):
                    mount.mount(f"/proc/self/fd/{fd}", target, "", mount.MS_BIND | mount.MS_REC)
            except OSError as error:
                raise KernelError(f"mount {point.destination}: {error}") from error
            finally:
                os.close(fd)

    def down(self, key: str) -> None:
        """Unmount what is staged for a container; safe to repeat."""
        place = self._place(key)
        if not place.exists():
            return
        for point in mount.points(place):
            mount.unmount(point)
        if left := mount.points(place):
            raise KernelError(f"cannot unmount {left[0]}")
        remove_tree(place)


def _opened(root: Root, point: MountPoint) -> int:
    try:
        return root.open(point.subpath, os.O_PATH)
    except OSError as error:
        if error.errno in HOST_ERRORS:
            raise KernelError(f"mount {point.destination}: {error}") from error
        raise InvalidSpec(
            f"cannot access path {point.subpath} of {point.type} {point.name}: "
            f"{(error.strerror or '').lower()}"
        ) from None
