"""Writable layers of containers, mounted over the layers of their images by overlayfs.

folder/ID/diff    what the container has written (upperdir)
folder/ID/work    overlayfs's own
folder/ID/image   id of the image it stands on
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from netkit.errors import KernelError
from runtime.images.layers import Layers
from runtime.rootfs import mounting

_PAGE = 4096 - 1  # mount(2) takes one page of data
_OPAQUE = "trusted.overlay.opaque"
# What every container gets to mount on, which is no change its user made
_FURNITURE = frozenset(
    (
        "/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/proc", "/sys",
        "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf",
    )
)  # fmt: skip


class LayersOf(Protocol):
    layers: Layers

    def layers_of(self, image_id: str) -> tuple[str, ...]: ...


class Snapshots:
    """Thread-safe for different containers."""

    def __init__(self, folder: Path, images: LayersOf) -> None:
        self.folder = folder
        self._images = images
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._empty = folder / "empty"  # stands in for an image without layers
        self._empty.mkdir(mode=0o755, exist_ok=True)

    def create(self, id: str, image_id: str) -> None:
        home = self.folder / id
        home.mkdir(mode=0o710)
        (home / "diff").mkdir(mode=0o755)
        (home / "work").mkdir(mode=0o700)
        (home / "image").write_text(image_id)
        if layers := self._images.layers_of(image_id):
            top = self._images.layers.path(layers[-1]) / "diff"
            st = top.stat()
            os.chown(home / "diff", st.st_uid, st.st_gid)
            (home / "diff").chmod(stat.S_IMODE(st.st_mode))

    def known(self) -> set[str]:
        return {p.name for p in self.folder.iterdir() if p.name != "empty"}

    def mount(self, id: str, target: Path) -> None:
        """KernelError if overlayfs will not; nothing to do if it is mounted."""
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

    def unmount(self, target: Path) -> None:
        with suppress(FileNotFoundError):
            mounting.unmount(target)

    def remove(self, id: str) -> None:
        shutil.rmtree(self.folder / id, ignore_errors=True)

    def changes(self, id: str) -> list[tuple[str, int]]:
        """Docker's diff: (path, 0 changed, 1 added, 2 deleted), sorted by path."""
        home = self.folder / id
        layers = self._images.layers_of((home / "image").read_text())
        lower = [self._images.layers.path(d) / "diff" for d in reversed(layers)]
        return sorted(_changes(home / "diff", lower, ""))

    def size(self, id: str) -> int:
        """Bytes of the files the container has written."""
        total = 0
        for folder, _, names in os.walk(self.folder / id / "diff"):
            for name in names:
                with suppress(FileNotFoundError):
                    st = os.lstat(os.path.join(folder, name))
                    total += st.st_size if stat.S_ISREG(st.st_mode) else 0
        return total


def _changes(folder: Path, lower: list[Path], inside: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder):
        path = f"{inside}/{entry.name}"
        st = entry.stat(follow_symlinks=False)
        below = _lower(lower, path)
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            if below is not None:
                yield path, 2
            continue
        if (path in _FURNITURE and not stat.S_ISREG(st.st_mode)) or (
            path in _FURNITURE and st.st_size == 0
        ):
            continue
        children: list[tuple[str, int]] = []
        if entry.is_dir(follow_symlinks=False):
            hidden = lower if below is not None and stat.S_ISDIR(below.st_mode) else []
            if hidden and _opaque(entry.path):
                children += _gone(hidden, path, Path(entry.path))
                hidden = []
            children += _changes(Path(entry.path), hidden, path)
        if below is None:
            if children or not (path == "/etc" and _only_furniture(entry.path)):
                yield path, 1
        elif children or not _same_folder(st, below):
            yield path, 0
        yield from children


def _same_folder(st: os.stat_result, below: os.stat_result) -> bool:
    """A directory that is here only because something was made in it and taken away again."""
    return (
        stat.S_ISDIR(st.st_mode)
        and stat.S_ISDIR(below.st_mode)
        and (st.st_mode, st.st_uid, st.st_gid) == (below.st_mode, below.st_uid, below.st_gid)
        and st.st_mtime_ns == below.st_mtime_ns
    )


def _only_furniture(folder: str) -> bool:
    return all(f"/etc/{name}" in _FURNITURE for name in os.listdir(folder))


def _gone(lower: list[Path], inside: str, folder: Path) -> Iterator[tuple[str, int]]:
    """What an opaque directory hides and does not have itself."""
    have = set(os.listdir(folder))
    for layer in lower:
        with suppress(OSError):
            for name in os.listdir(f"{layer}{inside}"):
                if name not in have and _lower(lower, f"{inside}/{name}") is not None:
                    have.add(name)
                    yield f"{inside}/{name}", 2


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _lower(layers: list[Path], path: str) -> os.stat_result | None:
    """What the image has at the path, looking through its layers from the top."""
    parts = path.strip("/").split("/")
    for layer in layers:
        at = str(layer)
        for n, part in enumerate(parts):
            at = f"{at}/{part}"
            try:
                st = os.lstat(at)
            except OSError:
                break
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                return None
            if n == len(parts) - 1:
                return st
            if not stat.S_ISDIR(st.st_mode):
                return None
            if _opaque(at) and not os.path.lexists(f"{at}/{parts[n + 1]}"):
                return None
    return None
