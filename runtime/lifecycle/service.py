"""Implements ports.Containers: looks up, checks, and delegates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from random import SystemRandom
from typing import Any, Protocol

from netkit.errors import Conflict, InvalidSpec
from netkit.timestamps import rfc3339
from runtime.apitypes import Upload
from runtime.container import mounts, names
from runtime.container import update as updating
from runtime.container.config import CreateRequest, EndpointSettings, HostConfig
from runtime.container.model import Container, ContainerSizes, CreatedContainer, ProcessTable
from runtime.container.options import AttachOptions, CommitRequest, LogOptions, UpdateRequest
from runtime.container.store import ContainerStore
from runtime.filters import Filters, PrunedContainers, PruneFilter
from runtime.images.holds import Hold
from runtime.images.model import Image
from runtime.images.removal import ImageUser
from runtime.lifecycle import create, waiters
from runtime.lifecycle.archive import Looking
from runtime.lifecycle.attach import AttachService
from runtime.lifecycle.bundle import BundleBuilder
from runtime.lifecycle.commit import Commits
from runtime.lifecycle.link_sync import LinkSync
from runtime.lifecycle.network_connect import NetworkConnector
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.streams import Attachment
from runtime.lifecycle.supervisor import Supervisor
from runtime.lifecycle.volumes import ContainerVolumes
from runtime.network import links as linking
from runtime.network.endpoint_settings import network_settings
from runtime.network.sandbox import ContainerNetwork
from runtime.rootfs.diff import FileChange
from runtime.rootfs.stat import PathStat


class Images(Protocol):
    def find(self, ref: str) -> Image:
        """Find by familiar or full name, id or unique id prefix.  NotFound "No such image: x"."""
        ...

    def using(self, user: ImageUser) -> AbstractContextManager[Hold]:
        """The user needs what it `keep`s, while no row says so yet."""
        ...


class ContainerService:
    def __init__(
        self,
        *,
        store: ContainerStore,
        images: Images,
        lifecycle: ContainerOperations,
        supervisor: Supervisor,
        sandboxes: ContainerNetwork,
        membership: NetworkConnector,
        relinking: LinkSync,
        attach_service: AttachService,
        looking: Looking,
        commits: Commits,
        bundle_builder: BundleBuilder,
        volumes: ContainerVolumes,
        defaults: Callable[[HostConfig], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._images = images
        self._life = lifecycle
        self._supervisor = supervisor
        self._sandboxes = sandboxes
        self._membership = membership
        self._relinking = relinking
        self._attach_service = attach_service
        self._looking = looking
        self._commits = commits
        self._bundle_builder = bundle_builder
        self._volumes = volumes
        self._defaults = defaults
        self._random = SystemRandom()

    def create(
        self, request: CreateRequest, name: str | None, marks: Mapping[str, Any] | None = None
    ) -> CreatedContainer:
        """`marks` are stored in the container's `extra` from the first."""
        image = self._images.find(request.image)
        id = f"{self._random.getrandbits(256):064x}"
        chosen = names.validate(name) if name else names.generate(self._random, self._store.claim)
        try:
            with self._images.using(ImageUser(id, chosen, alive=False)) as hold:
                hold.keep(image.id)
                return self._create(request, image, id, chosen, marks or {}, hold)
        finally:
            self._store.unclaim(chosen)

    def _create(
        self,
        request: CreateRequest,
        image: Image,
        id: str,
        name: str,
        marks: Mapping[str, Any],
        hold: Hold,
    ) -> CreatedContainer:
        request.host_config = request.host_config or HostConfig()
        self._defaults(request.host_config)
        inherited = mounts.inherit(request.host_config, self._store.find)
        wanted = create.validate_create(request, image.config, id, inherited)
        c = Container(
            id=id,
            name=name,
            created=rfc3339(),
            image=image.id,
            config=wanted.config,
            host_config=wanted.host_config,
            networks=wanted.networks,
            mounts=wanted.mounts,
            extra=dict(marks),
        )
        self._volumes.resolve(c)
        for point in c.mounts:
            if point.image:
                hold.keep(point.image)
        links = linking.attach(c, self._store.find)
        networks = self._membership.check(c)
        warnings = [*wanted.warnings, *links, *networks, *self._bundle_builder.check(c)]
        self._bundle_builder.complete(c)
        self._supervisor.create(c)
        return CreatedContainer(id, warnings)

    def find(self, ref: str) -> Container:
        return self._store.find(ref)

    def all(self) -> list[Container]:
        return self._store.all()

    def relating(self) -> list[Container]:
        return self._store.relating()

    def start(self, ref: str) -> bool:
        return self._life.start(ref)

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        return self._life.stop(ref, timeout, signal)

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        self._life.restart(ref, timeout, signal)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        self._life.kill(ref, signal)

    def pause(self, ref: str) -> None:
        self._life.pause(ref)

    def unpause(self, ref: str) -> None:
        self._life.unpause(ref)

    def rename(self, ref: str, name: str) -> None:
        if not name:
            raise InvalidSpec("Neither old nor new names may be empty")
        c = self._store.find(ref)
        new = names.validate(name)
        old = c.name
        if new == old:
            raise InvalidSpec("Renaming a container with the same name as its current name")
        with self._supervisor.lock(c.id):
            self._store.rename(c, new)
            self._sandboxes.renamed(c)
        self._relinking.renamed(c)
        self._supervisor.emit(c, "rename", oldName=f"/{old}")

    def update(self, ref: str, request: UpdateRequest) -> list[str]:
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            new = updating.apply_update(c.host_config, request)
            warnings = self._bundle_builder.check_resources(new)
            before, c.host_config = c.host_config, new
            try:
                # Saved before limits of the running container change; restored if the runtime
                # refuses them.
                self._store.admit(c)
                self._store.save(c)
                if c.state.alive:
                    self._looking.apply_resources(c, new)
            except BaseException:
                c.host_config = before
                self._supervisor.owed.save(c)
                raise
        self._supervisor.emit(c, "update")
        return warnings

    def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        if link:
            self._relinking.remove(ref)
            return
        self._life.remove(ref, force=force, volumes=volumes)

    def prune(self, filters: Filters) -> PrunedContainers:
        pruning = PruneFilter(filters)
        removed, freed = [], 0
        for c in self._store.all():
            ended = c.state.status in {"created", "exited", "dead"}
            if not ended or c.building:
                continue
            if not pruning.matches(c.created, c.config.labels):
                continue
            size = self._looking.sizes(c).written
            try:
                self._life.remove(c.id, force=False)
            except Conflict:
                continue  # it was started or removed meanwhile
            removed.append(c.id)
            freed += size
        self._supervisor.pruned(freed)
        return PrunedContainers(removed, freed)

    def top(self, ref: str, ps_args: str) -> ProcessTable:
        c = self._store.find_running(ref)
        result = self._looking.top(c, ps_args)
        self._supervisor.emit(c, "top")
        return result

    def changes(self, ref: str) -> list[FileChange]:
        return self._looking.changes(self._store.find_whole(ref, "compare"))

    def sizes(self, ref: str) -> ContainerSizes:
        return self._looking.sizes(self._store.find(ref))

    def folders(self, ref: str) -> dict[str, str] | None:
        return self._looking.folders(self._store.find(ref))

    def resize(self, ref: str, height: int, width: int) -> None:
        c = self._store.find_running(ref)
        self._looking.resize(c, height, width)
        self._supervisor.emit(c, "resize", height=str(height), width=str(width))

    def export(self, ref: str) -> Iterator[bytes]:
        c = self._store.find_whole(ref, "export")
        stream = self._looking.export(c)
        self._supervisor.emit(c, "export")
        return stream

    def commit(self, ref: str, request: CommitRequest) -> str:
        return self._commits.commit(ref, request)

    def stat_path(self, ref: str, path: str) -> PathStat:
        return self._looking.stat_path(self._store.find_whole(ref, "copy from"), path)

    def get_archive(self, ref: str, path: str) -> tuple[PathStat, Iterator[bytes]]:
        c = self._store.find_whole(ref, "copy from")
        result = self._looking.get_archive(c, path)
        self._supervisor.emit(c, "archive-path")
        return result

    def put_archive(
        self, ref: str, path: str, tar: Upload, *, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None:
        c = self._store.find_whole(ref, "copy to")
        self._looking.put_archive(c, path, tar, no_overwrite_dir, copy_uid_gid)
        self._supervisor.emit(c, "extract-to-dir")

    def stats(self, ref: str) -> dict[str, Any]:
        return self._looking.stats(self._store.find(ref))

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        self._membership.connect(ref, network, settings)

    def readdress(self, ref: str, network: str, settings: EndpointSettings) -> None:
        self._membership.readdress(ref, network, settings)

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        self._membership.disconnect(ref, network, force=force)

    def network_settings(self, ref: str) -> dict[str, Any]:
        c = self._store.find(ref)
        live, networks, ns = self._sandboxes.joined(c)
        return network_settings(c, live, networks, ns)

    def waiter(self, ref: str, condition: str) -> Awaitable[tuple[int, str]]:
        c = self._store.find(ref)
        until = waiters.validate_condition(condition)
        # No lock: this runs on the event loop, which must not block.  Register first, then check
        # the state: an exit in between resolves the future twice, which is harmless; an earlier
        # one is found by the check.
        future = self._supervisor.waiters.add(c.id, until)
        ended = not c.state.alive and c.state.status != "restarting"
        if (until == "not-running" and ended) or self._store.get(c.id) is None:
            self._supervisor.waiters.resolve(c.id, (c.state.exit_code, c.state.error), until)
        return future

    def attach(self, ref: str, options: AttachOptions) -> Attachment:
        c = self._store.find(ref)
        if c.state.status == "paused":
            raise Conflict(f"container {c.id} is paused, unpause the container before attach")
        if c.state.status == "restarting":
            raise Conflict(f"container {c.id} is restarting, wait until the container is running")
        return self._attach_service.attachment(c, options)

    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[tuple[int, bytes]]:
        return self._attach_service.logs(self._store.find(ref), options)
