"""Directories are marked as unrelated where a file system knows the mark; nothing else changes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.filetree import spread as spreading
from runtime.filetree.spread import spread

NO_DUMP = 0x40  # FS_NODUMP_FL, chattr(1): d


class Ext4:
    """The flags of one directory, as ioctl(2) reads and sets them."""

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.changes = 0

    def ioctl(self, fd: int, request: int, value: bytes) -> bytes:
        assert len(value) == 4
        if request == spreading._SET:
            self.flags = int.from_bytes(value, "little")
            self.changes += 1
        return self.flags.to_bytes(4, "little")


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Ext4]:
    def of(flags: int) -> Ext4:
        made = Ext4(flags)
        monkeypatch.setattr(spreading.fcntl, "ioctl", made.ioctl)
        return made

    return of


def test_other_flags_of_a_directory_stay(directory: Callable[[int], Ext4], tmp_path: Path) -> None:
    found = directory(NO_DUMP)
    spread(tmp_path)
    assert found.flags == NO_DUMP | spreading._TOP


def test_a_directory_that_is_marked_is_not_written(
    directory: Callable[[int], Ext4], tmp_path: Path
) -> None:
    found = directory(spreading._TOP)
    spread(tmp_path)
    assert found.changes == 0


def test_a_file_system_may_refuse_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(spreading.fcntl, "ioctl", refuse)
    spread(tmp_path)
    spread(tmp_path / "missing")


def test_lsattr_reads_the_mark(tmp_path: Path) -> None:
    folder = tmp_path / "tried"
    folder.mkdir()
    chattr = shutil.which("chattr")
    if not chattr or subprocess.run([chattr, "+T", folder], check=False).returncode:
        pytest.skip("the file system does not know the mark, or chattr is not installed")
    spread(tmp_path)
    shown = subprocess.run(["lsattr", "-d", tmp_path], capture_output=True, text=True, check=True)
    assert "T" in shown.stdout.split()[0]
