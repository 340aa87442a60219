"""Run a command in a container of a build, and stream what it prints."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from netkit import threads
from netkit.errors import Conflict, NotFound
from runtime.build.container_output import Output
from runtime.build.output import Section
from runtime.build.request import BuildRequest
from runtime.cancellation import Cancel
from runtime.container.config import CreateRequest
from runtime.container.model import BUILD_MARK
from runtime.container.options import AttachOptions
from runtime.container.store import ContainerStore
from runtime.lifecycle.service import ContainerService
from runtime.lifecycle.supervisor import Supervisor
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots

_STDERR = 2


class StepContainer:
    """A container of one step; `id` is shown whether there is one or not."""

    def __init__(self, id: str, *, real: bool) -> None:
        self.id = id
        self.real = real

    @property
    def short(self) -> str:
        return self.id[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerParts:
    """The engine's parts that make and run containers."""

    service: ContainerService
    store: ContainerStore
    supervisor: Supervisor
    snapshots: OverlaySnapshots
    mounted: MountRefs
    loop: asyncio.AbstractEventLoop

    def wait_end(self, id: str) -> int:
        """Wait until a started container has ended, and is cleaned up; its exit status."""
        c = self.store.find(id)
        self.supervisor.wait_end(c, c.state.pid, None)
        if self.store.get(id) is c:
            with self.supervisor.lock(id):  # held while it is cleaned up
                return c.state.exit_code
        return c.state.exit_code

    def wait_removal(self, id: str) -> None:
        """Wait until another thread has removed it, or has failed to, which is retried."""
        if self.store.get(id) is not None:
            with self.supervisor.lock(id):  # held meanwhile
                return

    def unmark(self, id: str) -> None:
        """It is an ordinary container from now on."""
        c = self.store.find(id)
        with self.supervisor.lock(id):
            c.extra.pop(BUILD_MARK, None)
            self.store.save(c)


class BuildContainers:
    """Containers of one build."""

    def __init__(self, parts: ContainerParts, request: BuildRequest, cancel: Cancel) -> None:
        self._parts, self._service = parts, parts.service
        self._request, self._cancel = request, cancel
        self._removing: threading.Thread | None = None

    @contextmanager
    def step(
        self,
        image: str,
        config: Mapping[str, Any],
        command: Sequence[str],
        section: Section,
        *,
        real: bool,
    ) -> Iterator[StepContainer]:
        """The container of a step; after it, it is removed or stays as dockerd does it.

        `real`: one is needed.  Else there is one only if the client wants to keep it.
        """
        if not real and (self._request.remove or not image):
            container = StepContainer(secrets.token_hex(32), real=False)
        else:
            container = self._create(image, config, command, section)
        section.text(f" ---> Running in {container.short}\n")
        try:
            yield container
        except BaseException:
            self._end(container, section, remove=self._request.force_remove)
            raise
        self._end(container, section, remove=self._request.remove or self._request.force_remove)

    def _create(
        self, image: str, config: Mapping[str, Any], command: Sequence[str], section: Section
    ) -> StepContainer:
        asked = {
            **{key: value for key, value in config.items() if value is not None},
            "Cmd": list(command),
            "Entrypoint": [""],
            "Image": image,
            "Healthcheck": {"Test": ["NONE"]},
        }
        request = msgspec.convert(asked, CreateRequest)
        request.host_config = msgspec.json.decode(
            msgspec.json.encode(self._request.host_config), type=type(self._request.host_config)
        )
        made = self._service.create(request, None, marks={BUILD_MARK: True})
        for warning in made.warnings:
            section.text(f" ---> [Warning] {warning}\n")
        return StepContainer(made.id, real=True)

    def _end(self, container: StepContainer, section: Section, *, remove: bool) -> None:
        if container.real and self._cancel.is_set:
            threads.attempt("removing a build's container", lambda: self._remove(container.id))
            return
        if container.real and not remove:
            self._parts.unmark(container.id)
        if not remove:
            return
        if container.real:
            self._remove_aside(container.id)
        section.text(f"Removing intermediate container {container.short}\n")

    def _remove_aside(self, id: str) -> None:
        """Remove it while the next step begins; one at a time."""
        self.finish()
        self._removing = threads.once("netkit-build-aside", lambda: self._remove(id))
        self._removing.start()

    def finish(self) -> None:
        """Wait for what is being removed: after a build there is nothing of it."""
        if self._removing is not None:
            self._removing.join()
            self._removing = None

    def _remove(self, id: str) -> None:
        try:
            self._service.remove(id, force=True, volumes=True, link=False)
        except NotFound:
            return  # removed by a user, or because the client left
        except Conflict:  # likewise, and it is in progress
            self._parts.wait_removal(id)

    def run(self, container: StepContainer, section: Section) -> int:
        """Run it to its end; the exit status.  Killed, and Cancelled, if the client leaves."""
        options = AttachOptions(stdout=True, stderr=True)
        output = Output(self._parts.loop)
        with self._cancel.calling(lambda: self._kill(container.id)):
            output.attach(self._service.attach(container.id, options))
            try:
                self._cancel.check()
                self._service.start(container.id)
                for channel, text in output:
                    section.error_text(text) if channel == _STDERR else section.text(text)
                self._cancel.check()  # it may be gone
                status = self._parts.wait_end(container.id)
            finally:
                output.detach()
        self._cancel.check()
        return status

    def _kill(self, id: str) -> None:
        threads.attempt("ending a build's container", lambda: self._remove(id))

    def upper(self, container: StepContainer) -> Path:
        """What it has written, once it does not run any more."""
        return self._parts.snapshots.upper(container.id)
