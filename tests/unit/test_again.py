"""A second run of what failed: alone, of few, and named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import again, parts, stages
from tests.parts import Part, Stage
from tests.stages import Runner

CASE = '<testcase classname="tests.engine.test_{}" name="test_{}">{}</testcase>'
SECOND = """
from pathlib import Path
import pytest

def test_steady(): pass

def test_odd():
    there = Path({marker!r})
    if not there.exists():
        there.touch()
        raise AssertionError("the first time")

@pytest.mark.skip(reason="a machine lacks something")
def test_skipped(): pass
"""
BROKEN = "def test_never(): assert False\n"
MANY = "".join(f"def test_{n}(): assert False\n" for n in range(again.MOST_TESTS + 1))


def report(path: Path, *cases: str) -> Path:
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return path


def test_the_last_report_of_a_test_counts_and_one_that_was_cut_short_does_not(
    tmp_path: Path,
) -> None:
    first = report(tmp_path / "a.xml",
                   CASE.format("a", "one", ""), CASE.format("a", "two", "<failure/>"),
                   CASE.format("a", "three", ""), CASE.format("a", "three", "<error/>"),
                   CASE.format("b", "four", "<skipped/>"))  # fmt: skip
    second = report(tmp_path / "b.xml", CASE.format("a", "two", ""))
    cut = tmp_path / "cut.xml"
    cut.write_text("<testsuites><test")
    assert again.total(again.outcomes([first, cut])) == "1 passed, 2 failed, 1 skipped"
    assert again.total(again.outcomes([first, second])) == "2 passed, 1 failed, 1 skipped"
    assert again.files(first) == ["tests/engine/test_a.py"]
    assert again.files(cut) == []


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str]) -> Runner:
    """Each file is a part of the stage engine, and runs without script/apart."""
    tests = tmp_path / "tests/engine"
    tests.mkdir(parents=True)
    for name, text in files.items():
        (tests / f"test_{name}.py").write_text(text.format(marker=str(tmp_path / "marker")))
    monkeypatch.setattr(parts, "STAGES", {"engine": Stage(tests=("x",), root=True)})
    monkeypatch.setattr(parts, "planned", lambda names: [
        Part("engine", n, len(files), (f"tests/engine/test_{name}.py",))
        for n, name in enumerate(files, 1)
    ])  # fmt: skip

    def command(self: Runner, part: Part, stage: Stage) -> list[str]:
        report = self._folder(part) / f"results/{part.file}.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                f"--junitxml={report}", f"--rootdir={tmp_path}", *part.tests]  # fmt: skip
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path), *argv]

    monkeypatch.setattr(Runner, "_command", command)
    runner = Runner(tmp_path, 2)
    runner.go(["engine"])
    assert runner.failed == ["engine"]
    runner.go_again()
    return runner


@pytest.mark.slow
def test_what_passes_alone_is_named_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = run(tmp_path, monkeypatch, {"odd": SECOND})
    assert runner.failed == []
    assert runner.unreliable == ["tests.engine.test_odd::test_odd"]
    assert "test_odd" in stages._unreliable(runner.unreliable)
    assert again.total(again.outcomes(runner.reports())) == "2 passed, 0 failed, 1 skipped"
    assert "== test: engine again ok" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("broken", [BROKEN, "raise SystemExit(7)\n", "syntax error\n"])
def test_what_fails_again_or_does_not_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    runner = run(tmp_path, monkeypatch, {"odd": SECOND, "broken": broken})
    assert runner.failed == ["engine"]


@pytest.mark.slow
def test_many_failures_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = run(tmp_path, monkeypatch, {"many": MANY})
    assert runner.failed == ["engine"]
    assert [path.stem for path in runner.reports()] == ["engine"]
