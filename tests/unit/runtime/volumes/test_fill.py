"""A new volume has all of the image's files or none, whenever the daemon is killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.filetree import copy
from runtime.volumes import fill as filling
from runtime.volumes.fill import fill, is_empty, tidy
from tests.unit.points import Faulty, Killed, Points

Filler = Callable[[Path], None]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    top = tmp_path / "image"
    (top / "sub").mkdir(parents=True)
    for name in ("one", "sub/two"):
        (top / name).write_text(name)
    (top / "three").symlink_to("one")
    top.chmod(0o1750)
    return top


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def volume(folder: Path) -> tuple[Path, Path]:
    """(directory of a volume's files, the one above)."""
    (folder / "_data").mkdir(parents=True)
    return folder / "_data", folder


def names(data: Path) -> list[str]:
    return sorted(p.relative_to(data).as_posix() for p in data.rglob("*"))


@pytest.mark.parametrize("inside", [False, True])
def test_a_volume_gets_the_files_and_the_mode(tmp_path: Path, image: Path, inside: bool) -> None:
    data, above = volume(tmp_path / "v")
    with opened(image) as source:
        fill(data, data if inside else above, source)
    assert names(data) == ["one", "sub", "sub/two", "three"]
    assert data.stat().st_mode & 0o7777 == 0o1750
    assert data.stat().st_mtime_ns == image.stat().st_mtime_ns
    assert os.listdir(above) == ["_data"]


def test_an_empty_folder_gives_its_mode(tmp_path: Path) -> None:
    data, above = volume(tmp_path / "v")
    (tmp_path / "image").mkdir()
    (tmp_path / "image").chmod(0o2711)
    with opened(tmp_path / "image") as source:
        fill(data, above, source)
    assert data.stat().st_mode & 0o7777 == 0o2711


@pytest.mark.parametrize("inside", [False, True])
def test_killed_at_any_call_there_are_all_files_or_none(
    tmp_path: Path, image: Path, inside: bool
) -> None:
    seen, number, killed = set(), 0, True
    while killed:
        data, above = volume(tmp_path / f"v{number}")
        beside = data if inside else above
        points = Points()
        points.begin(cut=number)
        with pytest.MonkeyPatch.context() as patch, opened(image) as source:
            for module in (filling, copy):
                faulty: Any = Faulty(points, "os", os, {"close", "fstat"})
                patch.setattr(module, "os", faulty)
            with suppress(Killed):
                fill(data, beside, source)
        killed = points.killed
        tidy(data, beside)  # the next daemon
        found = names(data)
        assert found in ([], ["one", "sub", "sub/two", "three"]), points.met[-3:]
        assert is_empty(data) == (not found)
        assert os.listdir(above) == ["_data"]
        seen.add(len(found))
        number += 1
    assert seen == {0, 4}


def test_what_a_container_made_meanwhile_stays(tmp_path: Path, image: Path) -> None:
    data, above = volume(tmp_path / "v")
    with opened(image) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "tidy", lambda data, beside: None)
        fill(data, above, source)
    (data / "sub").mkdir()
    (data / "sub/mine").touch()
    (data / "three").mkdir()
    tidy(data, above)
    assert names(data) == ["one", "sub", "sub/mine", "three"]
    assert os.listdir(above) == ["_data"]


def test_a_full_disk_leaves_the_volume_empty(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, above = volume(tmp_path / "v")

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with opened(image) as source, pytest.raises(OSError, match="No space left"):
        fill(data, above, source)
    assert is_empty(data)
    assert os.listdir(above) == ["_data"]
