"""Tar archives packed for and unpacked from a container."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from netkit.cli import cptar, tarreader, untar
from netkit.client.failure import Failure
from tests import hostile


def archive(*entries: tarfile.TarInfo) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    out.seek(0)
    return out


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, link, size, 0o755
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [entry("top/../../evil", size=1)],
        [entry("../evil", size=1)],
        [entry("top", tarfile.SYMTYPE, "/"), entry("top/evil", size=1)],
        [entry("top", tarfile.DIRTYPE), entry("top/l", tarfile.SYMTYPE, "../.."),
         entry("top/l/evil", size=1)],
        [entry("top", tarfile.DIRTYPE), entry("top/l", tarfile.SYMTYPE, "../../outside"),
         entry("top/h", tarfile.LNKTYPE, "top/l/secret")],
        [entry("top/h", tarfile.LNKTYPE, "../outside/secret")],
    ],
    ids=["dotdot", "dotdot-first", "absolute-link", "relative-link", "hard-link-by-link",
         "hard-link"],
)  # fmt: skip
def test_nothing_in_an_archive_leads_outside(
    tmp_path: Path, entries: list[tarfile.TarInfo]
) -> None:
    inside, outside = tmp_path / "a" / "inside", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("s")
    with pytest.raises(Failure):
        untar.unpack(archive(*entries), str(inside), "top", "top")
    assert not list(tmp_path.rglob("evil"))
    assert (outside / "secret").stat().st_nlink == 1


def test_a_link_at_the_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "f").symlink_to(target)
    untar.unpack(archive(entry("f", size=3)), str(inside), "f", "f")
    assert (inside / "f").read_text() == "xxx"
    assert target.read_text() == "mine"


def test_packing_and_unpacking_gives_the_same_tree(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(os.urandom(1000))
    (source / "empty").touch()
    (source / ("long" * 60)).write_text("a name that needs a PAX header")
    os.link(source / "sub" / "file", source / "hard")
    (source / "link").symlink_to("sub/file")
    (source / "sub").chmod(0o500)
    out = tmp_path / "out"
    out.mkdir()
    data = b"".join(cptar.pack(str(source), "source"))
    untar.unpack(io.BytesIO(data), str(out), "source", "copy")
    copy = out / "copy"
    assert sorted(p.relative_to(copy) for p in copy.rglob("*")) == sorted(
        p.relative_to(source) for p in source.rglob("*")
    )
    assert (copy / "hard").read_bytes() == (source / "sub" / "file").read_bytes()
    assert os.readlink(copy / "link") == "sub/file"
    assert (copy / "sub").stat().st_mode & 0o777 == 0o500
    (source / "sub").chmod(0o700)
    (copy / "sub").chmod(0o700)


@pytest.mark.slow
def test_hostile_archives_are_refused_or_stay_inside_and_small(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("keep me")
    for number, case in enumerate(hostile.ARCHIVES):
        if any(word in case for word in ("bomb", "xz", "gzip", "deep")):
            continue  # compressed, which no engine's answer is; too deep for a test's folder
        data = hostile.made(case, str(outside))
        inside = tmp_path / str(number)
        inside.mkdir()
        tracemalloc.start()
        with contextlib.suppress(Failure):
            untar.unpack(io.BytesIO(data), str(inside), ".", ".")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20, case
        assert os.listdir(outside) == ["secret"], case
        assert (outside / "secret").read_text() == "keep me", case
        assert (outside / "secret").stat().st_nlink == 1, case


RAW = hostile.raw
LATE = hostile.records(("mtime", "1e300"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (RAW(b"x", 2 << 20) + bytes(2 << 20), "headers of a member"),
        (RAW(b"x", 8 << 30), "headers of a member"),
        (RAW(b"L", 0) * 3000, "headers of a member"),
        (RAW(b"L", 5000) + b"a" * 5000 + bytes(120) + RAW(), "no name of a file"),
        (hostile.records(("path", "a\0b")) + RAW(), "no name of a file"),
        (hostile.records(("size", "-5")) + RAW(), "out of range"),
        (LATE + RAW(), "out of range"),
        (hostile.records(("mtime", "nan")) + RAW(), "out of range"),
        (hostile.sparse(1 << 40, "0,1", b"x"), "sparse"),
        (RAW(size=1 << 20) + b"x", "cut short"),
        (hostile.records(("path", "a")), "cut short"),
        (b"\x1f\x8b" * 256, "damaged"),
    ],
)  # fmt: skip
def test_headers_that_ask_for_too_much(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(Failure, match=why):
        untar.unpack(io.BytesIO(data), str(tmp_path), ".", ".")


def test_an_archive_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarreader, "ENTRIES", 10)
    with pytest.raises(Failure, match="more than 10 entries"):
        untar.unpack(io.BytesIO(RAW() * 11), str(tmp_path), ".", ".")


def test_a_file_that_runs_as_its_owner_does_not_run_as_us(tmp_path: Path) -> None:
    theirs, ours = entry("theirs", size=1), entry("ours", size=1)
    theirs.mode = ours.mode = 0o6755
    theirs.uid, theirs.gid = os.geteuid() + 1000, os.getegid()
    ours.uid, ours.gid = os.geteuid(), os.getegid()
    untar.unpack(archive(theirs, ours), str(tmp_path), ".", ".")
    assert (tmp_path / "theirs").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "ours").stat().st_mode & 0o7777 == 0o6755
