"""Count the users of mounted root file systems: a running container, and copies in progress.

The last user unmounts.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from runtime.rootfs.mount import is_mounted
from runtime.rootfs.overlay import OverlaySnapshots

_LOCKS = 64  # of containers; two that share one wait for each other


class MountRefs:
    """`place` gives the mount point of a container id.  Thread-safe."""

    def __init__(self, snapshots: OverlaySnapshots, place: Callable[[str], Path]) -> None:
        self._snapshots = snapshots
        self.place = place
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._running: set[str] = set()
        self._borrowed: Counter[str] = Counter()
        self._removed: set[str] = set()  # of containers that are no more, while still borrowed

    def _lock(self, id: str) -> threading.Lock:
        """Held while its file system is mounted, or unmounted: that may wait for a disk."""
        return self._locks[crc32(id.encode()) % _LOCKS]

    def acquire(self, id: str) -> Path:
        """Mount for a running container, until `release`; also after a restart of the daemon."""
        with self._lock(id):
            self._running.add(id)
            return self._mount(id)

    def release(self, id: str) -> None:
        with self._lock(id):
            self._running.discard(id)
            self._leave(id)

    @contextmanager
    def borrowed(self, id: str) -> Iterator[Path]:
        """Mount meanwhile.  The files stay though container and image be removed.  NotFound."""
        with self._lock(id):
            self._borrowed[id] += 1
        try:  # counted first: if mounting fails, `_leave` cleans up
            with self._snapshots.reading(id):
                with self._lock(id):
                    root = self._mount(id)
                yield root
        finally:
            with self._lock(id):
                self._borrowed[id] -= 1
                self._leave(id)
                last = id in self._removed and id not in self._borrowed
                self._removed -= {id} if last else set()
            if last:
                self._snapshots.remove(id)

    def remove(self, id: str) -> None:
        """Remove the layer of a container that is not mounted for it any more; if somebody else
        has it mounted, after that."""
        with self._lock(id):
            if self._borrowed[id] > 0:
                self._removed.add(id)
                return
            del self._borrowed[id]
        self._snapshots.remove(id)

    @contextmanager
    def initial(self, id: str) -> Iterator[Path]:
        """Mount the `init` layer of a container that is being created, to fill it."""
        root = self.place(id)
        root.mkdir(mode=0o700, exist_ok=True)
        try:
            self._snapshots.mount_init(id, root)
            yield root
        finally:
            self._snapshots.unmount(root)
            root.rmdir()
        self._snapshots.offer_init(id)

    def _mount(self, id: str) -> Path:
        root = self.place(id)
        if not is_mounted(root):  # it mostly is, after a restart of the daemon
            root.mkdir(mode=0o700, exist_ok=True)
            self._snapshots.mount(id, root)
        return root

    def _leave(self, id: str) -> None:
        if self._borrowed[id] > 0 or id in self._running:
            return
        del self._borrowed[id]
        root = self.place(id)
        self._snapshots.unmount(root)
        if root.exists():
            root.rmdir()
