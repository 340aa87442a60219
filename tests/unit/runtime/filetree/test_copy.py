"""Trees are copied as they are; what changes meanwhile leads nowhere else."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from netkit.errors import Conflict
from runtime import limits
from runtime.filetree.copy import copy_data, copy_tree

FOLDER = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


def copied(source: Path, target: Path) -> None:
    fds = [os.open(folder, FOLDER) for folder in (source, target)]
    before = len(os.listdir("/proc/self/fd"))
    try:
        copy_tree(*fds)
    finally:
        assert len(os.listdir("/proc/self/fd")) == before
        for fd in fds:
            os.close(fd)


def facts(top: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in (top, *top.rglob("*")):
        st = path.lstat()
        what = os.readlink(path) if path.is_symlink() else st.st_rdev
        name = path.relative_to(top).as_posix()
        found[name] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_nlink, what)
    return found


def test_a_tree_of_every_kind_of_file(trees: tuple[Path, Path]) -> None:
    source, target = trees
    (source / "a/b/c").mkdir(parents=True)
    (source / "a/b/c/file").write_bytes(b"x" * 100_000)
    os.link(source / "a/b/c/file", source / "a/hard")
    (source / "link").symlink_to("/etc/passwd")
    (source / "dangling").symlink_to("nowhere")
    os.mkfifo(source / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / "setuid").touch()
    (source / "setuid").chmod(0o6755)
    (source / "a/b").chmod(0o2710)
    source.chmod(0o1777)
    for n, path in enumerate((*source.rglob("*"), source)):
        os.utime(path, ns=(n, 1_600_000_000_000_000_000 + n), follow_symlinks=False)
    copied(source, target)
    assert facts(target) == facts(source)
    assert (target / "a/hard").read_bytes() == b"x" * 100_000
    assert (target / "a/hard").stat().st_ino == (target / "a/b/c/file").stat().st_ino


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owners_devices_and_attributes(trees: tuple[Path, Path]) -> None:
    source, target = trees
    (source / "file").touch()
    os.chown(source / "file", 7, 8)
    (source / "file").chmod(0o4755)
    os.chown(source, 9, 10)
    os.setxattr(source / "file", "user.note", b"kept")
    os.setxattr(source, "trusted.overlay.opaque", b"y")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "link").symlink_to("x")
    os.chown(source / "link", 5, 6, follow_symlinks=False)
    copied(source, target)
    assert facts(target) == facts(source)
    assert os.getxattr(target / "file", "user.note") == b"kept"
    assert "trusted.overlay.opaque" not in os.listxattr(target)


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
        file.truncate((1 << 30) + (1 << 20))
    with source.open("rb") as one, target.open("wb") as other:
        copy_data(one.fileno(), other.fileno(), source.stat().st_size, sparse=True)
    assert target.stat().st_size == source.stat().st_size
    assert target.stat().st_blocks * 512 < 1 << 20
    with target.open("rb") as file:
        file.seek(1 << 30)
        assert file.read(4) == b"end\0"


@pytest.mark.parametrize("sparse", [True, False])
def test_a_file_that_becomes_shorter_is_padded(tmp_path: Path, sparse: bool) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    with (tmp_path / "source").open("rb") as one, (tmp_path / "target").open("wb") as other:
        copy_data(one.fileno(), other.fileno(), 5000, sparse=sparse)
    assert (tmp_path / "target").read_bytes() == b"x" * 1000 + bytes(4000)


def test_a_tree_that_is_too_deep_for_paths_is_refused(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = trees
    monkeypatch.setattr(limits, "PATH_BYTES", 40)
    (source / "/".join(["deep"] * 10)).mkdir(parents=True)
    with pytest.raises(Conflict, match="nested too deeply"):
        copied(source, target)


def test_folders_that_are_swapped_for_links_lead_nowhere_else(trees: tuple[Path, Path]) -> None:
    """A container swaps a folder of the source and a link to the host's files."""
    source, target = trees
    outside = source.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "real").mkdir()
    (source / "real/mine").touch()
    (source / "swap").mkdir()
    over = threading.Event()

    def swapping() -> None:
        os.symlink(outside, source / "evil")
        while not over.is_set():
            os.rename(source / "swap", source / "kept")
            os.rename(source / "evil", source / "swap")
            os.rename(source / "swap", source / "evil")
            os.rename(source / "kept", source / "swap")

    thread = threading.Thread(target=swapping)
    thread.start()
    try:
        for n in range(30):
            (target / str(n)).mkdir()
            with suppress(FileExistsError):  # the swap was listed twice
                copied(source, target / str(n))
            assert [p for p in target.rglob("secret") if not p.parent.is_symlink()] == []
    finally:
        over.set()
        thread.join()
    assert os.listdir(outside) == ["secret"]
