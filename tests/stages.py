"""Run stages of tests, several at a time: what `script/test` does in its .venv.

Long stages have parts, which take about the same time (`tests/parts.py`).  Stages without parts
start first, in the order given, then parts, stages taking turns, each as soon as one of N places is
free.  The oldest one's output is shown as it comes, that of later ones when their turn comes, so
that no lines are mixed.  What needs root runs by `script/apart`, so parts do not meet, and when one
ends, or is killed, or the runner is, nothing of it is left running.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests import again, parts
from tests.fetching import CLONE, TIED, Fetch, fetches, kill
from tests.parts import Part, Stage
from tests.workplace import changes, workplace

BIN = CLONE / ".venv/bin"
PYTEST = (str(BIN / "python"), "-m", "pytest")
POLL_SECONDS = 0.1
CHUNK = 1 << 16
TESTS_FAILED = 1  # pytest's exit status; others are for what is broken
MOST_JOBS = 4  # unless more are asked for


@dataclass
class Run:
    """A part that has started: its process, and a file with what it has written."""

    part: Part
    process: subprocess.Popen[bytes]
    output: Path
    began: float = field(default_factory=time.monotonic)
    seconds: float = -1.0  # of a stage that has ended
    headed: bool = False
    shown: int = 0  # bytes

    def ended(self) -> bool:
        if self.seconds < 0 and self.process.poll() is not None:
            self.seconds = time.monotonic() - self.began
        return self.seconds >= 0

    def show(self) -> None:
        """Copy new output of the part to our output."""
        if not self.headed:
            _print(f"\n== test: {self.part.name} ==")
            self.headed = True
        with self.output.open("rb") as file:
            file.seek(self.shown)
            while chunk := file.read(CHUNK):
                sys.stdout.buffer.write(chunk)
                self.shown += len(chunk)
        sys.stdout.flush()


class Runner:
    """Stages of one run; their output, results and temporary files are in the folder `work`."""

    def __init__(self, work: Path, jobs: int, needed: Sequence[Fetch] = ()) -> None:
        self._work, self._jobs, self._needed = work, jobs, needed
        self.failed: list[str] = []
        self.unreliable: list[str] = []  # tests that passed the second time
        self._repeated: list[Part] = []  # parts that failed, and may pass alone
        self._final: set[str] = set()  # stages that failed in a way that is not repeated

    def go(self, names: Sequence[str]) -> None:
        """Run all; each is reported when it and those that began before it have ended."""
        waiting, turn = parts.planned(names), list[Run]()
        for fetch in self._needed:
            if fetch.stages & set(names):
                fetch.start()
        try:
            while waiting or turn:
                busy = sum([not run.ended() for run in turn])  # which notes when they ended
                while waiting and busy < self._jobs:
                    turn.append(self._start(self._next(waiting)))
                    busy += 1
                time.sleep(POLL_SECONDS)
                while turn and self._report(turn[0]):
                    turn.pop(0)
        finally:
            for fetch in self._needed:
                fetch.kill()
            for run in turn:
                kill(run.process, signal.SIGKILL)
            for run in turn:
                run.show()

    def go_again(self) -> None:
        """Run files with failed tests of root stages a second time, alone, if they are few.

        Stages of which all pass then have not failed; `unreliable` names the tests.
        """
        before = again.failed(again.outcomes(self.reports()))
        if not before or len(before) > again.MOST_TESTS:
            return
        for part in self._repeated:
            tests = tuple(again.files(self._report_of(part)))
            if not tests or not self._alone(replace(part, tests=tests, again=True)):
                self._final.add(part.stage)
        self.failed = [stage for stage in self.failed if stage in self._final]
        after = again.outcomes(self.reports())
        self.unreliable = [name for file, name in before if after[file, name] == "passed"]

    def _alone(self, part: Part) -> bool:
        run = self._start(part)
        try:
            run.process.wait()
        finally:
            kill(run.process, signal.SIGKILL)
        run.ended()
        self._report(run)
        return run.process.returncode == 0

    def reports(self) -> list[Path]:
        """pytest's XML files, those of second runs last."""
        found = [*self._work.glob("results/*.xml"), *self._work.glob("*/results/*.xml")]
        return sorted(found, key=lambda path: (path.stem.endswith("-again"), path))

    def _report_of(self, part: Part) -> Path:
        return self._folder(part) / f"results/{part.file}.xml"

    def _next(self, waiting: list[Part]) -> Part:
        """Take the first part that does not have to wait for what it needs, else the first."""
        held_up = {stage for fetch in self._needed if fetch.running() for stage in fetch.stages}
        free = (n for n, part in enumerate(waiting) if part.stage not in held_up)
        return waiting.pop(next(free, 0))

    def _report(self, run: Run) -> bool:
        """Show new output of the part; return whether it has ended."""
        over = run.ended()  # asked before its last words are read
        run.show()
        if over:
            ok = run.process.returncode == 0
            if not ok:
                self._note(run)
            verdict = "ok" if ok else "FAILED"
            _print(f"== test: {run.part.name} {verdict} after {run.seconds:.0f} s ==")
        return over

    def _note(self, run: Run) -> None:
        stage = run.part.stage
        self.failed += [] if stage in self.failed else [stage]
        tests_failed = run.process.returncode == TESTS_FAILED
        if tests_failed and parts.STAGES[stage].root and not run.part.again:
            self._repeated.append(run.part)
        else:
            self._final.add(stage)

    def _start(self, part: Part) -> Run:
        output = self._work / f"{part.file}.out"
        # Modules of tests are rewritten once, not by each stage (5 s of unit's 12).
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        argv = self._command(part, parts.STAGES[part.stage])
        needed = [fetch for fetch in self._needed if part.stage in fetch.stages]
        for fetch in needed:
            environment |= fetch.wait()
        if refused := [fetch.why for fetch in needed if fetch.needed and fetch.why]:
            argv = _refusal(*refused)
        if part.stage in {"unit", "slow"} and os.access("/dev/shm", os.W_OK):
            environment["PYTEST_DEBUG_TEMPROOT"] = "/dev/shm"  # a third of their time
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*TIED, *argv], cwd=CLONE, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return Run(part, process, output)

    def _folder(self, part: Part) -> Path:
        """Of a part of a root stage: its /tmp."""
        return self._work / f"{self._work.name}-{part.file}"

    def _command(self, part: Part, stage: Stage) -> list[str]:
        if not stage.tests:
            return ["sh", "-c", stage.command]
        tests = (*stage.options, *part.tests)
        if not stage.root:
            results = self._work / "results"
            return [*PYTEST, f"--junitxml={results}/{part.file}.xml", *tests]
        if os.geteuid() != 0:
            return _refusal(f"test: {part.stage} needs root (run: sudo script/test {part.stage})")
        own = self._folder(part)
        (own / "results").mkdir(parents=True)
        own.chmod(0o1777)
        report = f"--junitxml=/tmp/results/{part.file}.xml"
        return ["script/apart", str(own), *PYTEST, report, *tests]


def _unreliable(names: Sequence[str]) -> str:
    listed = "".join(f"\n  {name}" for name in names)
    return f"\ntest: failed, and passed when run again alone, which is a fault to find:{listed}"


def _refusal(*reasons: str) -> list[str]:
    """A command that prints why a stage cannot run, and fails."""
    return ["sh", "-c", 'printf "%s\\n" "$@"; exit 1', "sh", *reasons]


def _print(line: str) -> None:
    print(line, flush=True)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def usual_jobs(processors: int) -> int:
    """Twice the processors, as tests wait half of their time; but each job has engines."""
    return 1 if processors == 1 else min(2 * processors, MOST_JOBS)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    usual = int(os.environ.get("NETKIT_TEST_JOBS") or usual_jobs(os.cpu_count() or 1))
    parser = argparse.ArgumentParser(
        prog="script/test", description="Run stages of tests; without arguments all of them.",
        epilog="Example: script/test --jobs 1 unit engine",
    )  # fmt: skip
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=" ".join(parts.STAGES))
    parser.add_argument(
        "--jobs", type=int, default=usual, metavar="N", help=f"how many run at a time ({usual})"
    )
    parser.add_argument(
        "--record", action="store_true", help="write what each file took to tests/seconds.txt"
    )
    parser.add_argument(
        "--strict", action="store_true", help="a failed test is not run again, alone"
    )
    given = parser.parse_args(argv)
    given.stages = list(dict.fromkeys(given.stages)) or list(parts.STAGES)
    return given


def main(argv: Sequence[str]) -> int:
    """Run stages as script/test does; return the exit status."""
    given = _arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    before, needed = changes(CLONE), fetches() if os.geteuid() == 0 else []
    with workplace() as work:
        runner = Runner(work, given.jobs, needed)
        runner.go(given.stages)
        if not given.strict:
            runner.go_again()
        reports = runner.reports()
        sums, left = again.total(again.outcomes(reports)), sorted(changes(CLONE) - before)
        if given.record:
            parts.record(reports)
    if left:
        _print("\ntest: left in the checkout:\n  " + "\n  ".join(left))
        runner.failed.append("checkout")
    for fetch in needed:
        if fetch.why:
            _print(f"\ntest: {' '.join(fetch.command)}: {fetch.why}")
    if runner.unreliable:
        _print(_unreliable(runner.unreliable))
    bad = " ".join(runner.failed)
    _print(f"\ntest: failed: {bad}" if bad else "\ntest: all passed")
    _print(sums)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
