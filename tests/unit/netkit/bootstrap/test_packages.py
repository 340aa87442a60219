"""Packages kept in an image as an apt source."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from netkit.bootstrap import debian, packages
from netkit.errors import KernelError


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_packages_are_kept_as_a_source_of_apt_and_forgotten_again(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "DEBIAN").mkdir(parents=True)
    text = "Package: toy\nVersion: 2:1.0-1\nArchitecture: all\nMaintainer: me\nDescription: a toy\n"
    (made / "DEBIAN/control").write_text(text)
    file = tmp_path / "toy_2%3a1.0-1_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(made), str(file)], check=True, stdout=-3)
    root = tmp_path / "root"
    (root / packages.LIST).parent.mkdir(parents=True)

    packages.keep(root, [file], 0)
    folder = root / packages.FOLDER
    kept = folder / "toy_1.0-1_all.deb"
    index = (folder / "Packages").read_text()
    assert "Package: toy\n" in index
    assert "Filename: ./toy_1.0-1_all.deb\n" in index
    assert hashlib.sha256(kept.read_bytes()).hexdigest() in index
    assert index.endswith("\n\n")
    release = (folder / "Release").read_text()
    assert release.startswith("Date: Thu, 01 Jan 1970 00:00:00 UTC\n")
    assert f" {hashlib.sha256(index.encode()).hexdigest()} {len(index)} Packages\n" in release
    assert (root / packages.LIST).read_text() == "deb [trusted=yes] file:/var/local/packages ./\n"
    packages.keep(root, [], 0)
    assert sorted(folder.iterdir()) == [folder / "Packages", folder / "Release"]
    packages.forget(root)
    assert not folder.exists()
    assert not (root / packages.LIST).exists()


def test_no_file_is_newer_than_the_release_of_the_suite(tmp_path: Path) -> None:
    lists = tmp_path / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    with pytest.raises(KernelError, match="no Release file"):
        debian.epoch(tmp_path)
    (lists / "x_InRelease").write_text("Origin: x\nDate: Sat, 11 Jul 2026 10:16:31 UTC\n")
    assert debian.epoch(tmp_path) == 1783764991
