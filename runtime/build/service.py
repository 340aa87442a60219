"""Builds, from the request to the tags; implements the API's Builds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from netkit.errors import InvalidSpec, KernelError, NetkitError, NotFound, unexpected
from netkit.store import Database
from runtime import limits
from runtime.apitypes import Upload
from runtime.build import context, remote
from runtime.build.builder import Builder
from runtime.build.cache import StepCache
from runtime.build.cache_from import NamedCaches
from runtime.build.containers import BuildContainers, ContainerParts
from runtime.build.context import BuildContext
from runtime.build.errors import reason
from runtime.build.images import BaseImages, check_platform
from runtime.build.lineage import Lineage
from runtime.build.mounts import ImageMounts
from runtime.build.output import Section, Send, Transcript
from runtime.build.request import BuildRequest
from runtime.build.results import StageResults
from runtime.build.stage import StageBuild, Work
from runtime.cancellation import Cancel
from runtime.dockerfile.build_args import BuildArgs
from runtime.dockerfile.errors import SyntaxFault
from runtime.dockerfile.parser import Dockerfile, parse
from runtime.dockerfile.stages import Plan, plan
from runtime.images.holds import Hold
from runtime.images.model import Image
from runtime.images.pulling import Puller
from runtime.images.removal import ImageUser
from runtime.images.store import ImageStore

log = logging.getLogger("netkit.build")

_BUILD = ImageUser("", "", alive=True, what="build")


class BuildService:
    """Thread-safe; `build` takes a thread for as long as it takes."""

    def __init__(
        self,
        *,
        folder: Path,
        database: Database,
        images: ImageStore,
        parts: ContainerParts,
        puller: Puller,
    ) -> None:
        """`folder`: for contexts and downloads."""
        self._folder = folder
        self._images, self._parts = images, parts
        self._containers = parts.service
        self._mounts = ImageMounts(parts.snapshots, parts.mounted)
        self._puller = puller
        self._cache = StepCache(database, images)
        self._running: dict[str, Cancel] = {}

    def cancel(self, build_id: str) -> None:
        if (running := self._running.get(build_id)) is not None:
            running.set()

    def build(self, request: BuildRequest, upload: Upload, send: Send, cancel: Cancel) -> None:
        """Build an image, and report to `send`.

        What it raises before the first message is the request's own fault; later it is a step's.
        """
        try:
            self._received(request, upload, send, cancel)
        except (NetkitError, ConnectionError):
            raise
        except OSError as error:
            raise KernelError(f"the build cannot go on: {reason(error)}") from error
        except Exception as error:
            log.exception("a build failed")
            raise unexpected(error) from error

    def _received(
        self, request: BuildRequest, upload: Upload, send: Send, cancel: Cancel
    ) -> None:
        if request.platform:
            check_platform(request.platform)
        with (
            self._known(request, cancel),
            self._images.holding(leaves=False),
            self._images.using(_BUILD) as hold,
            self._context(request, upload, send, cancel) as received,
        ):
            file = _parsed(request.dockerfile, received.dockerfile)
            planned = plan(file, target=request.target, labels=request.labels)
            if not request.quiet:
                self._build(request, file, planned, received, hold, send, cancel)
                return
            transcript = Transcript()
            try:
                image = self._build(request, file, planned, received, hold, transcript, cancel)
            except NetkitError:
                transcript.replay(send)
                raise
            send({"stream": f"{image}\n"})

    def _build(
        self,
        request: BuildRequest,
        file: Dockerfile,
        planned: Plan,
        received: BuildContext,
        hold: Hold,
        send: Send,
        cancel: Cancel,
    ) -> str:
        if file.warnings:
            Section(send, cancel, open=True).error_text("\n".join([*file.warnings, ""]))
        work = Work(
            request=request,
            plan=planned,
            context=received,
            folder=self._folder,
            images=self._images,
            bases=BaseImages(self._images, self._puller, request, hold, cancel),
            hold=hold,
            mounts=self._mounts,
            results=StageResults([stage.name for stage in planned.stages], cancel),
            outer=BuildArgs(request.arguments),
        )
        stage = partial(self._stage, self._named(request, hold))
        image = Builder(work, stage, send, cancel).build()
        received.close()  # else syncing would write its files to the disk, too
        self._images.sync()
        send({"stream": f"Successfully built {image.removeprefix('sha256:')[:12]}\n"})
        for name in request.names:
            self._images.tag(image, name.repository, name.tag)
            send({"stream": f"Successfully tagged {name.name}\n"})
        return image

    @contextmanager
    def _known(self, request: BuildRequest, cancel: Cancel) -> Iterator[None]:
        if not request.build_id:
            yield
            return
        self._running[request.build_id] = cancel
        try:
            yield
        finally:
            self._running.pop(request.build_id, None)

    def _context(
        self, request: BuildRequest, upload: Upload, send: Send, cancel: Cancel
    ) -> BuildContext:
        if not request.remote:
            return context.receive(
                upload, self._folder, dockerfile=request.dockerfile, packed=request.cache
            )
        return remote.fetch(
            request.remote,
            self._folder,
            dockerfile=request.dockerfile,
            report=Transcript() if request.quiet else send,
            check=cancel.check,
        )

    def _stage(
        self,
        named: list[Image] | None,
        work: Work,
        index: int,
        first: int,
        section: Section,
        cancel: Cancel,
    ) -> StageBuild:
        return StageBuild(
            work,
            index,
            first=first,
            section=section,
            lineage=Lineage(
                self._images,
                self._cache,
                None if named is None else NamedCaches(named, self._images.parent),
                work.results,
                index,
                work.hold,
                looks_up=work.request.cache,
            ),
            containers=BuildContainers(self._parts, work.request, cancel),
            cancel=cancel,
        )

    def _named(self, request: BuildRequest, hold: Hold) -> list[Image] | None:
        """Images of `--cache-from` that are here; None without the option."""
        if not request.cache_from:
            return None
        found = []
        for name in request.cache_from[: limits.BUILD_CACHES]:
            try:
                image = self._images.find(name)
                hold.keep(image.id)
                found.append(image)
            except (NotFound, InvalidSpec):
                continue  # as dockerd: it is no cache then
        return found


def _parsed(name: str, raw: bytes) -> Dockerfile:
    if not raw:
        raise InvalidSpec(f"the Dockerfile ({name}) cannot be empty")
    try:
        return parse(raw)
    except SyntaxFault as fault:
        raise InvalidSpec(f"failed to parse Dockerfile: {fault}") from fault
