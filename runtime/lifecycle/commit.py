"""Make an image of a container: `docker commit`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

import netkit
from netkit import threads
from netkit.errors import Conflict
from netkit.timestamps import rfc3339
from runtime.container.config import Config
from runtime.container.model import Container
from runtime.container.options import CommitRequest
from runtime.container.store import ContainerStore
from runtime.dockerfile import changes
from runtime.images import child
from runtime.images.reference import parse
from runtime.images.store import ImageStore
from runtime.lifecycle.create import overridden
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.supervisor import Supervisor
from runtime.rootfs.overlay import OverlaySnapshots

COMMITTING = "committing"  # in Container.extra: it is paused for a commit only
# Fields that Go's encoder leaves out where they are empty
_OMITTED = frozenset((
    "ExposedPorts", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
    "Healthcheck",
))  # fmt: skip


class Commits:
    """Files of volumes and other mounts are never part of an image: they are not in the layer."""

    def __init__(
        self,
        store: ContainerStore,
        images: ImageStore,
        snapshots: OverlaySnapshots,
        operations: ContainerOperations,
        supervisor: Supervisor,
    ) -> None:
        self._store, self._images, self._snapshots = store, images, snapshots
        self._operations, self._supervisor = operations, supervisor
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def commit(self, ref: str, request: CommitRequest) -> str:
        """The id of the image.  Everything is checked before the container is paused."""
        c = self._store.find_whole(ref, "commit")
        tag = f":{request.tag}" if request.tag else ""
        name = parse(f"{request.repo}{tag}") if request.repo else None
        own = document_config(c.config)
        given = own if request.config is None else document_config(request.config)
        changed = msgspec.convert(changes.apply(given, request.changes), Config)
        config = document_config(overridden(changed, c.config))
        with self._locks[c.id], self._images.holding():
            with self._paused(c, wanted=request.pause):
                upper = self._snapshots.upper(c.id)
                layer = self._images.capture(upper, self._snapshots.made_for_it(c.id))
            if self._store.get(c.id) is not c or c.state.status == "removing":
                raise Conflict(f"container {c.id} was removed while it was committed")
            made = child.document(
                self._images.document(c.image),
                config=config,
                diff_id=layer.diff_id if layer else "",
                created=rfc3339(),
                created_by=" ".join(c.config.cmd or ()),
                author=request.author,
                comment=request.comment,
                container=c.id,
                container_config=own,
                docker_version=netkit.__version__,
            )
            id = self._images.add_child(made, c.image, layer, [name] if name else [])
        shown = name.name if name else ""
        if name:
            self._images.events.happened("tag", id, shown)
        self._supervisor.emit(c, "commit", comment=request.comment, imageID=id, imageRef=shown)
        return id

    @contextmanager
    def _paused(self, c: Container, *, wanted: bool) -> Iterator[None]:
        """Pause it meanwhile if it runs, so that its files agree with each other."""
        mine = wanted and c.state.status == "running"
        if mine:
            c.extra[COMMITTING] = True  # saved with the state: see Recovery
            try:
                self._operations.pause(c.id)
            except Conflict:
                mine = False  # it has ended, or was paused by another
                del c.extra[COMMITTING]
        try:
            yield
        finally:
            if mine:
                what = f"resuming container {c.name} after its commit"
                threads.attempt(what, lambda: self._resume(c))

    def _resume(self, c: Container) -> None:
        c.extra.pop(COMMITTING, None)
        if c.state.status == "paused":
            self._operations.unpause(c.id)


def document_config(config: Config) -> dict[str, Any]:
    """A container's configuration as that of an image, with all its fields as Docker's."""
    whole: Mapping[str, Any] = msgspec.to_builtins(config)
    return {k: v for k, v in whole.items() if v or k not in _OMITTED}
