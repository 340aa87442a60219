"""Tar archives packed for and unpacked from a container."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from netkit.cli import cptar, untar
from netkit.cli.failure import Failure


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
