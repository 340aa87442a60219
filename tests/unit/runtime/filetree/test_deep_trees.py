"""Trees nested deeper than a stack or a path: walked, compared, archived, removed."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import Conflict
from runtime.filetree import walk as walking
from runtime.filetree.remove import clear, remove_tree
from runtime.filetree.scoped_root import Root
from runtime.filetree.walk import walk
from runtime.rootfs import diff, tar_out
from tests.unit.points import FailingFiles, Points

pytestmark = pytest.mark.slow

DEEP = 1500  # beyond Python's stack


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied here, because pytest would recurse."""
    yield tmp_path
    for path in tmp_path.iterdir():
        if path.is_dir():
            remove_tree(path)


def nest(top: Path, depth: int, name: str = "d") -> None:
    """Directories within each other, with a file in the last."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here))
    os.write(fd := os.open("leaf", os.O_WRONLY, dir_fd=here), b"12345")
    os.close(fd)
    os.close(here)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_of_any_depth_is_removed(folder: Path) -> None:
    top = folder / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/link").symlink_to(folder)
    (folder / "kept").write_text("")
    for name in ("a/b", "a", "."):
        nest(top / name, DEEP)
    nest(top, 20, "x" * 250)
    before = descriptors()
    remove_tree(top)
    assert os.listdir(folder) == ["kept"]
    assert descriptors() <= before  # the garbage of earlier tests may be closed meanwhile
    remove_tree(top)  # there is none


def test_a_tree_is_removed_from_a_disk_without_space_for_another_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = folder / "top"
    (top / "a/b/c").mkdir(parents=True)
    nest(top / "a", DEEP)
    points = Points()
    with monkeypatch.context() as patch:
        FailingFiles(folder, points, patch)
        points.begin(full=0)
        remove_tree(top)
    assert any(point.startswith("os.rename") for point in points.met)
    assert os.listdir(folder) == []


def test_what_a_layer_replaces_is_removed_whatever_it_is(folder: Path) -> None:
    (folder / "aside").mkdir()
    (folder / "here").mkdir()
    (folder / "here/file").write_text("")
    (folder / "here/folder").mkdir()
    nest(folder / "here/folder", DEEP)
    here = os.open(folder / "here", os.O_PATH)
    for name in ("file", "folder", "absent"):
        clear(here, name, folder / "aside")
    os.close(here)
    assert os.listdir(folder / "here") == os.listdir(folder / "aside") == []


@pytest.mark.parametrize("depth", [3, DEEP])
def test_a_walk_sees_everything_twice_or_once(folder: Path, depth: int) -> None:
    nest(folder, depth)
    before = descriptors()
    top = os.open(folder, os.O_RDONLY)
    seen = []
    for entry in walk(top):
        seen.append((entry.name, entry.leaving, entry.st.st_size if not entry.is_folder else 0))
        assert descriptors() < before + 70
        os.stat(entry.name, dir_fd=entry.folder)  # it is where it says
    os.close(top)
    assert seen == [("d", False, 0)] * depth + [("leaf", False, 5)] + [("d", True, 0)] * depth
    assert descriptors() <= before


def test_a_walk_that_loses_its_way_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "_KEPT", 1)
    nest(folder, 4)
    top = os.open(folder, os.O_RDONLY)
    steps = walk(top)
    while next(steps).name != "leaf":
        pass
    (folder / "d/d/d").rename(folder / "away")
    with pytest.raises(Conflict, match="was moved while it was read"):
        list(steps)
    os.close(top)


def test_a_deep_tree_is_archived_as_far_as_paths_go(folder: Path) -> None:
    nest(folder, DEEP)
    with Root(folder) as root:
        data = io.BytesIO(b"".join(tar_out.export(root)))
        with tarfile.open(fileobj=data) as tar:
            names = tar.getnames()
        assert names[-1] == "d/" * DEEP + "leaf"
        nest(folder, 30, "n" * 200)
        with pytest.raises(Conflict, match="nested too deeply below n"):
            b"".join(tar_out.export(root))


def test_changes_of_a_deep_tree(folder: Path) -> None:
    upper, one, two = folder / "upper", folder / "one", folder / "two"
    for path in (upper, one, two):
        path.mkdir()
    nest(upper, DEEP)
    nest(two, DEEP - 1)
    found = diff.changes(upper, [one, two])
    deepest = "/d" * DEEP
    assert found[-2:] == [(deepest, diff.ADDED), (f"{deepest}/leaf", diff.ADDED)]
    assert len(found) == DEEP + 1
    nest(upper, 30, "n" * 200)
    with pytest.raises(Conflict, match="nested too deeply"):
        diff.changes(upper, [one, two])


def test_a_deep_folder_is_made_in_one_go(folder: Path) -> None:
    path = "/a" * 2000
    with Root(folder) as root:
        root.make_folder(path)
        root.make_folder(path)
        os.close(root.open(path, os.O_PATH | os.O_DIRECTORY))
        root.make_folder("/x/../../../y")
    assert sorted(os.listdir(folder)) == ["a", "y"]
