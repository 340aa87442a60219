"""Mount the files of an image, to copy from it or to change it without a container."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.filetree.scoped_root import Root
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots


class Changing:
    """A writable layer over an image; its `upper` is taken once it is not `mounted` any more."""

    def __init__(self, snapshots: OverlaySnapshots, mounted: MountRefs, image: str) -> None:
        self._snapshots, self._mounted = snapshots, mounted
        self._id = secrets.token_hex(32)  # one of no container: swept after a kill, as theirs
        self.upper = snapshots.upper(self._id)
        self._image = image

    @contextmanager
    def mounted(self) -> Iterator[Root]:
        with self._mounted.borrowed(self._id) as root, Root(root) as inside:
            yield inside

    def __enter__(self) -> Changing:
        try:
            self._snapshots.create(self._id, self._image)
        except BaseException:  # e.g. the disk is full
            self._snapshots.remove(self._id)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._snapshots.remove(self._id)


class ImageMounts:
    """`image` is an id, "" for no image at all."""

    def __init__(self, snapshots: OverlaySnapshots, mounted: MountRefs) -> None:
        self._snapshots, self._mounted = snapshots, mounted

    def changing(self, image: str) -> Changing:
        return Changing(self._snapshots, self._mounted, image)

    @contextmanager
    def reading(self, image: str) -> Iterator[Root]:
        with self.changing(image) as change, change.mounted() as inside:
            yield inside
