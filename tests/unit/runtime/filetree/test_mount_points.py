"""Mount points below a root: what exists stays, and a parent is looked up once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from runtime.filetree import scoped_root
from runtime.filetree.scoped_root import Root


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that the kernel was asked to resolve."""
    calls: list[str] = []
    real = scoped_root.openat2

    def noted(root: int, path: str, *more: Any) -> int:
        calls.append(path)
        return real(root, path, *more)

    monkeypatch.setattr(scoped_root, "openat2", noted)
    return calls


def test_a_parent_is_looked_up_once(tmp_path: Path, looked_up: list[str]) -> None:
    (tmp_path / "etc").mkdir()
    with Root(tmp_path) as inside:
        inside.make_file("/etc/hosts")
        inside.make_link("/etc/mtab", "/proc/mounts")
        inside.make_folder("/etc")
    assert looked_up == ["etc", "etc", "etc"]
    assert (tmp_path / "etc/hosts").read_bytes() == b""
    assert os.readlink(tmp_path / "etc/mtab") == "/proc/mounts"


def test_the_time_of_a_directory_stays(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(5, 7))
    with Root(tmp_path) as inside:
        inside.make_file("/a")
        inside.make_link("/b", "a")
    assert tmp_path.stat().st_mtime_ns == 7


def test_what_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "folder").mkdir()
    with Root(tmp_path) as inside:
        for name in ("/file", "/nowhere", "/folder"):
            inside.make_file(name)
            inside.make_link(name, "other")
    assert (tmp_path / "file").read_text() == "mine"
    assert os.readlink(tmp_path / "nowhere") == "absent"
    assert not (tmp_path / "absent").exists()


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with Root(tmp_path) as inside, pytest.raises(OSError, match="a"):
        inside.make_file("/a")


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "outside").mkdir(parents=True)
    (root / "etc").symlink_to("../outside")
    with Root(root) as inside:
        inside.make_file("/etc/hosts")
    assert not list(outside.iterdir())
    assert (root / "outside/hosts").exists()
