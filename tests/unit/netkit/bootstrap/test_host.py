"""What of the machine decides: its mirrors, its suites, its programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netkit.bootstrap import host
from netkit.errors import InvalidSpec, NotFound

LINES = (
    "bookworm-security Debian-Security http://10.0.0.1/debian-security/",
    "bookworm Debian https://10.0.0.2/debian/",
    "trixie Debian http://10.0.0.3/debian/",
    "sid Debian file:/srv/debian",
    "malformed",
)


def test_the_mirror_is_the_one_that_apt_here_has_the_suite_from() -> None:
    assert host.chosen(LINES, "debian", "trixie") == "http://10.0.0.3/debian"
    assert host.chosen(LINES, "debian", "forky") == "https://10.0.0.2/debian"
    assert host.chosen(LINES, "ubuntu", "jammy") == ""
    assert host.chosen(["sid Debian file:/srv/debian"], "debian", "sid") == ""


def test_suites_are_debootstraps_scripts(tmp_path: Path) -> None:
    for name in ("bookworm", "debian-common", "warty.buildd"):
        (tmp_path / name).write_text(f"# {name}")
    assert host.scripts(tmp_path) == {"bookworm": "# bookworm"}
    with pytest.raises(NotFound, match="Debian package debootstrap"):
        host.scripts(tmp_path / "none")


def test_a_keyring_that_is_not_there_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "there.gpg").touch()
    host.must_have(str(tmp_path / "there.gpg"), "x-archive-keyring")
    with pytest.raises(NotFound, match=r"absent.gpg is missing.*package x-archive-keyring"):
        host.must_have(str(tmp_path / "absent.gpg"), "x-archive-keyring")


def test_what_is_missing_is_said_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidSpec, match="needs root"):
        host.must_be_able()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        host.shutil, "which", lambda name, path: "apt" not in name and "debo" not in name
    )
    with pytest.raises(
        NotFound, match=r"^debootstrap, apt-get is not .*install debootstrap apt\)$"
    ):
        host.must_be_able()
