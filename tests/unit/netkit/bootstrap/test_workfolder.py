"""Work folders: removed at the end, and after a kill by the next one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from netkit.bootstrap import workfolder
from netkit.bootstrap.workfolder import PREFIX, locked, work_folder


def test_a_work_folder_is_its_owners_alone_and_is_removed_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with work_folder(tmp_path) as work:
            assert work.stat().st_mode & 0o777 == 0o700
            (work / "a/b").mkdir(parents=True)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, other = tmp_path / f"{PREFIX}left", tmp_path / "somebody"
    left.mkdir()
    other.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    with work_folder(tmp_path):
        assert left.exists()  # it may have been made just now, and not be locked yet
    monkeypatch.setattr(workfolder, "YOUNG_SECONDS", -1)
    with work_folder(tmp_path) as running:
        assert not left.exists()
        with work_folder(tmp_path) as second:
            assert running.exists()
            assert second.exists()
    assert sorted(os.listdir(tmp_path)) == [f"{PREFIX}link", "somebody"]


def test_a_lock_is_one_holders(tmp_path: Path) -> None:
    def taken() -> bool:
        with (tmp_path / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    with locked(tmp_path / "lock"):
        assert taken()
    assert not taken()
