"""Layers made of overlayfs's writable directories: dockerd's form, and the same tree unpacked."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from netkit.errors import Conflict
from netkit.store import Database
from runtime import limits
from runtime.cancellation import Cancel, Cancelled
from runtime.images.layer_pack import Packed, pack
from runtime.images.store import ImageStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices")


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """What a container may have written, of all kinds."""
    top = tmp_path / "upper"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("x")
    os.mknod(top / "etc/group", stat.S_IFCHR, 0)  # a whiteout
    (top / "opaque").mkdir(mode=0o750)
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    (top / "b-first").write_text("12345")
    os.link(top / "b-first", top / "c-second")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(top / "b-first", 70000, 3_000_000)
    os.setxattr(top / "b-first", "user.note", b"\xff\0=\n")
    os.chmod(top / "etc/passwd", 0o4755)
    (top / os.fsdecode(b"bad\xff")).write_text("")
    (top / ("long" * 40)).write_text("long")
    for path in top.rglob("*"):
        os.utime(path, ns=(1, 1_500_000_000_999_999_999), follow_symlinks=False)
    return top


def packed(upper: Path, leave_out: frozenset[str] = frozenset()) -> tuple[Packed, bytes]:
    out = io.BytesIO()
    top = os.open(upper, os.O_RDONLY)
    try:
        return pack(top, out.write, leave_out), out.getvalue()
    finally:
        os.close(top)


def listed(upper: Path) -> list[tuple[object, ...]]:
    """All that a tree has but times of whiteouts, which nothing shows."""
    with tarfile.open(fileobj=io.BytesIO(packed(upper)[1])) as archive:
        return [
            (m.name, m.mode, m.type, m.uid, m.gid, m.size, m.linkname, m.pax_headers,
             m.mtime if ".wh." not in m.name else 0)
            for m in archive
        ]  # fmt: skip


def test_it_has_the_members_that_dockerd_writes(upper: Path) -> None:
    found, data = packed(upper)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    assert [(m.name, oct(m.mode)[2:], m.type) for m in members] == [
        ("b-first", "100644", tarfile.REGTYPE),
        ("bad\udcff", "100644", tarfile.REGTYPE),
        ("c-second", "100644", tarfile.LNKTYPE),
        ("etc", "40755", tarfile.DIRTYPE),
        ("etc/.wh.group", "600", tarfile.REGTYPE),
        ("etc/passwd", "104755", tarfile.REGTYPE),
        ("fifo", "10644", tarfile.FIFOTYPE),
        ("link", "120777", tarfile.SYMTYPE),
        ("long" * 40, "100644", tarfile.REGTYPE),
        ("null", "20644", tarfile.CHRTYPE),
        ("opaque", "40750", tarfile.DIRTYPE),
        ("opaque/.wh..wh..opq", "750", tarfile.REGTYPE),
    ]
    target = os.readlink(upper / "link")
    assert found == Packed(len(members), 10 + len(target))
    first, second, null = members[0], members[2], members[9]
    assert (first.uid, first.gid, first.mtime) == (70000, 3_000_000, 1_500_000_000)
    assert second.linkname == "b-first"
    assert (null.devmajor, null.devminor) == (1, 3)


def test_unpacked_it_is_the_same_tree(upper: Path, tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    with images.holding():
        copied = images.capture(upper)
        assert copied is not None
        there = images.layers.tree(copied.diff_id)
        assert listed(there) == listed(upper)
        assert os.getxattr(there / "b-first", "user.note") == b"\xff\0=\n"
        assert os.path.samefile(there / "b-first", there / "c-second")
        images.layers.remove(copied.diff_id)
        assert images.adopt(upper) == copied
        assert not upper.exists()
        assert packed(there)[1] == b"".join(images.blobs.stream(copied.digest))


@pytest.mark.parametrize("how", ["adopt", "capture"])
def test_a_build_whose_client_leaves_packs_no_more_of_a_large_file(
    how: str, tmp_path: Path
) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    (tmp_path / "upper").mkdir()
    with (tmp_path / "upper/large").open("wb") as file:
        file.truncate(60 << 30)
    cancel, looked = Cancel(), []

    def check() -> None:
        looked.append(1)
        if len(looked) == 3:
            cancel.set()
        cancel.check()

    with images.holding(), pytest.raises(Cancelled):
        getattr(images, how)(tmp_path / "upper", check=check)
    assert (images.blobs.all(), images.layers.all(), len(looked)) == (set(), set(), 3)
    assert (tmp_path / "upper/large").exists()


def test_nothing_written_is_no_layer(tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    (tmp_path / "upper").mkdir()
    with images.holding():
        assert images.adopt(tmp_path / "upper") is None
        assert images.capture(tmp_path / "upper") is None
    assert (tmp_path / "upper").exists()
    assert images.blobs.all() == set()


def test_what_was_made_for_the_container_is_left_out_with_all_below_it(upper: Path) -> None:
    _, data = packed(upper, frozenset(("/etc", "/b-first")))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert not {"etc", "etc/passwd", "b-first"} & set(names)
    assert {"c-second", "link"} < set(names)


def test_sockets_are_left_out(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    assert packed(tmp_path) == (Packed(0, 0), b"")


def test_what_no_image_may_have_is_refused(upper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_BYTES", 9)
    with pytest.raises(Conflict, match="more than 9 bytes"):
        packed(upper)
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES", 3)
    with pytest.raises(Conflict, match="more than 3 files"):
        packed(upper)


ROUNDS = int(os.environ.get("NETKIT_TEST_RACES", "30"))


@pytest.mark.slow
def test_a_container_that_swaps_its_files_leads_nowhere(tmp_path: Path) -> None:
    """The layer has what was in the container at some time, never what links lead to."""
    outside, top = tmp_path / "outside", tmp_path / "upper"
    outside.mkdir()
    (outside / "secret").write_text("the host's secret")
    os.setxattr(outside / "secret", "user.secret", b"the host's secret")
    for n in range(20):
        (top / f"d{n}").mkdir(parents=True)
        (top / f"d{n}/secret").write_text("its own")
        (top / f"f{n}").write_text("its own")
    os.symlink(outside, tmp_path / "to-folder")
    os.symlink(outside / "secret", tmp_path / "to-file")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for n in range(20):
                for name, link in ((f"d{n}", "to-folder"), (f"f{n}", "to-file")):
                    os.rename(top / name, tmp_path / "aside")
                    os.symlink(os.readlink(tmp_path / link), top / name)
                    os.unlink(top / name)
                    os.rename(tmp_path / "aside", top / name)

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for _ in range(ROUNDS):
            found, data = packed(top)
            assert b"the host's secret" not in data
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                assert len(archive.getmembers()) == found.entries
    finally:
        over.set()
        racer.join()
