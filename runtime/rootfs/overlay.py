"""Mount containers' writable layers over the layers of their images with overlayfs.

folder/ID/diff    upperdir: what the container has written
folder/ID/init    below it: the mount points that every container gets; mostly a link (`InitLayers`)
folder/ID/work    workdir of overlayfs
folder/ID/image   id of its image
folder/ID/unsynced  there is no need to sync it: it goes with the end of its run

As in Docker, what a container's mounts need is in a layer of its own, so that `diff` holds what the
container changed and nothing else.  Containers made before there was one have it all in `diff`.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from netkit.errors import Conflict, KernelError, NotFound
from netkit.kernel import release
from runtime.filetree.remove import remove_tree
from runtime.filetree.small_file import content, create
from runtime.filetree.walk import walk
from runtime.images.layers import Layers
from runtime.rootfs import mount as mounting
from runtime.rootfs.diff import RUNTIME_MOUNTPOINTS, FileChange, changes
from runtime.rootfs.init_layers import InitLayers
from runtime.rootfs.mount import overlay

log = logging.getLogger("netkit.rootfs")

# The mount option: overlayfs.rst, "Volatile mount", Linux 5.10.
VOLATILE = release.running() >= (5, 10)


class LayersOf(Protocol):
    layers: Layers

    def layers_of(self, image_id: str) -> tuple[str, ...]: ...

    def reading(self, image_id: str) -> AbstractContextManager[None]:
        """Its layers stay meanwhile.  NotFound."""
        ...


class OverlaySnapshots:
    """Thread-safe for different containers."""

    def __init__(self, folder: Path, images: LayersOf, init: InitLayers) -> None:
        self.folder = folder
        self._images = images
        self._shared = init
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._empty = folder / "empty"  # stands in for an image without layers
        self._empty.mkdir(mode=0o755, exist_ok=True)

    def create(
        self, id: str, image_id: str, *, synced: bool = True, furnished: bool = False
    ) -> bool:
        """`image_id` "": over no image.  NotFound.

        With `furnished` its `init` is that of other containers of the image, if there is one to
        share; returns whether it is.  Else it is empty.

        Not `synced` (--rm): unmounting does not wait until the file system below, of this
        container and of all others, is on the disk; neither does fsync(2) inside.
        """
        layers = self._images.layers_of(image_id) if image_id else ()  # NotFound, nothing is made
        home = self.folder / id
        home.mkdir(mode=0o710)
        shared = furnished and self._shared.link(home, layers)
        for layer in ("diff", "init")[: 1 if shared else 2]:
            (home / layer).mkdir(mode=0o755)  # whatever mode "/" has in the image, as in Docker
        (home / "work").mkdir(mode=0o700)
        create(home / "image", image_id.encode(), 0o600)
        if not synced and VOLATILE:
            create(home / "unsynced", b"", 0o600)
        return shared

    def known(self) -> set[str]:
        return {p.name for p in self.folder.iterdir() if p.name != "empty"}

    def mount(self, id: str, target: Path) -> None:
        """Mount the root file system, unless it is mounted.  KernelError if overlayfs refuses."""
        if not mounting.is_mounted(target):
            init = self._init(id)
            self._mount(id, target, upper="diff", above=[str(init)] if init else [])

    def mount_init(self, id: str, target: Path) -> None:
        """Mount the image with the container's `init` as the writable layer."""
        self._mount(id, target, upper="init", above=[])

    def offer_init(self, id: str) -> None:
        """Its `init` is complete and not mounted: other containers of the image may share it."""
        self._shared.offer(self.folder / id, self._layers(id))

    def mount_image(self, image_id: str, target: Path) -> None:
        """Mount an image by itself, read-only.  NotFound, KernelError if overlayfs refuses."""
        links = [self._images.layers.link(d) for d in reversed(self._images.layers_of(image_id))]
        if len(links) < 2:  # without an upper directory overlayfs needs two lower ones
            links.append(str(self._empty))
        try:
            overlay(
                str(target),
                base=self._images.layers.folder,
                lower=links,
                options="index=off,xino=off",
            )
        except OSError as e:
            raise KernelError(f"{e.filename}: {e.strerror}", errno=e.errno) from e

    def _init(self, id: str) -> Path | None:
        return self._shared.of(self.folder / id)

    def _mount(self, id: str, target: Path, *, upper: str, above: Sequence[str]) -> None:
        home = self.folder / id
        links = map(self._images.layers.link, reversed(self._layers(id)))
        volatile = (home / "unsynced").exists()
        if volatile:
            _forget_volatile(home / "work")
        try:
            # index and the like are off: a layer would depend on the files below it (overlayfs.rst)
            overlay(
                str(target),
                base=self._images.layers.folder,
                lower=[*above, *links] or [str(self._empty)],
                options=f"upperdir={home}/{upper},workdir={home}/work,"
                "index=off,xino=off,redirect_dir=off,metacopy=off"
                f"{',volatile' if volatile else ''}",
            )
        except OSError as e:
            raise KernelError(f"{e.filename}: {e.strerror}", errno=e.errno) from e
        if os.statvfs(target).f_flag & os.ST_RDONLY:
            # overlayfs could not make its work directory, and mounts read-only then
            mounting.unmount(target)
            full = os.statvfs(home).f_bavail == 0 or os.statvfs(home).f_favail == 0
            code = errno.ENOSPC if full else errno.EROFS
            raise KernelError(
                f"mounting the layer of {id}: {os.strerror(code).lower()}", errno=code
            )

    def folders(self, id: str, merged: Path) -> dict[str, str]:
        """Directories of the mount at `merged`, under the keys of GraphDriver.Data."""
        home, lower = self.folder / id, self._lower(id)
        found = {
            "ID": id,
            "LowerDir": ":".join(map(str, lower)),
            "MergedDir": str(merged),
            "UpperDir": str(home / "diff"),
            "WorkDir": str(home / "work"),
        }
        return found if lower else {k: v for k, v in found.items() if k != "LowerDir"}

    def unmount(self, target: Path) -> None:
        with suppress(FileNotFoundError):
            mounting.unmount(target)

    def remove(self, id: str) -> None:
        """Remove the layer; what cannot be removed is tried again when the daemon next starts."""
        try:
            remove_tree(self.folder / id)
        except OSError as error:
            log.warning("container %s: some files remain in %s: %s", id, self.folder, error)

    def changes(self, id: str) -> list[FileChange]:
        """Docker's diff: (path, 0 changed, 1 added, 2 deleted), sorted by path."""
        return changes(self.upper(id), self._lower(id), self.made_for_it(id))

    def reading(self, id: str) -> AbstractContextManager[None]:
        """What is below the layer stays meanwhile, though its container and image be removed.

        NotFound.
        """
        image = self._image(id)
        return self._images.reading(image) if image else nullcontext()

    def _image(self, id: str) -> str:
        try:
            return content(self.folder / id / "image").decode()
        except FileNotFoundError:
            raise NotFound(f"No such container: {id}") from None

    def _layers(self, id: str) -> tuple[str, ...]:
        image = self._image(id)
        return self._images.layers_of(image) if image else ()

    def _lower(self, id: str) -> list[Path]:
        """Trees below what it has written, the top one first."""
        init = self._init(id)
        layers = [self._images.layers.tree(d) for d in reversed(self._layers(id))]
        return [*([init] if init else []), *layers]

    def upper(self, id: str) -> Path:
        """The directory of what the container has written."""
        return self.folder / id / "diff"

    def made_for_it(self, id: str) -> frozenset[str]:
        """Paths in `upper` that are none of the container's changes."""
        return frozenset() if self._init(id) else RUNTIME_MOUNTPOINTS

    def size(self, id: str) -> int:
        """Bytes of the files the container has written, as far as they can be counted."""
        total = 0
        with suppress(FileNotFoundError):
            top = os.open(self.folder / id / "diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with suppress(Conflict):
                    for entry in walk(top):
                        total += entry.st.st_size if stat.S_ISREG(entry.st.st_mode) else 0
            finally:
                os.close(top)
        return total


def _forget_volatile(work: Path) -> None:
    """Remove the mark by which overlayfs refuses a layer that was mounted so before.

    It is for a crash of the host, which loses what was not synced: after that a container with
    --rm is removed, not started.
    """
    mark = work / "work/incompat/volatile"
    with suppress(FileNotFoundError):
        (mark / "dirty").unlink(missing_ok=True)
        mark.rmdir()
        mark.parent.rmdir()
