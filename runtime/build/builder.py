"""Build all stages of a Dockerfile, side by side where they do not depend on each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from netkit import threads
from runtime import limits
from runtime.build.errors import BuildFailed
from runtime.build.output import Section, Send
from runtime.build.stage import StageBuild, Work
from runtime.cancellation import Cancel
from runtime.dockerfile import effects
from runtime.dockerfile.build_args import unused

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
        runs = [_StageRun(self._work, self._make, self._send, self._cancel, index)
                for index in range(len(self._work.plan.stages))]  # fmt: skip
        _run_all(runs)
        declared = {name for run in runs for name in run.build.args.declared}
        left = unused(self._work.request.arguments, declared | self._work.outer.declared)
        if left:
            words = " ".join(left)
            front.text(f"[Warning] One or more build-args [{words}] were not consumed\n")
        if not runs[-1].image:
            raise BuildFailed("No image was generated. Is your Dockerfile empty?")
        return runs[-1].image

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

    def __init__(self, work: Work, make: MakeStage, send: Send, cancel: Cancel, index: int) -> None:
        plan = work.plan
        first = len(plan.arguments) + 1 + sum(1 + len(s.steps) for s in plan.stages[:index])
        self._results, self._index = work.results, index
        self.cancel = Cancel(cancel)
        self.section = Section(send, self.cancel, open=index == 0)
        self.build = make(work, index, first, self.section, self.cancel)
        self.image = ""
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._same = _with_the_same_beginning(work, index)

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


def _with_the_same_beginning(work: Work, index: int) -> list[int]:
    """Earlier stages whose first step this one shares: it finds that in the cache."""
    if not work.request.cache:
        return []
    stages = work.plan.stages
    mine = stages[index]
    found = []
    for other in range(index):
        theirs = stages[other]
        same_base = theirs.begin.base == mine.begin.base
        if same_base and mine.steps and theirs.steps:
            same_base = mine.steps[0].source.split() == theirs.steps[0].source.split()
        if same_base:
            found.append(other)
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
