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
    found = sweep._belongs(entry, ["/lab/h1"], {1}, sweep._Roots(["/lab/h1"]))
    assert found == ("/lab/h1" in str(words))


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


def _entry(proc: Path, pid: int, namespace: Path, root: str, mounts: str | None) -> Path:
    entry = proc / str(pid)
    (entry / "ns").mkdir(parents=True)
    (entry / "ns/mnt").hardlink_to(namespace)
    (entry / "root").symlink_to(root)
    if mounts is not None:
        (entry / "mountinfo").write_text(mounts)
    return entry


def test_mounts_are_read_once_for_all_processes_that_have_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.touch()
    other.touch()
    overlay = "25 24 0:26 / / rw - overlay overlay rw,upperdir=/lab/h1/snapshots/x/diff\n"
    below = "26 24 0:26 / /lab/h1/rootfs rw - overlay overlay rw,upperdir=/lab/h1/x/diff\n"
    roots = sweep._Roots(["/lab/h1"])
    assert roots.below(_entry(tmp_path, 1, one, "/", overlay))
    assert roots.below(_entry(tmp_path, 2, one, "/", None))
    assert not roots.below(_entry(tmp_path, 3, one, "/chroot", "1 0 8:1 / / rw - ext4 x rw\n"))
    assert not roots.below(_entry(tmp_path, 4, other, "/", below))
    assert not sweep._Roots(["/lab/h"]).below(tmp_path / "1")
