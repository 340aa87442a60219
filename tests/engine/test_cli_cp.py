"""`netkit cp` leaves what `docker cp` leaves, in every combination of what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.engine.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.engine]

SETUP = (
    "mkdir -p /src/dir/sub /dst/isdir && echo one > /src/file && echo two > /src/dir/two && "
    "echo three > /src/dir/sub/three && echo old > /dst/isfile && ln -s /src/dir /src/ldir && "
    "ln -s file /src/lfile && ln -s nowhere /src/lbroken && ln -s isdir /dst/lisdir && "
    "chmod 750 /src/dir/sub && chmod 4755 /src/file && touch /made && exec sleep 1000"
)


def make_local(top: Path) -> None:
    (top / "src/dir/sub").mkdir(parents=True)
    (top / "dst/isdir").mkdir(parents=True)
    (top / "src/file").write_text("one\n")
    (top / "src/file").chmod(0o751)
    (top / "src/dir/two").write_text("two\n")
    (top / "src/dir/sub/three").write_text("three\n")
    (top / "dst/isfile").write_text("old\n")
    (top / "src/ldir").symlink_to("dir")
    (top / "src/lfile").symlink_to("file")
    (top / "src/lbroken").symlink_to("nowhere")
    (top / "dst/lisdir").symlink_to("isdir")
    os.link(top / "src/dir/two", top / "src/dir/sub/hard")


def tree(top: Path) -> list[str]:
    """Return names, kinds, permissions and contents."""
    lines = []
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top)
        if path.is_symlink():
            lines.append(f"{name} -> {os.readlink(path)}")
        elif path.is_dir():
            lines.append(f"{name}/ {path.stat().st_mode & 0o7777:o}")
        else:
            lines.append(f"{name} {path.stat().st_mode & 0o7777:o} {path.read_text()!r}")
    return lines


LINKS = ["ldir", "lfile", "lbroken"]
SOURCES = ["file", "dir", "dir/", "dir/.", "ldir/", "nosuch", *LINKS]
TARGETS = ["isdir", "isfile", "isfile/", "new", "new/", "lisdir", "no/such", "."]
# Without -L every kind; with it the links, which is where it matters.
CASES = [([], source) for source in SOURCES] + [(["-L"], source) for source in LINKS]


@pytest.fixture(scope="module")
def box(module_engine: Engine) -> str:
    name = module_engine.up("busybox", "sh", "-c", SETUP)
    module_engine.out("exec", name, "sh", "-c", "until [ -e /made ]; do sleep 0.1; done")
    return name


def target_path(top: str, name: str) -> str:
    return f"{top}/dst/{name}" if name != "." else f"{top}/dst/."


@pytest.mark.parametrize(("flags", "source"), CASES)
def test_out_of_a_container(
    module_engine: Engine, box: str, tmp_path: Path, flags: list[str], source: str
) -> None:
    different = []
    for target in TARGETS:
        found = {}
        for client in ("docker", "netkit"):
            top = tmp_path / client
            make_local(top)
            run = getattr(module_engine, client)
            done = run(
                "cp", *flags, f"{box}:/src/{source}", target_path(str(top), target), check=False
            )
            found[client] = (done.returncode, tree(top))
            shutil.rmtree(top)
        if found["docker"] != found["netkit"]:
            different.append((target, found))
    assert not different


@pytest.mark.parametrize(("flags", "source"), CASES)
def test_into_a_container(
    module_engine: Engine, box: str, tmp_path: Path, flags: list[str], source: str
) -> None:
    make_local(tmp_path)
    different = []
    look = (
        "cd /work && find . | sort | while read f; do"
        ' stat -c "%n %F %a %u" "$f"; readlink "$f"; [ -f "$f" ] && cat "$f"; done; true'
    )
    for target in TARGETS:
        found = {}
        for client in ("docker", "netkit"):
            again = "rm -rf /work; mkdir /work; cp -a /dst /work/dst"
            module_engine.docker("exec", box, "sh", "-c", again)
            run = getattr(module_engine, client)
            there = f"{box}:{target_path('/work', target)}"
            done = run("cp", *flags, f"{tmp_path}/src/{source}", there, check=False)
            after = module_engine.out("exec", box, "sh", "-c", look)
            found[client] = (done.returncode, after)
        if found["docker"] != found["netkit"]:
            different.append((target, found))
    assert not different


def test_a_tar_stream_both_ways(module_engine: Engine, box: str, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    module_engine.docker("exec", box, "sh", "-c", "mkdir -p /in")
    done = module_engine.netkit("cp", f"{box}:/src/dir", "-")
    out.write_bytes(done.stdout.encode(errors="surrogateescape"))
    module_engine.netkit("cp", "-", f"{box}:/in", input=out.read_bytes())
    assert module_engine.out("exec", box, "cat", "/in/dir/sub/three") == "three"


def test_a_hostile_archive_does_not_leave_the_target(
    module_engine: Engine, box: str, tmp_path: Path
) -> None:
    """A container may change a folder into a link to elsewhere between two copies."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / "dir").symlink_to(outside)
    done = module_engine.netkit("cp", f"{box}:/src/dir", str(target), check=False)
    assert done.returncode == 1
    assert list(outside.iterdir()) == []
