"""Build all stages of a Dockerfile, side by side where they do not depend on each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from netkit import threads
from runtime import limits
from runtime.build.errors import BuildFailed
from runtime.build.output import Section, Send
from runtime.build.stage import StageBuild, Work
from runtime.cancellation import Cancel
from runtime.dockerfile import effects
from runtime.dockerfile.build_args import unused
from runtime.dockerfile.stages import Plan

MakeStage = Callable[[Work, int, int, Section, Cancel], StageBuild]  # index, first step, ...


class Builder:
    """`make` constructs the build of a stage."""

    def __init__(self, work: Work, make: MakeStage, send: Send, cancel: Cancel) -> None:
        self._work, self._make = work, make
        self._send, self._cancel = send, cancel

    def build(self) -> str:
        """The id of the image of the last stage.  NetkitError; Cancelled."""
        front = Section(self._send, self._cancel, open=True)
        self._declare(front)
        runs = self._runs()
        _run_all(runs)
        declared = {name for run in runs for name in run.build.args.declared}
        left = unused(self._work.request.arguments, declared | self._work.outer.declared)
        if left:
            words = " ".join(left)
            front.text(f"[Warning] One or more build-args [{words}] were not consumed\n")
        if not runs[-1].image:
            raise BuildFailed("No image was generated. Is your Dockerfile empty?")
        return runs[-1].image

    def _runs(self) -> list[_StageRun]:
        work, runs, first = self._work, [], len(self._work.plan.arguments) + 1
        same = _with_the_same_beginning(work.plan, cache=work.request.cache)
        for index, stage in enumerate(work.plan.stages):
            cancel = Cancel(self._cancel)
            section = Section(self._send, cancel, open=index == 0)
            build = self._make(work, index, first, section, cancel)
            runs.append(_StageRun(work, build, section, cancel, index, same[index]))
            first += 1 + len(stage.steps)
        return runs

    def _declare(self, front: Section) -> None:
        """Arguments before the first FROM."""
        plan, outer, size = self._work.plan, self._work.outer, 0
        for number, argument in enumerate(plan.arguments, 1):
            front.text(f"Step {number}/{plan.steps} : {argument.source}")
            front.text("\n")
            ready = effects.expanded(argument, outer.values(), plan.escape)
            for name, default in ready.defaults:
                outer.declare(name, default)
                size += len(default or "")
            if size > limits.DOCKERFILE_BYTES:
                raise BuildFailed(f"arguments of more than {limits.DOCKERFILE_BYTES} bytes")


class _StageRun:
    """One stage, on a thread of its own if there are several."""

    def __init__(
        self,
        work: Work,
        build: StageBuild,
        section: Section,
        cancel: Cancel,
        index: int,
        same: Collection[int],
    ) -> None:
        """`same`: stages that must be over before, see `_with_the_same_beginning`."""
        self.build, self.section, self.cancel = build, section, cancel
        self._results, self._index, self._same = work.results, index, same
        self.image = ""
        self.over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.cancel.check()
            for index in self._same:
                self._results.wait(index)
            self.image = self.build.build()
            self._results.finish(self._index, self.image)
        except BaseException as error:  # noqa: BLE001  raised by the thread of the build
            self.error = error
            self._results.fail(self._index)
        finally:
            self.over.set()


def _with_the_same_beginning(plan: Plan, *, cache: bool) -> list[set[int]]:
    """For each stage the latest ones before it that share its first step, which it then finds in
    the cache.  Those wait for earlier ones in their turn."""
    latest: dict[tuple[str, str | None], int] = {}  # by base and first step; None: any step
    found: list[set[int]] = []
    for index, stage in enumerate(plan.stages):
        base = stage.begin.base
        step = " ".join(stage.steps[0].source.split()) if stage.steps else ""
        places = [(base, step), (base, "")] if step else [(base, None)]
        found.append({latest[place] for place in places if place in latest} if cache else set())
        latest[base, step] = latest[base, None] = index
    return found


def _run_all(runs: list[_StageRun]) -> None:
    """Run stages; raises the error of the first one in the file that fails."""
    if len(runs) == 1:
        runs[0].run()
        if runs[0].error is not None:
            raise runs[0].error
        return
    # Begun in the file's order: what a stage waits for has begun before it.
    with ThreadPoolExecutor(limits.BUILD_STAGES, "netkit-build") as pool:
        try:
            for run in runs:
                threads.submit(pool, "a stage of a build", run.run)
            for run in runs:
                run.section.begin()
                run.over.wait()
                if run.error is not None:
                    raise run.error
        finally:
            for run in runs:
                run.cancel.set()
