"""What a bundle's process.json has is read once, and is of the run that is there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.oci import process_file
from runtime.oci.process import Process
from runtime.oci.shim import Shim

ID = "a" * 64
HERE = Process.of(os.getpid())


@pytest.fixture
def made(tmp_path: Path) -> Shim:
    cgroups: Any = SimpleNamespace(frozen=lambda group: group == "/frozen")
    return Shim(tmp_path, cgroups, required=False)


def note(made: Shim, **fields: Any) -> None:
    assert HERE is not None
    document = {"init": [HERE.pid, HERE.start], "monitor": None, "cgroup": "/frozen", **fields}
    made.bundle(ID).mkdir(exist_ok=True)
    (made.bundle(ID) / "process.json").write_text(json.dumps(document))


def test_it_is_read_once(made: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    note(made)
    read: list[str] = []
    real = process_file.content

    def content(path: Any) -> bytes:
        read.append(str(path))
        return real(path)

    monkeypatch.setattr(process_file, "content", content)
    running = made.running(ID)
    assert running is not None
    assert running.init == HERE
    assert made.paused(ID)
    assert made.running(ID) == running
    assert len(read) == 1


def test_nothing_is_known_of_a_run_that_was_removed(made: Shim) -> None:
    note(made)
    assert made.running(ID) is not None
    made._forget(ID)
    assert made.running(ID) is None
    assert not made.paused(ID)
    note(made, cgroup="/other", monitor=[1, 2])
    running = made.running(ID)
    assert running is not None
    assert running.monitor == Process(1, 2)
    assert not made.paused(ID)


@pytest.mark.parametrize("text", ["", "{}", "[]", '"x"', "null", '{"init": 5}', '{"init": [1]}'])
def test_a_damaged_one_counts_as_none(made: Shim, text: str) -> None:
    note(made)
    (made.bundle(ID) / "process.json").write_text(text)
    assert made.running(ID) is None
    note(made)
    assert made.running(ID) is not None
