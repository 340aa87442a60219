"""Build one stage: from its base image, an image for each instruction."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime.build import copying
from runtime.build.containers import BuildContainers
from runtime.build.context import BuildContext
from runtime.build.errors import BuildFailed, CommandFailed
from runtime.build.files import Files, FilesOnDisk
from runtime.build.images import SCRATCH, BaseImages, check_platform
from runtime.build.lineage import Lineage
from runtime.build.mounts import ImageMounts
from runtime.build.output import Section
from runtime.build.request import BuildRequest
from runtime.build.results import StageResults
from runtime.cancellation import Cancel
from runtime.dockerfile import checking, effects, expansion
from runtime.dockerfile import instructions as dockerfile
from runtime.dockerfile.build_args import BuildArgs
from runtime.dockerfile.effects import StageState
from runtime.dockerfile.errors import InstructionFault
from runtime.dockerfile.parser import parse
from runtime.dockerfile.stages import Plan
from runtime.filetree.scoped_root import Root
from runtime.images.holds import Hold
from runtime.images.model import Image
from runtime.images.store import ImageStore

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One build, for all its stages."""

    request: BuildRequest
    plan: Plan
    context: BuildContext
    folder: Path  # for downloads of ADD
    images: ImageStore
    bases: BaseImages
    hold: Hold
    mounts: ImageMounts
    results: StageResults
    outer: BuildArgs  # with what ARG declares before the first FROM


class StageBuild:
    def __init__(
        self,
        work: Work,
        index: int,
        *,
        first: int,
        section: Section,
        lineage: Lineage,
        containers: BuildContainers,
        cancel: Cancel,
    ) -> None:
        """`first`: the number of its first step."""
        self._work, self._index, self._section = work, index, section
        self._lineage, self._containers, self._cancel = lineage, containers, cancel
        self._stage = work.plan.stages[index]
        self._number = first
        self.args = work.outer.stage()
        self._state = StageState({}, args=self.args, escape=work.plan.escape)

    def build(self) -> str:
        """The id of the image that the stage comes to; "" if it is from scratch and has none."""
        try:
            return self._build()
        finally:
            self._containers.finish()

    def _build(self) -> str:
        self._show(self._stage.begin)
        if self._work.results.taken(self._stage.name, self._index):
            raise BuildFailed(f"{self._stage.name} stage name already used")
        self._begin()
        self._arrow()
        for found in self._stage.steps:
            self._cancel.check()
            self._show(found)
            self._do(found)
            self._arrow()
        if self._lineage.image:
            self._section.message({"aux": {"ID": self._lineage.image}})
        return self._lineage.image

    def _show(self, found: dockerfile.Instruction) -> None:
        self._section.text(f"Step {self._number}/{self._work.plan.steps} : {found.source}")
        self._section.text("\n")
        self._number += 1

    def _arrow(self) -> None:
        self._section.text(f" ---> {self._lineage.image.removeprefix('sha256:')[:12]}\n")

    # FROM

    def _begin(self) -> None:
        begin, outer = self._stage.begin, self.args.outer_values()
        platform = ""
        if begin.platform:
            platform = expansion.word(begin.platform, outer, self._state.escape)
            try:
                platform = check_platform(platform)
            except InvalidSpec as error:
                raise InvalidSpec(f"failed to parse platform {platform}: {error}") from None
        name = expansion.word(begin.base, outer, self._state.escape)
        if not name:
            raise BuildFailed(f"base name ({begin.base}) should not be blank")
        if (base := self._base(name, platform)) is not None:
            self._lineage.begin(base)
            self._state.config = dict(base.document.get("config") or {})
        config = self._state.config
        if "PATH" not in expansion.variables(self._state.env):
            config["Env"] = [*self._state.env, PATH]
        config["OpenStdin"] = config["StdinOnce"] = False
        if triggers := config.pop("OnBuild", None):
            self._trigger(triggers)

    def _base(self, name: str, platform: str) -> Image | None:
        """None for no image."""
        image = self._work.results.named(name, self._index)
        if image is not None:
            return self._work.images.find(image) if image else None
        if name == SCRATCH:
            return None
        return self._work.bases.get(name, self._section, platform)

    def _trigger(self, triggers: Sequence[str]) -> None:
        """Do what ONBUILD of the base image says."""
        if self._work.request.cache:  # stages with this base have these steps in common
            for index, stage in enumerate(self._work.plan.stages[: self._index]):
                if stage.begin.base == self._stage.begin.base:
                    self._work.results.wait(index)
        self._section.text(f"# Executing {len(triggers)} build trigger")
        self._section.text("s\n" if len(triggers) > 1 else "\n")
        for trigger in triggers:
            nodes = parse(trigger.encode("utf-8", "replace")).nodes
            if len(nodes) != 1:
                raise BuildFailed("onbuild trigger should be a single expression")
            try:
                found = checking.instruction(nodes[0])
            except InstructionFault as fault:
                raise BuildFailed(fault.reason) from None
            if isinstance(found, dockerfile.From):
                raise BuildFailed("FROM isn't allowed as an ONBUILD trigger")
            self._do(found)

    # instructions

    def _do(self, found: dockerfile.Instruction) -> None:
        ready = effects.expanded(found, self._state.variables(), self._state.escape)
        try:
            match ready:
                case dockerfile.Copy():
                    self._copy(ready)
                case dockerfile.Cmd() | dockerfile.Entrypoint():
                    self._configure(ready)
                case dockerfile.Run():
                    self._run(ready)
                case dockerfile.Workdir():
                    self._workdir(ready)
                case _:
                    self._configure(ready)
        finally:
            self._lineage.settle()

    def _configure(self, found: dockerfile.Instruction) -> None:
        """An instruction that changes the configuration alone."""
        before = (self._state.config.get("Healthcheck") or {}).get("Test") or []
        if isinstance(found, dockerfile.Healthcheck) and before and before[0] != "NONE":
            words = " ".join(before)
            self._section.text(f"Note: overriding previous HEALTHCHECK: [{words}]\n")
        comment = effects.apply(self._state, found)
        command = [*self._state.shell, "#(nop) ", comment]
        if self._lineage.reuse(command, self._state, self._section):
            return
        with self._containers.step(
            self._lineage.image, self._state.config, command, self._section, real=False
        ) as container:
            self._lineage.add(command, self._state, None, container.id)

    def _workdir(self, found: dockerfile.Workdir) -> None:
        command = [*self._state.shell, f"#(nop) {effects.apply(self._state, found)}"]
        if self._lineage.reuse(command, self._state, self._section):
            return
        with self._work.mounts.changing(self._lineage.image) as change:
            with change.mounted() as inside:
                _make_folder(inside, posixpath.normpath(self._state.config["WorkingDir"]))
            with self._containers.step(
                self._lineage.image, self._state.config, command, self._section, real=False
            ) as container:
                layer = self._work.images.adopt(change.upper, self._cancel.check)
                self._lineage.add(command, self._state, layer, container.id)

    def _run(self, found: dockerfile.Run) -> None:
        if found.flags:
            raise BuildFailed(
                f"the --{found.flags[0]} option requires BuildKit. Refer to "
                "https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit "
                "enabled"
            )
        state, images = self._state, self._work.images
        command = state.command_line(found)
        environment = self.args.environment(state.env)
        recorded = self.args.recorded(environment)
        saved = [f"|{len(recorded)}", *recorded, *command] if environment else command
        if self._lineage.reuse(saved, state, self._section):
            return
        words = command or list(state.config.get("Cmd") or ())
        if not self._lineage.image:
            raise BuildFailed(f'exec: "{words[0] if words else ""}": there are no files yet')
        config = {**state.config, "Env": [*state.env, *environment]}
        with self._containers.step(
            self._lineage.image, config, words, self._section, real=True
        ) as container:
            status = self._containers.run(container, self._section)
            if status:
                raise CommandFailed(command, status)
            upper = self._containers.upper(container)
            kept = not self._work.request.remove
            check = self._cancel.check
            layer = images.capture(upper, (), check) if kept else images.adopt(upper, check)
            self._lineage.add(saved, state, layer, container.id)

    def _copy(self, found: dockerfile.Copy) -> None:
        state, work = self._state, self._work
        request = copying.CopyRequest(
            sources=found.sources,
            destination=found.target,
            working_dir=state.config.get("WorkingDir") or "/",
            chown=found.chown,
            is_add=isinstance(found, dockerfile.Add),
            from_image=bool(found.stage),
        )
        with (
            self._sources(found.stage) as files,
            copying.gather(
                request, files, work.folder, self._section.message, self._cancel.check
            ) as sources,
        ):
            command = [*state.shell, f"#(nop) {request.comment(sources.digest)}"]
            if self._lineage.reuse(command, state, self._section):
                return
            with work.mounts.changing(self._lineage.image) as change:
                with change.mounted() as inside:
                    copying.copy(sources, inside, self._cancel.check)
                layer = work.images.adopt(change.upper, self._cancel.check)
                self._lineage.add(command, state, layer, "")

    @contextmanager
    def _sources(self, name: str) -> Iterator[Files | None]:
        """Where COPY finds its sources: the context, or the files of an image (--from)."""
        if not name:
            yield self._work.context.files
            return
        try:
            image = self._work.results.get(name, self._index)
            if image is None:
                image = self._work.bases.get(name, self._section).id
        except NetkitError as error:
            raise BuildFailed(f"invalid from flag value {name}: {error}") from error
        with self._work.mounts.reading(image) as root:
            yield FilesOnDisk(root)


def _make_folder(inside: Root, path: str) -> None:
    try:
        inside.make_folder(path)
    except (NotADirectoryError, FileExistsError):
        raise BuildFailed(f"Cannot mkdir: {path[:200]} is not a directory") from None
    except OSError as error:
        raise KernelError(
            f"Cannot mkdir: {path[:200]}: {error.strerror}", errno=error.errno
        ) from error
