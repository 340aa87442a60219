"""The stages of `script/test`, and the parts of long ones, which take about the same time.

`tests/seconds.txt` has what files took once, as lines "SECONDS PATH"; what is not there takes
little.  That is about balance only: a part has what files there are, recorded or not.
"""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.places import ROOT

RECORDED = ROOT / "tests/seconds.txt"
USUAL = 0.3
"""Seconds of a file that is not recorded."""


SLOWEST = ("--durations=5",)


@dataclass(frozen=True)
class Stage:
    """A command of a shell, or folders of tests and options of pytest."""

    command: str = ""
    tests: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    root: bool = False
    parts: int = 1


STAGES: Mapping[str, Stage] = {
    "lint": Stage(".venv/bin/ruff check . && .venv/bin/lint-imports"),
    "types": Stage(".venv/bin/mypy"),
    "unit": Stage(tests=("tests/unit",), options=("-m", "not root and not slow")),
    "slow": Stage(tests=("tests/unit",), options=("-m", "not root and slow", *SLOWEST), parts=4),
    "engine": Stage(tests=("tests/engine",), options=SLOWEST, root=True, parts=9),
    "netns": Stage(tests=("tests/contract", "tests/netns"), options=SLOWEST, root=True, parts=6),
    "labs": Stage(tests=("tests/labs",), options=SLOWEST, root=True, parts=4),
}


@dataclass(frozen=True)
class Part:
    """Of a stage: tests in these files or folders, or its command."""

    stage: str
    number: int = 1
    of: int = 1
    tests: tuple[str, ...] = ()
    seconds: float = 0.0  # that it took once
    again: bool = False  # some of its files, a second time

    @property
    def name(self) -> str:
        name = self.stage if self.of == 1 else f"{self.stage} {self.number}/{self.of}"
        return f"{name} again" if self.again else name

    @property
    def file(self) -> str:
        file = self.stage if self.of == 1 else f"{self.stage}-{self.number}"
        return f"{file}-again" if self.again else file


def planned(names: Iterable[str]) -> list[Part]:
    """Return the parts of stages in the order in which they start.

    Stages take turns, as some wait a lot (engine, netns) and others work (slow, labs).
    """
    took, short, long = seconds(), list[Part](), list[Part]()
    for name in names:
        stage = STAGES[name]
        if stage.parts == 1:
            short.append(Part(name, tests=stage.tests))
            continue
        shares = split(files(stage.tests), stage.parts, took)
        for number, paths in enumerate(shares, 1):
            part = Part(name, number, len(shares), tuple(paths), total(paths, took))
            long.append(part)
    return short + sorted(long, key=lambda part: ((part.number - 1) / part.of, -part.seconds))


def seconds(recorded: Path = RECORDED) -> dict[str, float]:
    """Return what was recorded, by path below the root of the checkout."""
    lines = recorded.read_text().splitlines() if recorded.exists() else []
    pairs = (line.split(maxsplit=1) for line in lines)
    return {path: float(figure) for figure, path in pairs}


def files(folders: Iterable[str], root: Path = ROOT) -> list[str]:
    """List all files of tests below folders, as pytest would collect them."""
    found = (path for folder in folders for path in (root / folder).rglob("test_*.py"))
    return sorted(str(path.relative_to(root)) for path in found)


def total(paths: Iterable[str], took: Mapping[str, float]) -> float:
    return sum(took.get(path, USUAL) for path in paths)


def split(paths: Sequence[str], parts: int, took: Mapping[str, float]) -> list[list[str]]:
    """Give each part about the same sum of seconds; the longest part is first.

    Each path is in one part, in the order it was given; no part is empty.
    """
    sums, chosen = [0.0] * parts, [set[str]() for _ in range(parts)]
    for path in sorted(paths, key=lambda path: -took.get(path, USUAL)):
        least = min(range(parts), key=lambda part: sums[part])
        sums[least] += took.get(path, USUAL)
        chosen[least].add(path)
    order = sorted(range(parts), key=lambda part: -sums[part])
    return [[path for path in paths if path in chosen[part]] for part in order if chosen[part]]


def record(reports: Iterable[Path], recorded: Path = RECORDED) -> None:
    """Write what files took that are in pytest's XML files, and keep what is known of others."""
    took: dict[str, float] = {}
    for report in reports:
        for case in xml.parse(report).iter("testcase"):
            path = file_of(case.get("classname", ""))
            took[path] = took.get(path, 0.0) + float(case.get("time", 0))
    known = sorted((seconds(recorded) | took).items())
    lines = (f"{s:.0f} {path}\n" for path, s in known if s >= 1 and (ROOT / path).exists())
    recorded.write_text("".join(lines))


def file_of(classname: str) -> str:
    """Return the path of "tests.engine.test_ports", which may be followed by a class's name."""
    words = classname.split(".")
    last = max((i for i, word in enumerate(words) if word.startswith("test_")), default=-1)
    return "/".join(words[: last + 1]) + ".py"
