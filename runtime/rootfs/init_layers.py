"""Layers with the mount points that every container has, shared by the containers of an image.

init/KEY           such a layer, over one stack of image layers
snapshots/ID/init  a link to one, or a directory of the container's own

To make one takes a mount, a dozen files and an unmount.  So from the second container of an image
on its layer is kept for the next ones, which then need none of that.  (Not from the first: an image
that a build made on its way has one container.)  Overlayfs never changes a lower layer.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from netkit import threads
from netkit.gone import if_there
from runtime.filetree.remove import remove_tree

KEPT = 64  # layers that no container uses, at most
SEEN = 256  # images whose first container is remembered
# Of what is made in them: a daemon of another version does not use those of this one.
VERSION = 1
_AWAY = "."  # begins names of layers that are being removed


class InitLayers:
    """Thread-safe.  `users`: the folder of containers' layers."""

    def __init__(self, folder: Path, users: Path) -> None:
        self._folder, self._users = folder, users
        self._lock = threading.Lock()  # while layers are linked, added or removed
        self._seen: dict[str, None] = {}  # keys of images that have had a container
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(folder):
            if name.startswith(_AWAY):
                remove_tree(folder / name)

    def link(self, home: Path, layers: Sequence[str]) -> bool:
        """Link the layer to `home`, a container's folder; False if there is none yet.

        `layers`: diff ids of the image's.
        """
        key = _key(layers)
        with self._lock:
            if not (self._folder / key).is_dir():
                return False
            self._link(home / "init", key)
        return True

    def of(self, home: Path) -> Path | None:
        """The directory of a container's layer, shared or not; None if there is none."""
        own = home / "init"
        try:
            shared = _shared(home)
        except FileNotFoundError:
            return None
        return self._folder / shared if shared else own

    def offer(self, home: Path, layers: Sequence[str]) -> None:
        """Share the layer of a container, which is complete and mounted nowhere, from now on.

        Unless it is the image's first one, or another one is shared.  OSError if the container is
        left without one.
        """
        key, own = _key(layers), home / "init"
        with self._lock:
            if key not in self._seen:
                self._seen[key] = None
                for old in [*self._seen][:-SEEN]:
                    del self._seen[old]
                return
        try:
            _sync(own)
        except OSError:
            return  # e.g. the disk is full: it stays the container's own
        with self._lock:
            if os.path.lexists(self._folder / key):
                return
            own.rename(self._folder / key)
            self._link(own, key)
            self._sweep(key)

    def _link(self, at: Path, key: str) -> None:
        at.symlink_to(os.path.relpath(self._folder / key, at.parent))

    def _sweep(self, fresh: str) -> None:
        """Remove those that no container uses, where there are too many."""
        names = set(os.listdir(self._folder)) - {fresh}
        if len(names) <= KEPT:
            return
        try:
            for user in self._users.iterdir():
                with if_there():  # it may be on its way
                    names.discard(_shared(user))
            for name in names:
                away = self._folder / f"{_AWAY}{secrets.token_hex(8)}"
                (self._folder / name).rename(away)
                remove_tree(away)
        except OSError as error:  # e.g. the disk is full: the next time, or the next daemon
            threads.report("removing layers of mount points that no container uses", error)


def _shared(home: Path) -> str:
    """The key of the layer that a container shares; "" for one of its own.  FileNotFoundError."""
    try:
        return os.path.basename(os.readlink(home / "init"))
    except OSError as error:
        if error.errno != errno.EINVAL:  # readlink(2): it is no link
            raise
        return ""


def _key(layers: Sequence[str]) -> str:
    return hashlib.sha256(f"{VERSION} {' '.join(layers)}".encode()).hexdigest()[:32]


def _sync(folder: Path) -> None:
    """Bring a layer to the disk: after a power cut it is complete, or not there."""
    for path, _, _ in os.walk(folder):  # its files are empty
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
