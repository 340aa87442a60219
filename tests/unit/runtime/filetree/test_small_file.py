"""Small files are complete, and take few system calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runtime.filetree.small_file import content, create


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, 1 << 18])
def test_a_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    create(tmp_path / "file", os.urandom(size), 0o600)
    assert content(tmp_path / "file") == (tmp_path / "file").read_bytes()
    assert (tmp_path / "file").stat().st_size == size


def test_a_file_of_the_kernel_is_read_though_it_has_no_size() -> None:
    assert content("/proc/self/status").startswith(b"Name:\t")


def test_a_file_that_exists_is_not_written(tmp_path: Path) -> None:
    create(tmp_path / "file", b"mine", 0o640)
    with pytest.raises(FileExistsError):
        create(tmp_path / "file", b"yours", 0o600)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_reading_takes_four_calls_of_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"7")
    calls: list[str] = []
    for name in ("open", "read", "close", "fstat", "lseek"):
        real = getattr(os, name)

        def noted(*args: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
            calls.append(_name)
            return _real(*args, **more)

        monkeypatch.setattr(os, name, noted)
    assert content(tmp_path / "file") == b"7"
    assert calls == ["open", "read", "read", "close"]
