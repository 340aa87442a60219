"""The volumes of containers: from the names in a request to what is mounted into a run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

from netkit import threads
from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime.container.config import VolumeOptions
from runtime.container.model import Container, MountPoint
from runtime.container.mount_specs import clean
from runtime.events import Emitter
from runtime.filetree.scoped_root import HOST_ERRORS, Root
from runtime.images.model import Image
from runtime.lifecycle.staged_mounts import StagedMounts
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.view import Bind, view
from runtime.volumes.model import DRIVER
from runtime.volumes.service import VolumeService, fresh_name


class Images(Protocol):
    def find(self, ref: str) -> Image: ...


class ContainerVolumes:
    def __init__(
        self,
        volumes: VolumeService,
        staged: StagedMounts,
        mounted: MountRefs,
        images: Images,
        events: Emitter,
    ) -> None:
        self._volumes = volumes
        self._staged = staged
        self._mounted = mounted
        self._images = images
        self._events = events
        self._up: set[str] = set()  # containers whose volumes were reported as mounted

    # creating

    def resolve(self, c: Container) -> None:
        """Complete a new container's mounts: names, drivers, sources.  Creates nothing.

        InvalidSpec, NotFound for drivers and images, NotSupported.
        """
        for point in c.mounts:
            if point.type == "image" and not point.image:
                point.image = self._images.find(point.name).id
            if point.type == "image":
                point.source = self._staged.source(c, point)
            if point.type != "volume" or point.source:
                continue  # not one, or inherited
            options = self._asked(c, point)
            point.name = point.name or fresh_name()
            driver = options.driver_config.options if options.driver_config else None
            self._volumes.check(point.name, point.driver, driver)
            point.driver = DRIVER
            point.source = str(self._volumes.path(point.name))

    @staticmethod
    def _asked(c: Container, point: MountPoint) -> VolumeOptions:
        """Options of --mount for the volume; none for that of -v or an image."""
        for m in c.host_config.mounts or ():
            if m.type == "volume" and clean(m.target) == point.destination:
                return m.volume_options or VolumeOptions()
        return VolumeOptions()

    def create(self, c: Container) -> None:
        """Create those volumes that do not exist, once the container's row names them."""
        for point in _volumes(c):
            options = self._asked(c, point)
            self._volumes.ensure(
                point.name,
                c.id,
                unnamed=point.anonymous,
                options=options.driver_config.options if options.driver_config else None,
                labels=options.labels,
            )

    def fills(self, c: Container) -> bool:
        """May `fill` copy anything?"""
        return any(not (point.no_copy or point.subpath) for point in _volumes(c))

    def fill(self, c: Container, inside: Root) -> None:
        """Copy the image's files into empty volumes; `inside` is the image with nothing mounted.

        InvalidSpec if the image has a file where a volume is mounted.
        """
        for point in _volumes(c):
            if point.no_copy or point.subpath:
                continue
            try:
                source = inside.open(point.destination, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in HOST_ERRORS:
                    raise KernelError(f"volume {point.destination}: {error.strerror}") from error
                raise InvalidSpec(
                    f"cannot mount volume over existing file, file exists {point.destination}"
                ) from None
            try:
                self._volumes.fill(point.name, source)
            finally:
                os.close(source)

    # runs

    def up(self, c: Container) -> None:
        """Mount what the container's mounts need on the host; `down` undoes it."""
        for point in _volumes(c):
            self._volumes.mounted.acquire(self._volumes.find(point.name))
        self._staged.up(c)

    def tell_up(self, c: Container) -> None:
        for point in _volumes(c):
            self._emit(
                "mount",
                point,
                {
                    "driver": DRIVER,
                    "container": c.id,
                    "destination": point.destination,
                    "read/write": str(point.rw).lower(),
                    "propagation": point.propagation,
                },
            )
        self.adopt(c)

    def adopt(self, c: Container) -> None:
        """Take over a container that an earlier daemon started."""
        self._up.add(c.id)

    def down(self, c: Container) -> None:
        """Undo `up`; safe to repeat.  All is tried, the first error is raised."""
        with ExitStack() as stack:
            for point in _volumes(c):
                stack.callback(self._release, c.id, point.name)
            stack.callback(self._staged.down, c.id)

    def sweep(self, key: str) -> None:
        """Unmount what is staged for a container that does not exist, or for a view."""
        self._staged.down(key)

    def _release(self, id: str, name: str) -> None:
        try:
            volume = self._volumes.find(name)
        except NetkitError:
            return  # it is gone: nothing is mounted
        self._volumes.mounted.release(volume, id)

    def tell_down(self, c: Container) -> None:
        if c.id in self._up:
            self._up.discard(c.id)
            for point in _volumes(c):
                self._emit("unmount", point, {"driver": DRIVER, "container": c.id})

    def _emit(self, action: str, point: MountPoint, attributes: dict[str, str]) -> None:
        threads.attempt(
            f"event {action} of volume {point.name}",
            partial(self._events.emit, "volume", action, point.name, attributes),
        )

    def source(self, c: Container, point: MountPoint) -> str:
        """What is bound into the container."""
        return self._staged.source(c, point)

    # removing

    def forget(self, c: Container, *, anonymous: bool, made: bool) -> None:
        """Remove those of its volumes that no other container uses, before its row goes.

        `anonymous`: those without a name of the user's (`rm -v`).  `made`: those that were made
        for it, since its creation failed.
        """
        names = [
            point.name
            for point in _volumes(c)
            if (anonymous and point.anonymous)
            or (made and self._volumes.made_for(point.name, c.id))
        ]
        self._volumes.remove_unused(dict.fromkeys(names), c.id)

    # looking

    @contextmanager
    def view(self, c: Container) -> Iterator[Root]:
        """The files of a container that does not run, with its mounts; a tmpfs is not there."""
        with ExitStack() as stack:
            for point in _volumes(c):
                stack.enter_context(self._volumes.mounted.borrowed(self._volumes.find(point.name)))
            place = stack.enter_context(self._mounted.borrowed(c.id))
            points = [p for p in c.mounts if p.type in {"bind", "volume", "image"}]
            key = f"{c.id}.{secrets.token_hex(4)}"  # apart from what a start stages meanwhile
            stack.callback(self._staged.down, key)
            self._staged.up(c, key)
            binds = [
                Bind(source, p.destination, not p.rw, "nonrecursive" not in p.mode.split(","))
                for p in points
                if os.path.exists(source := self._staged.source(c, p, key))
            ]
            if not binds:
                yield stack.enter_context(Root(place))
                return
            yield stack.enter_context(view(place, binds))


def _volumes(c: Container) -> Iterable[MountPoint]:
    return [p for p in c.mounts if p.type == "volume" and p.name]
