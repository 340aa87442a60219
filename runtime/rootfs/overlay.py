"""Mount containers' writable layers over the layers of their images with overlayfs.

folder/ID/diff    upperdir: what the container has written
folder/ID/work    workdir of overlayfs
folder/ID/image   id of its image
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from netkit.errors import Conflict, KernelError
from runtime.filetree.remove import remove_tree
from runtime.filetree.walk import walk
from runtime.images.layers import Layers
from runtime.rootfs import mount as mounting
from runtime.rootfs.diff import FileChange, changes

log = logging.getLogger("netkit.rootfs")

_PAGE = 4096 - 1  # mount(2) takes one page of data


class LayersOf(Protocol):
    layers: Layers

    def layers_of(self, image_id: str) -> tuple[str, ...]: ...


class OverlaySnapshots:
    """Thread-safe for different containers."""

    def __init__(self, folder: Path, images: LayersOf) -> None:
        self.folder = folder
        self._images = images
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._empty = folder / "empty"  # stands in for an image without layers
        self._empty.mkdir(mode=0o755, exist_ok=True)

    def create(self, id: str, image_id: str) -> None:
        self._images.layers_of(image_id)  # NotFound before anything is made
        home = self.folder / id
        home.mkdir(mode=0o710)
        (home / "diff").mkdir(mode=0o755)  # whatever mode "/" has in the image, as in Docker
        (home / "work").mkdir(mode=0o700)
        (home / "image").touch(mode=0o600)
        (home / "image").write_text(image_id)

    def known(self) -> set[str]:
        return {p.name for p in self.folder.iterdir() if p.name != "empty"}

    def mount(self, id: str, target: Path) -> None:
        """Mount the root file system, unless it is mounted.  KernelError if overlayfs refuses.

        Layers are named relative to a descriptor of their directory (/proc/self/fd/N/l/SHORT), so
        that the options fit into one page wherever the data root is.
        """
        if os.path.ismount(target):
            return
        home = self.folder / id
        layers = self._images.layers_of((home / "image").read_text())
        fd = self._images.layers.fd()
        try:
            base = f"/proc/self/fd/{fd}"
            lower = ":".join(f"{base}/{self._images.layers.link(d)}" for d in reversed(layers))
            data = (
                f"lowerdir={lower or self._empty},upperdir={home}/diff,workdir={home}/work,"
                "index=off,xino=off"
            )
            if len(data) > _PAGE:
                raise KernelError(f"image of container {id[:12]} has too many layers to mount")
            mounting.mount("overlay", str(target), "overlay", 0, data)
        except OSError as e:
            raise KernelError(f"{e.filename}: {e.strerror}", errno=e.errno) from e
        finally:
            os.close(fd)

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
        return changes(self.folder / id / "diff", self._lower(id))

    def _lower(self, id: str) -> list[Path]:
        """Trees of its image's layers, the top one first."""
        layers = self._images.layers_of((self.folder / id / "image").read_text())
        return [self._images.layers.tree(d) for d in reversed(layers)]

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
