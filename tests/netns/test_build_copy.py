"""COPY and ADD write into an image what dockerd writes, and nowhere else.  Needs root."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import NetkitError
from runtime.build.context import receive
from runtime.build.copying import CopyRequest, copy, gather
from runtime.build.errors import BuildFailed
from runtime.build.files import Files, FilesOnDisk
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import Root
from tests import hostile
from tests.engine.swapping import swapping
from tests.unit.runtime.build.trees import TIME, context, left, packed

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and devices"),
]
ROUNDS = int(os.environ.get("NETKIT_TEST_RACES", "200"))
PASSWD = "root:x:0:0::/:/bin/sh\napp:x:1500:1600::/:/bin/sh\nnogroup:x:7:7::/:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app\napp:x:1600:\n"
_XATTR = "SCHILY.xattr.security.capability"
CAPABILITY = b"\1\0\0\2\0 " + bytes(14)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    top = tmp_path / "image"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text(PASSWD)
    (top / "etc" / "group").write_text(GROUP)
    yield top
    remove_tree(top)  # pytest's own way of removing recurses


def build(tree: dict[str, Any], image: Path, *lines: str) -> None:
    """Run COPY and ADD instructions with this context on the image."""
    with context(tree, image.parent / "builds") as found, Root(image) as root:
        for line in lines:
            word, *rest = line.split()
            chown = rest.pop(0).removeprefix("--chown=") if rest[0].startswith("--") else ""
            run(found.files, root, image.parent, word, chown, rest)


def run(
    source: Root | Files | None, image: Root, folder: Path, word: str, chown: str, rest: list[str],
    *, from_image: bool = False,
) -> None:  # fmt: skip
    request = CopyRequest(
        sources=tuple(rest[:-1]), destination=rest[-1], working_dir="/w", chown=chown,
        is_add=word == "ADD", from_image=from_image,
    )  # fmt: skip
    files = FilesOnDisk(source) if isinstance(source, Root) else source
    with gather(request, files, folder, lambda _: None) as sources:
        copy(sources, image)


def look(path: Path) -> tuple[str, int, int, int]:
    st = path.lstat()
    return (f"{stat.S_IMODE(st.st_mode):o}", st.st_uid, st.st_gid, int(st.st_mtime))


NOW = object()


def near(found: tuple[str, int, int, int]) -> tuple[Any, ...]:
    return (*found[:3], TIME if found[3] == TIME else NOW)


def test_files_of_a_context_become_roots_and_lose_what_gives_power(image: Path) -> None:
    tree = {
        "s": {"text": "s", "mode": 0o6755, "uid": 5, "gid": 6},
        "c": {"text": "c", "pax_headers": {_XATTR: CAPABILITY.decode()}},
        "d/": {"mode": 0o2770, "uid": 7}, "d/sticky/": {"mode": 0o1777, "gid": 8},
        "d/f": {"text": "f", "mode": 0o4600},
        "d/fifo": {"type": tarfile.FIFOTYPE}, "d/null": {"type": tarfile.CHRTYPE, "devmajor": 1,
                                                         "devminor": 3},
    }  # fmt: skip
    build(tree, image, "COPY s c /t/", "COPY d /d", "COPY s new/name", "ADD s /a")
    found = {name: near(look(image / name)) for name in
             ("t", "t/s", "d", "d/sticky", "d/f", "w/new", "w/new/name", "a")}  # fmt: skip
    assert found == {
        "t": ("755", 0, 0, NOW), "t/s": ("755", 0, 0, TIME), "d": ("755", 0, 0, NOW),
        "d/sticky": ("1777", 0, 0, TIME), "d/f": ("600", 0, 0, TIME),
        "w/new": ("755", 0, 0, NOW), "w/new/name": ("755", 0, 0, TIME), "a": ("755", 0, 0, TIME),
    }  # fmt: skip
    assert os.listxattr(image / "t" / "c") == []
    assert stat.S_ISFIFO((image / "d" / "fifo").stat().st_mode)
    assert (image / "d" / "null").stat().st_rdev == os.makedev(1, 3)


def test_files_of_another_image_keep_it_all(image: Path) -> None:
    other = image.parent / "other"
    (other / "d").mkdir(parents=True)
    for name in ("s", "d/s"):
        (other / name).write_text("s")
        os.chown(other / name, 7, 8)
        (other / name).chmod(0o6755)
        os.setxattr(other / name, "security.capability", CAPABILITY)
        os.setxattr(other / name, "user.note", b"x")
    os.link(other / "d" / "s", other / "d" / "z")
    with Root(other) as source, Root(image) as root:
        for rest in (["/s", "/s"], ["d", "/d"]):
            run(source, root, image.parent, "COPY", "", rest, from_image=True)
        run(source, root, image.parent, "COPY", "app:staff", ["/d", "/e"], from_image=True)
    assert look(image / "s")[:3] == look(image / "d" / "s")[:3] == ("6755", 7, 8)
    assert os.listxattr(image / "s") == []  # as dockerd: of a single file even capabilities go
    assert os.listxattr(image / "d" / "s") == ["security.capability"]
    assert look(image / "e" / "s")[:3] == ("755", 1500, 50)
    assert os.listxattr(image / "e" / "s") == []
    assert (image / "d" / "s").stat().st_ino == (image / "d" / "z").stat().st_ino


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("app", (1500, 1600)), ("app:staff", (1500, 50)), ("1500", (1500, 1500)), ("7:8", (7, 8)),
        ("0:app", (0, 1600)), ("+5", (5, 5)), ("-1", (0, 0)), ("4294967295", (0, 0)),
        ("99999999999", (1215752191, 1215752191)),
    ],
)  # fmt: skip
def test_chown_takes_names_and_numbers(chown: str, owner: tuple[int, int], image: Path) -> None:
    build({"f": "f"}, image, f"COPY --chown={chown} f /new/deep/f")
    for name in ("new", "new/deep", "new/deep/f"):
        st = (image / name).stat()
        assert (st.st_uid, st.st_gid) == owner, name


@pytest.mark.parametrize(
    ("chown", "why"),
    [
        (":app", "can't find uid for user : no such user: "),
        ("app:", "can't find gid for group : no such group: "),
        ("nosuch", "can't find uid for user nosuch: no such user: nosuch"),
        ("nogroup", "can't find gid for group nogroup: no such group: nogroup"),
        ("1:2:3", "invalid chown string format: 1:2:3"),
        ("1" * 30, f"can't find uid for user {'1' * 30}: no such user: {'1' * 30}"),
    ],
)
def test_chown_of_nobody_is_refused(chown: str, why: str, image: Path) -> None:
    with pytest.raises(BuildFailed) as raised:
        build({"f": "f"}, image, f"COPY --chown={chown} f /f")
    assert str(raised.value) == (f"unable to convert uid/gid chown string to host mapping: {why}")
    assert not (image / "f").exists()


def test_only_what_is_made_is_chowned(image: Path) -> None:
    (image / "old").mkdir(mode=0o700)
    os.chown(image / "old", 3, 4)
    archive = packed({"in": {"text": "i", "uid": 11, "gid": 12}})
    build({"d/f": "f", "k.tar": archive}, image, "COPY --chown=app d /old",
          "COPY --chown=app d /x/new", "ADD --chown=app k.tar /y/")  # fmt: skip
    assert look(image / "old")[:3] == ("700", 3, 4)
    owners = {n: look(image / n)[1:3] for n in ("old/f", "x", "x/new", "x/new/f", "y", "y/in")}
    app, root = (1500, 1600), (0, 0)
    assert owners == {"old/f": app, "x": root, "x/new": app, "x/new/f": app, "y": root,
                      "y/in": (11, 12)}  # fmt: skip


def test_links_of_the_image_lead_inside_it(image: Path) -> None:
    secret = image.parent / "secret"
    secret.write_text("secret")
    for name, target in {"up": "../" * 20 + str(image.parent), "abs": "/data", "sh": "busybox",
                         "dangling": "/no/where"}.items():  # fmt: skip
        (image / name).symlink_to(target)
    (image / "data").mkdir()
    build({"f": "new", "secret": "new", "d/x": "x"}, image, "COPY secret /up/", "COPY f /abs/",
          "COPY f /sh", "COPY d /dangling", "COPY f /abs")  # fmt: skip
    assert secret.read_text() == "secret"
    assert (image / str(image.parent).lstrip("/") / "secret").read_text() == "new"
    assert (image / "data" / "f").read_text() == "new"
    assert ((image / "sh").is_symlink(), (image / "busybox").read_text()) == (True, "new")
    assert (image / "no" / "where" / "x").read_text() == "x"


CLASHES = {
    "COPY d /file": "failed to copy directory: mkdir /file: not a directory",
    "COPY f /file/": "failed to create new directory: mkdir /file: not a directory",
    "COPY f /file/x": "lstat /file/x: not a directory",
    "COPY f /loop": "evalSymlinksInScope: too many links in /loop",
    "COPY f /../up": "evalSymlinksInScope: /../up is not in /",
    "ADD t.tar /file": "Error processing tar file(exit status 1): Error setting up pivot dir: "
                       "mkdir /file/.pivot_root: not a directory",
    "ADD cut.tar /x/": "Error processing tar file(exit status 1): unexpected EOF",
}  # fmt: skip


@pytest.mark.parametrize("line", CLASHES)
def test_what_cannot_be_written_is_refused_in_dockers_words(line: str, image: Path) -> None:
    (image / "file").write_text("")
    (image / "loop").symlink_to("loop")
    tree = {"f": "f", "d/x": "x", "t.tar": packed({"in": "i"}),
            "cut.tar": packed({"in": "i" * 9000})[:5000]}  # fmt: skip
    with pytest.raises(BuildFailed) as raised:
        build(tree, image, line)
    assert str(raised.value) == f"failed to copy files: {CLASHES[line]}"


def test_a_folder_is_merged_and_other_kinds_replaced(image: Path) -> None:
    (image / "x" / "f" / "deep").mkdir(parents=True)
    (image / "x" / "kept").write_text("kept")
    (image / "x" / "d").symlink_to("/etc")
    build({"t/f": "file", "t/d/passwd": "new"}, image, "COPY t /x")
    assert (image / "x" / "f").read_text() == "file"
    assert (image / "x" / "kept").read_text() == "kept"
    assert not (image / "x" / "d").is_symlink()
    assert (image / "etc" / "passwd").read_text() == PASSWD


def test_archives_are_unpacked_by_what_they_are(image: Path) -> None:
    inner = packed({"in": {"text": "i", "mode": 0o4755, "uid": 3}})
    tree = {
        "p.tar": inner, "p.tgz": gzip.compress(inner), "odd": inner, "text.tar": "no archive",
        "empty.tar": packed({}), "cut.tgz": gzip.compress(inner)[:60], "zeros": bytes(4096),
        "p.zst": b"\x28\xb5\x2f\xfd" + bytes(99), "nothing": "", "d/p.tar": inner,
    }  # fmt: skip
    build(tree, image, *(f"ADD {name} /t-{name}/" for name in tree if "/" not in name),
          "COPY p.tar /c/", "ADD d /d")  # fmt: skip
    found = {name: os.listdir(image / f"t-{name}")[0] for name in tree if "/" not in name}
    assert {name for name, first in found.items() if first == "in"} == {"p.tar", "p.tgz", "odd"}
    assert all(first in {name, "in"} for name, first in found.items())
    assert look(image / "t-odd" / "in") == ("4755", 3, 0, TIME)
    assert (os.listdir(image / "c"), os.listdir(image / "d")) == (["p.tar"], ["p.tar"])


def test_whiteouts_delete(image: Path) -> None:
    for name in ("x/victim", "x/q/old", "x/deep/in/it", "y/victim"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text("")
    archive = packed({".wh.victim": "", "q/.wh..wh..opq": "", "q/new": "", ".wh.deep": "",
                      ".wh..wh.plnk": ""})  # fmt: skip
    build({"a.tar": archive, "w/.wh.victim": "", ".wh.none": ""}, image, "ADD a.tar /x/",
          "COPY w /y/", "COPY .wh.none /z/")  # fmt: skip
    left = sorted(str(path.relative_to(image)) for path in image.rglob("*"))
    assert left == ["etc", "etc/group", "etc/passwd", "x", "x/q", "x/q/new", "y", "z"]


def test_an_archive_follows_links_within_its_target_only(image: Path) -> None:
    (image / "x" / "etc").mkdir(parents=True)
    (image / "x" / "link").symlink_to("/etc")
    (image / "x" / "over").symlink_to("/etc/passwd")
    archive = packed({"link/passwd": "new", "over": "new", "../../up": "up", "/abs": "abs",
                      "h": {"type": tarfile.LNKTYPE, "linkname": "../../link/passwd"}})  # fmt: skip
    build({"a.tar": archive}, image, "ADD a.tar /x/")
    assert (image / "etc" / "passwd").read_text() == PASSWD
    assert (image / "x" / "etc" / "passwd").read_text() == "new"
    assert not (image / "x" / "over").is_symlink()
    names = sorted(path.name for path in (image / "x").iterdir())
    assert names == ["abs", "etc", "h", "link", "over", "up"]


def test_holes_stay_holes(image: Path) -> None:
    size = 1 << 36
    other = image.parent / "other"
    other.mkdir()
    with open(other / "f", "wb") as file:
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    with Root(other) as source, Root(image) as root:
        run(source, root, image.parent, "COPY", "", ["f", "/f"], from_image=True)
    st = (image / "f").stat()
    assert (st.st_size, st.st_blocks * 512 < 1 << 20) == (size, True)
    with open(image / "f", "rb") as file:
        file.seek(size // 2)
        assert file.read(6) == b"middle"


# strangers


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    top = tmp_path / "outside"
    top.mkdir(mode=0o700)
    (top / "secret").write_text("secret")
    before = _state(top)
    yield top
    assert _state(top) == before


def _state(top: Path) -> list[object]:
    return [
        (path.name, look(path), path.read_text() if path.is_file() else sorted(os.listdir(path)))
        for path in sorted([top, *top.rglob("*")])
    ]


@pytest.mark.parametrize("kept", [True, False], ids=["kept packed", "unpacked at once"])
@pytest.mark.parametrize("name", hostile.ARCHIVES)
def test_an_archive_of_a_stranger_stays_inside(
    name: str, kept: bool, outside: Path, image: Path
) -> None:
    """As a context, as what ADD unpacks, and as what COPY takes of the former."""
    data, builds = hostile.made(name, str(outside)), image.parent / "builds"
    sent = io.BytesIO(hostile.as_context(data))
    with Root(image) as root:
        with suppress(NetkitError), receive(sent, builds, dockerfile="", packed=kept) as found:
            run(found.files, root, image.parent, "COPY", "", [".", "/all/"])
        with suppress(NetkitError), context({"stranger.tar": data}, builds) as found:
            run(found.files, root, image.parent, "ADD", "", ["stranger.tar", "/added/"])
    assert left(builds) == []
    assert {path.name for path in image.parent.iterdir()} == {"builds", "image", "outside"}
    assert (image / "etc" / "passwd").read_text() == PASSWD


def _with_door(top: Path, outside: Path) -> None:
    """A directory "a" and a link "b" to the outside, which a process swaps."""
    for n in range(8):
        (top / "a" / f"d{n}").mkdir(parents=True)
        (top / "a" / f"d{n}" / "secret").write_text("mine")
    (top / "a" / "secret").write_text("mine")
    (top / "b").symlink_to(outside)


@pytest.mark.slow
def test_a_source_that_is_swapped_gives_nothing_from_outside(outside: Path, image: Path) -> None:
    source = image.parent / "source"
    _with_door(source, outside)
    with swapping(source, "a", "b"), Root(source) as root:
        for turn in range(ROUNDS):
            top = image / str(turn)
            top.mkdir()
            words = (["a", "/x"], ["a/secret", "/y"], [".", "/z"], ["*/secret", "/g/"], ["b", "/b"])
            with Root(top) as target, suppress(BuildFailed):
                rest = words[turn % len(words)]
                run(root, target, image.parent, "COPY", "", rest, from_image=True)
            for path in top.rglob("secret"):
                if not path.is_symlink():
                    assert path.read_text() == "mine"


@pytest.mark.slow
def test_a_target_that_is_swapped_takes_nothing_outside(outside: Path, image: Path) -> None:
    _with_door(image, outside)
    archive = packed({"secret": "planted", ".wh.d1": "", "d2/secret": "planted"})
    tree = {"t/secret": "planted", "t/d1/secret": "planted", "f": "planted", "k.tar": archive}
    lines = ("COPY t /a", "COPY f /a/secret", "ADD k.tar /a/", "COPY --chown=7 t /b",
             "COPY f /a/new/deep/secret", "COPY t/. /a/d1/")  # fmt: skip
    with swapping(image, "a", "b"), context(tree, image.parent / "builds") as found:
        for turn in range(ROUNDS):
            word, *rest = lines[turn % len(lines)].split()
            chown = rest.pop(0).removeprefix("--chown=") if rest[0].startswith("--") else ""
            with Root(image) as root, suppress(NetkitError):
                run(found.files, root, image.parent, word, chown, rest)
