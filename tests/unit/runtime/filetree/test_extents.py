"""Where a file has data, and where holes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.filetree.extents import extents

PART = 1 << 20  # more than a block of any file system, and than a huge page of tmpfs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Data, a hole, data, a hole."""
    path = tmp_path / "sparse"
    with path.open("wb") as made:
        made.write(b"a" * 4096)
        made.seek(8 * PART)
        made.write(b"b" * 4096)
        made.truncate(16 * PART)
    return path


def found(path: Path, size: int) -> Sequence[tuple[int, int]]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return list(extents(fd, size))
    finally:
        os.close(fd)


def test_holes_are_left_out(file: Path) -> None:
    first, second = found(file, 16 * PART)
    assert first[0] == 0
    assert 4096 <= first[1] <= 4 * PART
    assert 4 * PART <= second[0] <= 8 * PART < second[1] <= 12 * PART


def test_what_is_beyond_the_size_is_left_out(file: Path) -> None:
    assert found(file, 100) == [(0, 100)]
    assert len(found(file, 6 * PART)) == 1
    assert found(file, 0) == []


def test_a_file_that_became_shorter_ends_early(file: Path) -> None:
    os.truncate(file, 10)
    assert found(file, 16 * PART) == [(0, 10)]
    os.truncate(file, 0)
    assert found(file, 16 * PART) == []


def test_one_that_becomes_shorter_meanwhile_too(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        walked = extents(fd, 16 * PART)
        next(walked)
        os.truncate(file, 10)
        assert list(walked) == []
    finally:
        os.close(fd)
