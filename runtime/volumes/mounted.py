"""Mount volumes that have options while something uses them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit.errors import KernelError
from runtime.rootfs import mount
from runtime.volumes import options
from runtime.volumes.model import Volume


class MountedVolumes:
    """`users`: ids of containers that run, or are being started, and name the volume.

    Who uses a volume follows from that, also after a restart of the daemon; only borrowers, which
    end with the daemon, are counted.  Thread-safe.
    """

    def __init__(
        self, place: Callable[[str], Path], users: Callable[[str], Collection[str]]
    ) -> None:
        self._place = place
        self._users = users
        self._lock = threading.Lock()
        self._borrowed: Counter[str] = Counter()

    def acquire(self, volume: Volume) -> None:
        """Mount it, unless it is mounted, for a container that `users` names from now on.

        KernelError with the reason of mount(2).
        """
        if volume.options:
            with self._lock:
                self._mount(volume)

    def release(self, volume: Volume, container: str) -> None:
        """Unmount it, unless others than this container use it."""
        if volume.options:
            with self._lock:
                self._leave(volume, container)

    @contextmanager
    def borrowed(self, volume: Volume) -> Iterator[Path]:
        """Have it mounted for a while; where it is."""
        place = self._place(volume.name)
        if not volume.options:
            yield place
            return
        with self._lock:
            self._borrowed[volume.name] += 1
        try:
            with self._lock:
                self._mount(volume)
            yield place
        finally:
            with self._lock:
                self._borrowed[volume.name] -= 1
                self._leave(volume, "")

    def _leave(self, volume: Volume, container: str) -> None:
        if self._borrowed[volume.name] > 0 or set(self._users(volume.name)) - {container}:
            return
        del self._borrowed[volume.name]
        self.unmount(volume)

    def unmount(self, volume: Volume) -> None:
        """Of a volume that nothing uses."""
        if volume.options:
            while mount.unmount(self._place(volume.name)):
                pass  # also what an administrator has mounted over it

    def _mount(self, volume: Volume) -> None:
        place = self._place(volume.name)
        how = options.mounting(volume.name, volume.options)
        if how is None or os.path.ismount(place):
            return
        try:
            if not how.bind:
                mount.mount(how.device, str(place), how.kind, how.flags, how.data)
                return
            mount.mount(how.device, str(place), "", how.bind)
            if how.flags:
                mount.mount("", str(place), "", mount.MS_BIND | mount.MS_REMOUNT | how.flags)
        except OSError as error:
            mount.unmount(place)
            raise KernelError(
                f"error while mounting volume '{place}': failed to mount local volume: mount "
                f"{how.device}:{place}: {(error.strerror or '').rpartition(': ')[2].lower()}",
                errno=error.errno,
            ) from error
