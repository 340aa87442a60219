"""Store unpacked layers: one directory per diff id, shared by all images that have it."""

from __future__ import annotations

import os
import secrets
import threading
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from netkit.errors import InvalidSpec, NotFound
from runtime.filetree.remove import remove_tree
from runtime.filetree.small_file import content
from runtime.filetree.spread import spread
from runtime.images.layer_unpack import unpack
from runtime.images.reference import DIGEST
from runtime.tar.compression import Unpacked
from runtime.tar.stream import Source


class StoredLayer(NamedTuple):
    """A layer in the store, unpacked and as a blob."""

    diff_id: str
    digest: str  # of its blob
    size: int  # bytes of its files


class Layers:
    """folder/HEX/diff is a layer's tree, folder/HEX/size its bytes, folder/HEX/tar those of its
    tar; folder/l/SHORT links to the tree.

    As in overlay2, the short links keep the options of over a hundred layers within one page, the
    limit of mount(2).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.short = folder / "l"
        self._new = folder / "new"
        self.short.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._new.mkdir(mode=0o700, exist_ok=True)
        spread(self._new)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def path(self, diff_id: str) -> Path:
        if not DIGEST.fullmatch(diff_id):
            raise InvalidSpec(f"invalid diff id {diff_id!r}")
        return self.folder / diff_id.removeprefix("sha256:")

    def tree(self, diff_id: str) -> Path:
        """Root of the layer's files; it may be missing."""
        return self.path(diff_id) / "diff"

    def link(self, diff_id: str) -> str:
        """Short path of the layer's tree, relative to `folder`, for mount options."""
        return f"l/{diff_id.removeprefix('sha256:')[:24]}"

    def has(self, diff_id: str) -> bool:
        """Is the layer complete, with its short link?"""
        link = self.folder / self.link(diff_id)
        return (self.path(diff_id) / "size").exists() and link.exists()

    def size(self, diff_id: str) -> int:
        try:
            return int(content(self.path(diff_id) / "size"))
        except FileNotFoundError:
            raise NotFound(f"layer {diff_id} is missing from the image store") from None

    def tar_size(self, diff_id: str) -> int | None:
        """Bytes of its uncompressed tar; None if that was not noted."""
        try:
            return int((self.path(diff_id) / "tar").read_text())
        except FileNotFoundError:
            return None

    def add(self, tar: Source, expected: str = "") -> str:
        """Unpack a layer; its diff id.  InvalidSpec if that is not `expected`."""
        fresh = self._new / secrets.token_hex(8)
        fresh.mkdir(mode=0o700)
        try:
            (fresh / "diff").mkdir(mode=0o755)
            with Unpacked(tar) as source:
                size = unpack(source, fresh / "diff")
                diff_id = source.digest
            if expected and diff_id != expected:
                raise InvalidSpec(
                    f"layer has diff id {diff_id}, and the image's configuration has {expected}"
                )
            for name, number in (("size", size), ("tar", source.given)):
                (fresh / name).touch(mode=0o600)
                (fresh / name).write_text(str(number))
            self._keep(fresh, diff_id)
        finally:
            remove_tree(fresh)
        return diff_id

    def take(self, tree: Path, diff_id: str, size: int) -> None:
        """Move a tree in overlayfs's form into the store, as the layer with this diff id.

        A layer that is there already is kept, and the tree removed.  OSError with EXDEV if the tree
        is on another file system.
        """
        fresh = self._new / secrets.token_hex(8)
        fresh.mkdir(mode=0o700)
        try:
            tree.rename(fresh / "diff")
            os.chown(fresh / "diff", 0, 0)  # as an unpacked one's: a layer does not have "/" itself
            (fresh / "diff").chmod(0o755)
            (fresh / "size").touch(mode=0o600)
            (fresh / "size").write_text(str(size))
            self._keep(fresh, diff_id)
        finally:
            remove_tree(fresh)

    def _keep(self, fresh: Path, diff_id: str) -> None:
        with self._locks[diff_id]:
            if self.has(diff_id):
                return  # added by a concurrent load
            target = self.path(diff_id)
            remove_tree(target)
            link = self.folder / self.link(diff_id)
            link.unlink(missing_ok=True)
            fresh.rename(target)
            # Last: `has` needs the link, so a layer that a kill left without it is replaced.
            link.symlink_to(f"../{target.name}/diff")

    def all(self) -> set[str]:
        return {f"sha256:{p.name}" for p in self.folder.iterdir() if len(p.name) == 64}

    def remove(self, diff_id: str) -> None:
        with self._locks[diff_id]:
            target = self.path(diff_id)
            if target.exists():
                away = self._new / secrets.token_hex(8)
                (self.folder / self.link(diff_id)).unlink(missing_ok=True)
                target.rename(away)  # atomically; removing the tree takes time
                remove_tree(away)

    def tidy(self) -> None:
        """Remove trees that interrupted additions and removals left, and dangling links."""
        for left in self._new.iterdir():
            remove_tree(left) if left.is_dir() else left.unlink()
        for link in self.short.iterdir():
            if not link.exists():
                link.unlink()

    def fd(self) -> int:
        return os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
