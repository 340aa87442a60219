"""Implements ports.Volumes: create, look at, remove and prune volumes; what containers need.

Which containers use a volume is never counted: it follows from the containers' own documents.  A
volume that any of them names cannot be removed, so a container's row comes before its volumes.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import SystemRandom

import msgspec

from netkit import threads
from netkit.errors import Conflict, KernelError, NotFound
from netkit.timestamps import rfc3339
from runtime.events import Emitter
from runtime.filters import Filters, PrunedVolumes
from runtime.volumes import options as checking
from runtime.volumes.fill import fill, is_empty, tidy
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.model import DRIVER, Volume
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.store import VolumeStore

log = logging.getLogger("netkit.volumes")
_random = SystemRandom()

Labels = Mapping[str, str] | None


def fresh_name() -> str:
    """The name of an anonymous volume: 64 hex digits, as Docker's."""
    return f"{_random.getrandbits(256):064x}"


class VolumeService:
    """`users`: ids of the containers whose documents name a volume.  Thread-safe."""

    def __init__(
        self,
        store: VolumeStore,
        folders: VolumeFolders,
        events: Emitter,
        users: Callable[[str], Sequence[str]],
        mounted: MountedVolumes,
    ) -> None:
        self._store = store
        self._folders = folders
        self._events = events
        self.users = users
        self.mounted = mounted
        self._lock = threading.RLock()
        self._filling: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._deleting: set[Path] = set()  # directories of removed volumes

    # looking

    def all(self) -> list[Volume]:
        return sorted((v for v in self._store.all() if not v.leaving), key=lambda v: v.name)

    def count(self) -> int:
        return sum(not v.leaving for v in self._store.all())

    def find(self, name: str) -> Volume:
        """By its full name only.  NotFound."""
        found = self._store.get(name)
        if found is None or found.leaving:
            raise NotFound(f"get {name}: no such volume")
        return found

    def path(self, name: str) -> Path:
        """Directory of its files on this host."""
        return self._folders.data(name)

    def size(self, name: str) -> int:
        return self._folders.size(name)

    # creating

    def create(self, name: str, *, driver: str = "", options: Labels, labels: Labels) -> Volume:
        """Create a volume, or find the one of that name, whatever its options, as dockerd does.

        InvalidSpec, NotFound for a driver, NotSupported, NoRoom.
        """
        unnamed = not name
        name = name or fresh_name()
        self.check(name, driver, options)
        with self._lock:
            if (found := self._store.get(name)) is not None and not found.leaving:
                if found.made_for:  # it is not that container's alone any more
                    found = msgspec.structs.replace(found, made_for="")
                    self._store.save(found)
                return found
            made = self._make(name, options, labels, unnamed=unnamed)
        self._store.flush()
        return made

    def check(self, name: str, driver: str, options: Labels) -> None:
        """Check what `create` would be given; options of an existing volume are not looked at."""
        checking.check_driver(name, driver)
        checking.check_name(name)
        if self._store.get(name) is None:
            checking.mounting(name, options)

    def ensure(
        self, name: str, container: str, *, unnamed: bool, options: Labels, labels: Labels
    ) -> Volume:
        """Create a volume for a container, whose row names it, unless it exists."""
        with self._lock:
            found = self._store.get(name)
            if found is not None and not found.leaving:
                return found
            return self._make(name, options, labels, unnamed=unnamed, made_for=container)

    def _make(
        self, name: str, options: Labels, labels: Labels, *, unnamed: bool, made_for: str = ""
    ) -> Volume:
        if name in self._store.unreadable:
            raise Conflict(f"create {name}: the row of this volume cannot be read")
        if self._store.get(name) is not None:  # of a removal that could not be completed
            self._discard(name)
        # The directory comes before the row: one without a row, and empty, is removed at a start.
        self._folders.make(name)
        volume = Volume(
            name=name,
            created=rfc3339(),
            labels=None if labels is None else dict(labels),
            options=None if options is None else dict(options),
            unnamed=unnamed,
            made_for=made_for,
        )
        try:
            self._store.save(volume)
        except BaseException:
            threads.attempt(f"removing volume {name} again", partial(self._folders.unmake, name))
            raise
        self._emit("create", name)
        return volume

    def fill(self, name: str, source: int) -> None:
        """Copy the directory `source` (a descriptor) into the volume, if that is empty.

        KernelError for a full or broken disk, or if the volume cannot be mounted; Conflict for
        trees that are too deep.
        """
        volume = self.find(name)
        with self._filling[name], self.mounted.borrowed(volume) as data:
            beside = self._beside(volume)
            try:
                tidy(data, beside)
                if is_empty(data):
                    fill(data, beside, source)
            except OSError as error:
                raise KernelError(
                    f"failed to copy the image's files into volume {name}: {error.strerror}",
                    errno=error.errno,
                ) from error

    def _beside(self, volume: Volume) -> Path:
        """A directory in the file system of the volume's files."""
        data = self._folders.data(volume.name)
        return data if volume.options else data.parent

    # removing

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its files.  Conflict if a container uses it.

        NotFound, unless with `force`.
        """
        try:
            self._remove(self.find(name), ())
        except NotFound:
            if not force:
                raise

    def remove_unused(self, names: Collection[str], container: str) -> None:
        """Remove those of these volumes that no other container than this one uses."""
        for name in names:
            volume = self._store.get(name)
            if volume is not None and not set(self.users(name)) - {container}:
                self._remove(volume, {container})

    def made_for(self, name: str, container: str) -> bool:
        """Was it made by the creation of this container, and is requested by no other?"""
        volume = self._store.get(name)
        return volume is not None and volume.made_for == container

    def _remove(self, volume: Volume, leaving: Collection[str]) -> None:
        name = volume.name
        with self._lock:
            if users := sorted(set(self.users(name)) - set(leaving)):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            self.mounted.unmount(volume)  # nothing uses it: a kill of the daemon left it so
            self._folders.check_removable(name)
            # Marked first: a start of the daemon completes a removal that was cut short.
            self._store.save(msgspec.structs.replace(volume, leaving=True))
            self._store.flush()  # else a power cut might bring back the row without its files
            self._filling.pop(name, None)
            for marked in [v for v in self._store.all() if v.leaving]:
                # It may fail, as on a full disk: the volume is removed all the same, and the next
                # removal repeats this.
                what = f"removing volume {marked.name}"
                threads.attempt(what, partial(self._complete, marked))
            away = set(self._folders.leftovers()) - self._deleting
            self._deleting |= away
        self._emit("destroy", name)
        for each in sorted(away):
            threads.attempt(f"deleting {each}", partial(self._folders.delete, each))
        with self._lock:
            self._deleting -= away

    def _discard(self, name: str) -> None:
        if (away := self._folders.put_aside(name)) is not None:
            self._folders.delete(away)

    def prune(self, filters: Filters, *, every: bool) -> PrunedVolumes:
        """Remove unused volumes: anonymous ones, or with `every` also named ones.

        As dockerd: volumes with options stay.
        """
        names, freed = [], 0
        for volume in self.all():
            wanted = (every or volume.anonymous) and not volume.options
            if not wanted or self.users(volume.name) or not _labelled(volume, filters):
                continue
            size = self.size(volume.name)
            try:
                self._remove(volume, ())
            except Conflict:
                continue  # a container uses it meanwhile, or something is mounted in it
            names.append(volume.name)
            freed += size
        self._emit("prune", "", reclaimed=str(freed))
        return PrunedVolumes(names, freed)

    # starts of the daemon

    def recover(self) -> None:
        """Complete or undo what a kill of the daemon interrupted; before containers are restored.

        A directory without a row is what a creation left if it is empty; with files in it, it
        becomes a volume, as with dockerd: no data is deleted.
        """
        for volume in self._store.all():
            act = self._complete if volume.leaving else self._repair
            threads.attempt(f"recovering volume {volume.name}", partial(act, volume))
        known = {v.name for v in self._store.all()} | self._store.unreadable
        for name in sorted(self._folders.all() - known):
            threads.attempt(f"recovering volume {name}", partial(self._adopt, name))
        for away in self._folders.leftovers():
            threads.attempt(f"deleting {away}", partial(self._folders.delete, away))

    def _complete(self, volume: Volume) -> None:
        """Of a volume that is marked; its files are deleted with the leftovers."""
        self._folders.put_aside(volume.name)
        self._store.remove(volume.name)

    def _repair(self, volume: Volume) -> None:
        if not self._folders.data(volume.name).exists():
            log.warning("volume %s: its directory is missing, and made anew", volume.name)
        self._folders.make(volume.name)
        if not volume.options:  # others: once they are mounted
            tidy(self._folders.data(volume.name), self._beside(volume))

    def _adopt(self, name: str) -> None:
        if self._folders.empty(name):
            self._folders.unmake(name)
            return
        checking.check_name(name)
        log.warning("volume %s: it has files and no row: it is a volume again", name)
        unnamed = re.fullmatch(r"[0-9a-f]{64}", name) is not None
        self._store.save(Volume(name=name, created=rfc3339(), unnamed=unnamed))

    def _emit(self, action: str, name: str, **attributes: str) -> None:
        what = attributes or {"driver": DRIVER}
        threads.attempt(  # the operation is done: an event that fails must not undo it
            f"event {action} of volume {name}",
            lambda: self._events.emit("volume", action, name, what),
        )


def _labelled(volume: Volume, filters: Filters) -> bool:
    have = volume.labels or {}

    def has(text: str) -> bool:
        key, eq, value = text.partition("=")
        return key in have and (not eq or have[key] == value)

    return all(map(has, filters.get("label", ()))) and not any(
        map(has, filters.get("label!", ()))
    )
