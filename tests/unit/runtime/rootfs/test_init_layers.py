"""Layers of mount points are shared from an image's second container on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.rootfs import init_layers
from runtime.rootfs.init_layers import InitLayers

IMAGE, OTHER = ("sha256:a",), ("sha256:a", "sha256:b")


@pytest.fixture
def layers(tmp_path: Path) -> InitLayers:
    (tmp_path / "snapshots").mkdir()
    return InitLayers(tmp_path / "init", tmp_path / "snapshots")


def made(layers: InitLayers, home: Path, image: tuple[str, ...] = IMAGE) -> Path | None:
    """A container's layer, as its creation makes it."""
    home.mkdir(exist_ok=True)
    if not layers.link(home, image):
        (home / "init/etc").mkdir(parents=True)
        (home / "init/etc/hosts").touch()
        layers.offer(home, image)
    return layers.of(home)


def test_an_image_s_third_container_has_the_layer_of_its_second(
    layers: InitLayers, tmp_path: Path
) -> None:
    homes = [tmp_path / "snapshots" / str(n) for n in range(3)]
    first, second, third = [made(layers, home) for home in homes]
    assert first == homes[0] / "init"
    assert first.is_dir()
    assert not first.is_symlink()
    assert second == third == next((tmp_path / "init").iterdir())
    assert all((home / "init/etc/hosts").is_file() for home in homes)


def test_images_with_other_layers_share_nothing(layers: InitLayers, tmp_path: Path) -> None:
    place = tmp_path / "snapshots"
    ours = [made(layers, place / f"a{n}", IMAGE) for n in range(3)][-1]
    theirs = [made(layers, place / f"b{n}", OTHER) for n in range(3)][-1]
    none = [made(layers, place / f"c{n}", ()) for n in range(3)][-1]
    assert len({ours, theirs, none, None}) == 4


def test_the_next_daemon_shares_it_as_well(layers: InitLayers, tmp_path: Path) -> None:
    place = tmp_path / "snapshots"
    shared = [made(layers, place / str(n)) for n in range(2)][-1]
    again = InitLayers(tmp_path / "init", place)
    assert made(again, place / "later") == shared


def test_of_two_that_are_made_at_once_one_is_shared(layers: InitLayers, tmp_path: Path) -> None:
    place = tmp_path / "snapshots"
    made(layers, place / "first")
    for name in ("a", "b"):
        (place / name / "init").mkdir(parents=True)
    layers.offer(place / "a", IMAGE)
    layers.offer(place / "b", IMAGE)
    assert layers.of(place / "a") == layers.of(place / "c" if made(layers, place / "c") else place)
    assert layers.of(place / "b") == place / "b/init"


def test_what_cannot_be_brought_to_the_disk_is_not_shared(
    layers: InitLayers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "snapshots"
    made(layers, place / "first")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert made(layers, place / "second") == place / "second/init"
    assert list((tmp_path / "init").iterdir()) == []


def test_it_is_on_the_disk_before_it_is_shared(
    layers: InitLayers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "snapshots"
    made(layers, place / "first")
    synced: list[str] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        assert not [*(tmp_path / "init").iterdir()]
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    made(layers, place / "second")
    assert set(synced) == {str(place / "second/init"), str(place / "second/init/etc")}


def test_layers_that_no_container_uses_are_removed_beyond_a_limit(
    layers: InitLayers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_layers, "KEPT", 2)
    place = tmp_path / "snapshots"
    shared = []
    for n in range(4):
        for name in (f"{n}a", f"{n}b"):
            last = made(layers, place / name, (f"sha256:{n}",))
        shared.append(last)
        if n:  # the first image's container stays
            (place / f"{n}b/init").unlink()
    left = set((tmp_path / "init").iterdir())
    assert left == {shared[0], shared[3]}


def test_what_a_killed_daemon_was_removing_goes_with_the_next_start(
    layers: InitLayers, tmp_path: Path
) -> None:
    place = tmp_path / "snapshots"
    shared = [made(layers, place / str(n)) for n in range(2)][-1]
    (tmp_path / "init/.0123/etc").mkdir(parents=True)
    InitLayers(tmp_path / "init", place)
    assert [*(tmp_path / "init").iterdir()] == [shared]


def test_a_layer_is_kept_while_it_is_not_known_who_uses_it(
    layers: InitLayers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(init_layers, "KEPT", 0)
    place, readlink = tmp_path / "snapshots", os.readlink
    used = [made(layers, place / f"a{n}", IMAGE) for n in range(2)][-1]

    def broken(path: Path) -> str:
        if path == place / "a1/init":
            raise OSError(errno.EIO, "Input/output error")
        return readlink(path)

    monkeypatch.setattr(os, "readlink", broken)
    for n in range(2):
        made(layers, place / f"b{n}", OTHER)
    assert used is not None
    assert used.is_dir()
    assert "layers of mount points that no container uses" in caplog.text
