"""Volumes with options are mounted while a container uses them, and not a moment less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netkit.errors import KernelError
from runtime.rootfs import mount
from runtime.volumes.model import Volume
from runtime.volumes.mounted import MountedVolumes

TMPFS = Volume(name="vol", created="", options={"type": "tmpfs", "device": "t", "o": "size=1m"})
BIND = Volume(name="vol", created="", options={"type": "none", "device": "/srv", "o": "bind,ro"})


class Mounts:
    """The kernel's; a place may be mounted on several times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stack: list[str] = []
        self.calls: list[tuple[object, ...]] = []
        self.fails = ""
        patch.setattr(mount, "mount", self.mount)
        patch.setattr(mount, "unmount", self.unmount)
        patch.setattr(os.path, "ismount", lambda place: bool(self.stack))

    def mount(self, *args: object) -> None:
        self.calls.append(args)
        if self.fails and self.fails in str(args):
            raise OSError(2, f"mount : {os.strerror(2)}")
        if not int(args[3] if len(args) > 3 else 0) & mount.MS_REMOUNT:  # type: ignore[call-overload]
            self.stack.append(str(args[0]))

    def unmount(self, place: Path) -> bool:
        return bool(self.stack and self.stack.pop())


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Mounts:
    return Mounts(monkeypatch)


def mounted(*users: str) -> MountedVolumes:
    return MountedVolumes(lambda name: Path("/volumes") / name, lambda name: users)


def test_a_volume_without_options_is_a_directory(kernel: Mounts) -> None:
    plain = Volume(name="vol", created="")
    volumes = mounted()
    volumes.acquire(plain)
    with volumes.borrowed(plain) as place:
        assert place == Path("/volumes/vol")
    volumes.release(plain, "c1")
    assert kernel.calls == []


def test_it_is_mounted_once_for_all(kernel: Mounts) -> None:
    volumes = mounted("c1", "c2")
    volumes.acquire(TMPFS)
    volumes.acquire(TMPFS)
    assert kernel.calls == [("t", "/volumes/vol", "tmpfs", 0, "size=1m")]
    volumes.release(TMPFS, "c1")
    assert kernel.stack == ["t"], "c2 uses it"


def test_the_last_container_unmounts_it_also_what_is_on_top(kernel: Mounts) -> None:
    volumes = mounted("c1")
    volumes.acquire(TMPFS)
    kernel.stack.append("by hand")
    volumes.release(TMPFS, "c1")
    assert kernel.stack == []


def test_a_borrower_keeps_it_mounted_and_is_not_cut_off(kernel: Mounts) -> None:
    volumes = mounted()
    volumes.acquire(TMPFS)
    with volumes.borrowed(TMPFS), volumes.borrowed(TMPFS):
        volumes.release(TMPFS, "c1")
        assert kernel.stack == ["t"]
    assert kernel.stack == []
    assert len(kernel.calls) == 1


def test_a_container_that_starts_meanwhile_keeps_it(kernel: Mounts) -> None:
    users = ["c1"]
    volumes = MountedVolumes(Path, lambda name: users)
    with volumes.borrowed(TMPFS):
        users.append("c2")
    volumes.release(TMPFS, "c1")
    assert kernel.stack == ["t"]


def test_a_read_only_bind_is_remounted(kernel: Mounts) -> None:
    mounted("c1").acquire(BIND)
    flags = mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY
    assert kernel.calls == [
        ("/srv", "/volumes/vol", "", mount.MS_BIND), ("", "/volumes/vol", "", flags),
    ]  # fmt: skip


@pytest.mark.parametrize("fails", ["/srv", str(mount.MS_BIND | mount.MS_REMOUNT | 1)])
def test_a_mount_that_fails_says_which_and_leaves_nothing(kernel: Mounts, fails: str) -> None:
    kernel.fails = fails
    with pytest.raises(KernelError, match="mount /srv:/volumes/vol: no such file or directory"):
        mounted("c1").acquire(BIND)
    assert kernel.stack == []
