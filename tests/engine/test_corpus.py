"""Cases recorded from a real dockerd: builds, commits, images, volumes.  See tests/corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.running import cases, differences, expected, specification
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.wire import inside
from tests.places import ROOT

pytestmark = [
    netkit_only("they were recorded from one: python3 -m tests.corpus compares"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def corpus_results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of the cases that were selected, by name, from a spare engine."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.module is request.module and hasattr(item, "callspec")
    ]
    file = tmp_path_factory.mktemp("corpus") / "results.json"
    with alone() as engine:
        _run(engine, chosen, file)
    return json.loads(file.read_text())


def _run(engine: Engine, chosen: list[str], file: Path) -> None:
    command = [sys.executable, "-m", "tests.corpus", "--results", str(file), *chosen]
    done = subprocess.run(
        inside(engine.netns, *command), cwd=ROOT, capture_output=True, text=True, timeout=800,
        env={**os.environ, "DOCKER_HOST": engine.host, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert file.exists(), f"{done.stdout}{done.stderr}{engine.log_tail()}"


@pytest.mark.parametrize("name", cases())
def test_as_recorded(corpus_results: dict[str, Any], name: str) -> None:
    wanted, free = expected(name)
    found = [d for d in differences(wanted, corpus_results[name])]
    found = [d for d in found if not d[0].startswith(tuple(free))]
    text = "\n".join(f"{place}: {what}" for place, what in found)
    assert not found, f"{specification(name)['summary']}\n{text}"
