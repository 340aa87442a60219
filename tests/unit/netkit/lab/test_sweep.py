"""Sweeping meets processes that end meanwhile, and control groups that empty a moment later."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import KernelError
from netkit.lab import sweep

ID = "0c8c9e15"


@pytest.fixture
def group(tmp_path: Path, monkeypatch: Any) -> Path:
    """Make a control group with a process in it: a folder that is not empty."""
    monkeypatch.setattr(sweep, "CGROUPS", tmp_path)
    found = tmp_path / "memory" / sweep.GROUP / ID
    (found / "inner").mkdir(parents=True)
    (found / "inner" / "process").touch()
    (tmp_path / "pids").mkdir()
    return found


def test_a_group_goes_when_its_last_process_has_left(group: Path) -> None:
    leaving = threading.Timer(0.05, (group / "inner" / "process").unlink)
    leaving.start()
    sweep._remove_groups([ID])
    leaving.join()
    assert not group.parent.exists()


def test_a_group_that_stays_is_an_error(group: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sweep, "SECONDS", 0.05)
    with pytest.raises(KernelError, match=f"cannot remove control group {group}: "):
        sweep._remove_groups([ID])


def test_foreign_groups_stay(group: Path) -> None:
    (group / "inner" / "process").unlink()
    (group.parent / "other").mkdir()
    sweep._remove_groups([ID])
    assert [p.name for p in group.parent.iterdir()] == ["other"]


@pytest.mark.parametrize("words", [None, "init", "netkitd\0--root\0/lab/h1"])
def test_a_process_that_may_not_be_inspected_belongs_by_its_arguments_only(
    tmp_path: Path, monkeypatch: Any, words: str | None
) -> None:
    """EACCES: it ended at the look-up (None: no trace of it), or has capabilities that we lack."""
    entry, stat = tmp_path / "4711", os.stat
    entry.mkdir()
    if words is not None:
        (entry / "cmdline").write_text(words)

    def look(path: Any, **more: Any) -> os.stat_result:
        if str(path) == f"{entry}/ns/net":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", look)
    assert sweep._belongs(entry, ["/lab/h1"], {1}) == ("/lab/h1" in str(words))


def test_time_counts_from_the_first_kill_not_from_the_look_before_it(monkeypatch: Any) -> None:
    """With a thousand processes on a busy machine a look takes longer than all of them to end."""
    killed: list[int] = []
    looks = iter([[4711], []])
    monkeypatch.setattr(sweep, "SECONDS", 0.02)
    monkeypatch.setattr(sweep.os, "kill", lambda pid, _: killed.append(pid))

    def slow(folders: object, inodes: object) -> list[int]:
        time.sleep(0.03)
        return next(looks)

    monkeypatch.setattr(sweep, "processes", slow)
    sweep._end(["/nowhere"], [])
    assert killed == [4711]
