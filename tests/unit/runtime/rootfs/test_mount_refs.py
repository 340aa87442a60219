"""Who has a root file system mounted, and when its layer goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from netkit.errors import NotFound
from runtime.rootfs import mount_refs
from runtime.rootfs.mount import is_mounted
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots


class Snapshots:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.there = True

    def mount(self, id: str, target: Path) -> None:
        self.log.append("mount")

    def unmount(self, target: Path) -> None:
        self.log.append("unmount")

    def remove(self, id: str) -> None:
        self.log.append("remove")

    @contextmanager
    def reading(self, id: str) -> Iterator[None]:
        if not self.there:
            raise NotFound(f"No such container: {id}")
        yield
        self.log.append("image read")


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots()


@pytest.fixture
def refs(snapshots: Snapshots, tmp_path: Path) -> MountRefs:
    return MountRefs(cast(OverlaySnapshots, snapshots), lambda id: tmp_path / id)


def test_a_layer_that_is_read_goes_with_its_last_reader(
    refs: MountRefs, snapshots: Snapshots
) -> None:
    refs.acquire("c")
    with refs.borrowed("c"):
        with refs.borrowed("c"):
            refs.release("c")
            refs.remove("c")
        assert "unmount" not in snapshots.log
    assert snapshots.log[-3:] == ["image read", "unmount", "remove"]


def test_a_layer_that_nobody_reads_goes_at_once(refs: MountRefs, snapshots: Snapshots) -> None:
    with refs.borrowed("c"):
        pass
    refs.remove("c")
    with refs.borrowed("c"):  # of another one with this id
        pass
    assert snapshots.log.count("remove") == 1


def test_nothing_is_left_of_a_reader_who_came_too_late(
    refs: MountRefs, snapshots: Snapshots, tmp_path: Path
) -> None:
    snapshots.there = False
    with pytest.raises(NotFound), refs.borrowed("c"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_mount_does_not_wait_for_the_unmount_of_another_container(
    refs: MountRefs, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unmounting waits until what was written is on the disk."""
    refs.acquire("a")
    reached, synced = threading.Event(), threading.Event()

    def slow(target: Path) -> None:
        reached.set()
        assert synced.wait(20)

    monkeypatch.setattr(snapshots, "unmount", slow)
    with ThreadPoolExecutor(1) as aside:
        release = aside.submit(refs.release, "a")
        assert reached.wait(20)
        try:
            refs.acquire("b")
            assert not release.done()
        finally:
            synced.set()
        release.result(20)


def test_what_is_mounted_since_an_earlier_daemon_is_not_mounted_again(
    refs: MountRefs, snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount_refs, "is_mounted", lambda path: True)
    assert refs.acquire("a") == tmp_path / "a"
    assert snapshots.log == []


def test_a_mount_is_told_by_its_device(tmp_path: Path) -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(tmp_path)
    assert not is_mounted(tmp_path / "nosuch")
