"""What `script/test` does with stages: places, order of output, the sum, and ends of all kinds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE

import pytest

from tests import oracle, parts, stages, workplace
from tests.fetching import Fetch
from tests.parts import Part, Stage
from tests.stages import Runner


def runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, commands: Mapping[str, str]
) -> Runner:
    monkeypatch.setattr(parts, "STAGES", {n: Stage(c) for n, c in commands.items()})
    monkeypatch.setattr(stages, "POLL_SECONDS", 0.005)
    made = Runner(tmp_path, jobs)
    made.go(list(commands))
    return made


def test_stages_run_side_by_side_and_are_shown_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    meet = f"{tmp_path}/first"
    commands = {  # the first ends when the second has begun, the second before the first
        "one": f"echo 1a; until [ -e {meet} ]; do sleep 0.01; done; echo 1b",
        "two": f"echo 2a; touch {meet}; exit 3",
        "three": "echo 3",
    }
    made = runner(tmp_path, monkeypatch, 2, commands)
    shown = [line for line in capfdbinary.readouterr().out.decode().splitlines() if line]
    assert [line.split(" after ")[0] for line in shown] == [
        "== test: one ==", "1a", "1b", "== test: one ok",
        "== test: two ==", "2a", "== test: two FAILED",
        "== test: three ==", "3", "== test: three ok",
    ]  # fmt: skip
    assert made.failed == ["two"]


def test_what_waits_for_packages_is_overtaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(self: Fetch) -> None:
        script = f"until [ -e {tmp_path}/made ]; do sleep 0.01; done; echo {tmp_path}"
        self.process = subprocess.Popen(["sh", "-c", script], stdout=PIPE, stderr=PIPE, text=True)

    monkeypatch.setattr(Fetch, "start", start)
    commands = {"engine": "echo at $FOLDER", "slow": f"touch {tmp_path}/made"}
    monkeypatch.setattr(parts, "STAGES", {n: Stage(c) for n, c in commands.items()})
    Runner(tmp_path, 1, [Fetch((), program=("FOLDER", ""))]).go(list(commands))
    shown = capfd.readouterr().out
    assert shown.index("slow ok") < shown.index(f"at {tmp_path}/") < shown.index("engine ok")


def test_one_job_runs_them_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = f"mkdir {tmp_path}/busy && sleep 0.02 && rmdir {tmp_path}/busy"
    assert runner(tmp_path, monkeypatch, 1, {"a": busy, "b": busy, "c": busy}).failed == []


def test_a_runner_that_ends_in_between_ends_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Runner, run: stages.Run) -> bool:
        if not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
            return False
        raise SystemExit(143)

    monkeypatch.setattr(Runner, "_report", broken)
    with pytest.raises(SystemExit):
        runner(tmp_path, monkeypatch, 1, {"a": f"echo $$ >{tmp_path}/pid; sleep 60"})
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_stage_fails_once_whichever_of_its_parts_do(tmp_path: Path) -> None:
    made = Runner(tmp_path, 2)
    for number, status in ((1, 3), (2, 0), (3, 3)):
        part = Part("engine", number, 3)
        process = subprocess.Popen(["sh", "-c", f"exit {status}"])
        process.wait()
        (tmp_path / part.file).touch()
        assert made._report(stages.Run(part, process, tmp_path / part.file))
    assert made.failed == ["engine"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_its_stages(tmp_path: Path, number: int) -> None:
    program = f"""
import sys
from tests import parts, stages
parts.STAGES = {{"a": parts.Stage("echo $$ >{tmp_path}/pid; exec sleep 60")}}
sys.exit(stages.main(["a"]))
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=stages.CLONE, env=environment)
    file, deadline = tmp_path / "pid", time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    while Path(f"/proc/{file.read_text().strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    left = list(tmp_path.glob("netkit-test-*"))
    assert left == [] or number == signal.SIGKILL


def test_what_is_left_in_the_checkout_is_seen(tmp_path: Path) -> None:
    assert workplace.changes(tmp_path) == set()  # no checkout
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("kept/\n")
    before = workplace.changes(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / ":memory:").touch()
    assert workplace.changes(tmp_path) - before == {"?? :memory:"}


def test_control_groups_of_a_stage_that_was_killed_are_removed(tmp_path: Path) -> None:
    groups, work = tmp_path / "groups", tmp_path / "netkit-test-x"
    (work / "netkit-test-x-labs").mkdir(parents=True)
    (groups / "nk-netkit-test-x-labs/stage").mkdir(parents=True)
    (groups / "pids/nk-netkit-test-x-labs/netkit/id").mkdir(parents=True)
    foreign = groups / "pids/nk-netkit-test-y-labs/netkit"
    foreign.mkdir(parents=True)
    workplace.sweep(work, groups)
    there = {path for path in groups.rglob("*")}
    assert there == {foreign, *list(foreign.parents)[:2]}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["lint", "unti"], "test: no stage or option unti (there are: --jobs N --record --strict"),
        (["--jobs", "0"], "test: --jobs 0: give how many parts"),
        (["--jobs", "unit"], "test: --jobs unit: give how many parts"),
        (["--jobs=-1", "unit"], "test: --jobs -1: give how many parts"),
        (["unit", "--jobs"], "test: --jobs : give how many parts"),
        (["NETKIT_TEST_JOBS"], "test: NETKIT_TEST_JOBS two: give how many parts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_stage_or_number_of_jobs_is_refused_in_one_line(
    tmp_path: Path, argv: list[str], line: str
) -> None:
    shutil.copy(stages.CLONE / "script/test", tmp_path)
    environment = os.environ | {"NETKIT_TEST_JOBS": "two" if argv[0].isupper() else "2"}
    words = [word for word in argv if not word.isupper()]
    done = subprocess.run(
        ["sh", str(tmp_path / "test"), *words], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def _looks(*groups: set[str]) -> list[oracle.Snapshot]:
    empty = {part: frozenset[str]() for part in oracle.Snapshot.__dataclass_fields__
             if part not in {"cgroups", "descriptors"}}  # fmt: skip
    return [oracle.Snapshot(**empty, cgroups=frozenset(names)) for names in groups]


@pytest.mark.parametrize(
    ("looks", "clean"),
    [([{"a"}, {"b"}], True), ([{"a"}, {"a", "b"}, set()], True), ([{"a"}, {"a", "b"}], False)],
)
def test_a_control_group_counts_if_it_is_there_at_every_look(
    monkeypatch: pytest.MonkeyPatch, looks: list[set[str]], clean: bool
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(oracle.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(oracle.time, "sleep", lambda seconds: None)
    (before,), seen = _looks(set()), _looks(*looks)
    follow = iter([*seen, *seen[-1:] * 20])
    if clean:
        oracle.assert_clean(before, lambda: next(follow))
        return
    with pytest.raises(AssertionError, match=r"cgroups: a$"):
        oracle.assert_clean(before, lambda: next(follow))
