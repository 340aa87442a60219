"""Mount points and other files of containers that are blocked or disappear."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from netkit.errors import Conflict, InvalidSpec, KernelError
from runtime.container import mounts
from runtime.container.config import Config, HostConfig, LogConfig, Mount
from runtime.container.model import MountPoint
from runtime.dockerfile import changes
from runtime.filetree import walk
from runtime.filetree.scoped_root import Root
from runtime.lifecycle import log_rotation, rootfs_mounts
from runtime.lifecycle.archive import _writable
from runtime.lifecycle.retry import Owed
from runtime.oci import log_reader

LONG = "/" + "x" * 300


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("")
    (tmp_path / "source").write_text("")
    return tmp_path / "root"


def bound(rootfs: Path, source: str, target: str, mode: str = "") -> None:
    point = MountPoint(type="bind", source=source, destination=target, mode=mode)
    with Root(rootfs) as inside:
        rootfs_mounts.bind(point, inside, recursive_read_only=False)


@pytest.mark.parametrize("mode", ["", "mount"])
@pytest.mark.parametrize("source", ["{}/source/x", LONG, "/a\0b"])
def test_a_source_that_cannot_be_is_refused(rootfs: Path, source: str, mode: str) -> None:
    with pytest.raises(InvalidSpec, match="error while creating mount source path '"):
        bound(rootfs, source.format(rootfs.parent), "/y", mode)


def test_a_full_disk_is_no_fault_of_the_request(
    rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "makedirs", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(KernelError, match="'/absent': No space left"):
        bound(rootfs, "/absent", "/y")


@pytest.mark.parametrize("target", ["/etc/passwd/x", LONG, "/a\0b"])
def test_a_place_that_cannot_be_is_refused(rootfs: Path, target: str) -> None:
    source = rootfs.parent / "source"
    container: Any = SimpleNamespace(mounts=[], host_config=HostConfig(), extra={})
    with Root(rootfs) as inside:
        for act in (
            lambda: bound(rootfs, str(source), target),
            lambda: bound(rootfs, str(rootfs), target),
            lambda: rootfs_mounts.place_tmpfs(container, inside, target, []),
            lambda: list(rootfs_mounts.network_files(container, {target: source}, inside)),
        ):
            with pytest.raises(InvalidSpec, match="Cannot "):
                act()
    assert os.listdir(rootfs) == ["etc"]


@pytest.mark.parametrize("name", ["etc", "dev", "proc"])
def test_an_image_with_a_file_for_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with Root(tmp_path) as inside, pytest.raises(InvalidSpec, match="image: Cannot "):
        rootfs_mounts.furnish_init(inside)


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(binds=["/x:/data"], mounts=[Mount(type="volume", target="/data")]),
        HostConfig(mounts=[Mount(type="volume", target="/data")] * 2),
        HostConfig(binds=["/x:/data", "/x://data"]),
        HostConfig(binds=["/x:/data"], tmpfs={"//data": ""}),
    ],
)
def test_one_place_is_not_mounted_on_twice(host: HostConfig) -> None:
    with pytest.raises(InvalidSpec, match="Duplicate mount point: /data"):
        mounts.mount_points(Config(), host)


def test_the_innermost_mount_says_what_may_be_written() -> None:
    points = [
        MountPoint(type="bind", source="/a", destination="/x", rw=False),
        MountPoint(type="bind", source="/b", destination="/x/y", rw=True),
    ]
    for alive in (False, True):
        c: Any = SimpleNamespace(
            mounts=points,
            host_config=HostConfig(tmpfs={"/x/t": ""}),
            state=SimpleNamespace(alive=alive),
        )
        written = [p for p in ("/", "/x", "/x/yy", "/x/y/z", "/x/t") if _writable(c, p)]
        assert written == ["/", "/x/y/z", *(["/x/t"] if alive else [])]


@pytest.mark.parametrize(
    ("error", "names"), [(FileNotFoundError, ["d", "d"]), (PermissionError, None)]
)
def test_a_walk_over_what_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError], names: list[str] | None
) -> None:
    (tmp_path / "d").mkdir()
    listdir = os.listdir

    def listed(fd: int) -> list[str]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/d"):
            raise error(0, "no listing")
        return listdir(fd)

    before = set(listdir("/proc/self/fd"))  # those of earlier tests may be collected meanwhile
    top = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "listdir", listed)
    with pytest.raises(error) if names is None else nullcontext():
        assert [entry.name for entry in walk.walk(top)] == names
    os.close(top)
    assert set(listdir("/proc/self/fd")) <= before


def test_a_shift_takes_as_many_renames_as_there_are_files(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, text in (("log", "new"), ("log.1", "old"), ("log.3", "oldest")):
        (tmp_path / name).write_text(text)
    log_rotation._shift(log, 1_000_000_000)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"log.1": "new", "log.2": "old", "log.3": "oldest"}
    log_rotation._shift(log, 3)  # log is absent
    assert not log.exists()
    log.write_text("")
    log_rotation._shift(log, 1)
    assert not log.exists()


def test_at_the_end_a_file_that_was_rotated_late_is_cut_as_well(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [f"{n}\n" for n in range(10, 100)]
    for name, part in (("log.1", lines[:80]), ("log", lines[80:])):
        (tmp_path / name).write_text("".join(part))
    limited = LogConfig(type="json-file", config={"max-size": "60", "max-file": "3"})
    c: Any = Mock(id="c", host_config=HostConfig(log_config=limited))
    log_rotation.LogRotator(Mock(log=lambda _: log), Mock(), Mock(), Mock()).finish(c)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(found) == ["log", "log.1", "log.2"]
    assert found["log.2"] + found["log.1"] + found["log"] == "".join(lines[40:])


def test_a_log_that_cannot_be_cut_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("12\n34\n56\n")
    limited = LogConfig(type="json-file", config={"max-size": "3", "max-file": "2"})
    c: Any = Mock(id="c", host_config=HostConfig(log_config=limited))
    copy, calls = log_rotation._copy, iter((None, OSError("full")))

    def full(*args: Any) -> None:
        if error := next(calls):
            raise error
        copy(*args)

    monkeypatch.setattr(log_rotation, "_copy", full)
    with pytest.raises(OSError, match="full"):
        log_rotation.LogRotator(Mock(log=lambda _: log), Mock(), Mock(), Mock()).finish(c)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert log.read_text() == "12\n34\n56\n"


def test_a_log_that_was_not_reopened_is_reopened(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("12345")
    limited = LogConfig(type="json-file", config={"max-size": "3", "max-file": "2"})
    c: Any = Mock(id="c", host_config=HostConfig(log_config=limited))
    shim, store, timers = Mock(), Mock(), Mock()
    store.get.return_value = c
    shim.reopen_log.side_effect = [OSError("no answer"), log.touch]
    turning = log_rotation.LogRotator(Mock(log=lambda _: log), shim, store, timers)
    turning.begin(c)
    timers.after.call_args[0][2]()
    assert shim.reopen_log.call_count == 2


def test_a_log_that_is_renamed_all_the_time_is_not_shown_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "files", lambda log: [tmp_path / "gone"])
    with pytest.raises(Conflict, match="rotated faster"):
        list(log_reader.read(tmp_path / "log", since=0, until=0, tail=None, channels=(1, 2)))


def test_the_lock_of_a_removed_container_is_not_made_again() -> None:
    again: list[Callable[[], None]] = []
    store, timers, lock = Mock(), Mock(), Mock()
    timers.after.side_effect = lambda name, pause, work: again.append(work)
    owed = Owed(store, timers, lock)
    assert not owed.attempt(Mock(id="c"), "saving", Mock(side_effect=OSError("full")))
    store.get.return_value = None
    again[0]()
    lock.assert_not_called()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("EXPOSE 99999", "Invalid containerPort: 99999"),
        ("EXPOSE 90-80/udp", "Invalid containerPort: 90-80"),
    ],
)
def test_changes_that_docker_refuses(change: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=f"^{words}$"):
        changes.apply({}, [change])


def test_a_mount_point_made_for_a_tmpfs_is_an_ordinary_directory(rootfs: Path) -> None:
    c: Any = SimpleNamespace(extra={})
    with Root(rootfs) as inside:
        for _ in range(2):  # at each start
            assert rootfs_mounts.place_tmpfs(c, inside, "/new", []) == 0o755
            assert (rootfs / "new").stat().st_mode & 0o7777 == rootfs_mounts.STICKY
            inside.chmod("/new", 0o755)
        assert rootfs_mounts.place_tmpfs(c, inside, "/etc", []) is None  # the image has it
