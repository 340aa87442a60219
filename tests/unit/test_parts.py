"""How stages of tests are split: each file is in one part, and parts take about the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import parts
from tests.parts import STAGES, Stage


def test_the_parts_of_each_stage_have_every_file_of_tests_once() -> None:
    planned = parts.planned(STAGES)
    for name, stage in STAGES.items():
        mine = [part for part in planned if part.stage == name]
        if stage.parts == 1:
            assert [part.tests for part in mine] == [stage.tests]
            continue
        assert sorted(path for part in mine for path in part.tests) == parts.files(stage.tests)
        assert sorted(part.number for part in mine) == list(range(1, stage.parts + 1))
    assert {part.stage for part in planned} == set(STAGES)
    in_folders = {path.name for folder in ("contract", "engine", "labs", "netns", "unit")
                  for path in (parts.ROOT / "tests" / folder).rglob("test_*.py")}  # fmt: skip
    assert in_folders == {path.name for path in (parts.ROOT / "tests").rglob("test_*.py")}


def test_parts_take_the_same_time_and_stages_take_turns_from_the_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = {f"tests/{n}.py": float(n) for n in (90, 50, 40, 35, 25, 20)}
    split = parts.split(sorted(took), 3, took)
    assert [parts.total(paths, took) for paths in split] == [95, 90, 75]
    assert parts.split(["a"], 3, {}) == [["a"]]
    monkeypatch.setattr(parts, "STAGES", {
        "a": Stage(tests=("a",), parts=2), "b": Stage(tests=("b",), parts=2),
        "short": Stage("true"),
    })  # fmt: skip
    monkeypatch.setattr(parts, "files", lambda folders: [f"{folders[0]}{n}" for n in (1, 2)])
    monkeypatch.setattr(parts, "seconds", lambda: {"a1": 19.0, "a2": 9.0, "b1": 20.0, "b2": 4.0})
    names = [(part.name, part.file, part.tests) for part in parts.planned(["a", "b", "short"])]
    assert names == [
        ("short", "short", ()), ("b 1/2", "b-1", ("b1",)), ("a 1/2", "a-1", ("a1",)),
        ("a 2/2", "a-2", ("a2",)), ("b 2/2", "b-2", ("b2",)),
    ]  # fmt: skip


def test_what_files_took_is_recorded_and_what_is_known_of_others_is_kept(tmp_path: Path) -> None:
    report, recorded = tmp_path / "a.xml", tmp_path / "seconds.txt"
    case = '<testcase classname="{}" time="{}"/>'
    cases = [
        case.format("tests.unit.test_stages", 1.7), case.format("tests.unit.test_parts.TestX", 0.2),
        case.format("tests.unit.test_stages", 2.6), case.format("tests.unit.test_removed", 9),
    ]  # fmt: skip
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    recorded.write_text("7 tests/engine/test_ports.py\n9 tests/unit/test_stages.py\n")
    parts.record([report], recorded)
    assert recorded.read_text() == "7 tests/engine/test_ports.py\n4 tests/unit/test_stages.py\n"
    assert parts.seconds(recorded)["tests/unit/test_stages.py"] == 4
