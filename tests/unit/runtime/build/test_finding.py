"""What the words of COPY name, and the digests by which the cache knows it."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from netkit.patterns import Glob
from runtime.build.copying import CopyRequest, gather
from runtime.build.errors import BuildFailed
from runtime.build.files import Files, FilesOnDisk
from runtime.build.finding import find
from runtime.build.scope import resolve
from runtime.filetree.scoped_root import Root
from tests.unit.runtime.build.trees import context

Tree = dict[str, Any]
TREE: Tree = {
    "a1": "A1", "a2": "A2", "b1": "B1", "d/x": "X", "d/sub/y": "Y", "d/.dot": ".", ".hid": "H",
    "[x]": "bracket", "l1": {"linkname": "a1"}, "l2": {"linkname": "/d"},
    "broken": {"linkname": "nope"}, "loop": {"linkname": "loop"},
    "out": {"linkname": "../../../etc/passwd"},
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["packed", "on disk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    with context(TREE, tmp_path, packed=request.param) as found:
        assert found.files is not None
        yield found.files


def named(files: Files, word: str) -> list[tuple[str, str]]:
    return [(found.path, found.name) for found in find(files, word, in_context=True)]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a1", [("/a1", "a1")]),
        ("/a1", [("/a1", "a1")]),
        ("./d/../a1", [("/a1", "a1")]),
        ("a*", [("/a1", "a1"), ("/a2", "a2")]),
        ("*1", [("/a1", "a1"), ("/b1", "b1"), ("/a1", "l1")]),
        ("d/*", [("/d/.dot", ".dot"), ("/d/sub", "sub"), ("/d/x", "x")]),
        ("*/x", [("/d/x", "x")]),
        ("l2/*", []),
        ("l2/x", [("/d/x", "x")]),
        ("l1", [("/a1", "l1")]),
        ("l2", [("/d", "l2")]),
        ("[ab]1", [("/a1", "a1"), ("/b1", "b1")]),
        ("d[/]x", [("/d/x", "x")]),
        ("d[^a]x", [("/d/x", "x")]),
        ("[", []),
        ("nope*", []),
        ("d/", [("/d", "d")]),
        (".", [("/", "")]),
        ("/", [("/", "")]),
    ],
)
def test_words_name_what_they_name_in_dockerd(
    files: Files, word: str, expected: list[tuple[str, str]]
) -> None:
    assert named(files, word) == expected


_MISSING = (
    "file not found in build context or excluded by .dockerignore: stat {}: file does not exist"
)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("nope", _MISSING.format("nope")),
        ("broken", _MISSING.format("broken")),
        ("out", _MISSING.format("out")),
        ("../a1", "forbidden path outside the build context: ../a1 ()"),
        ("/d/../../a1", "forbidden path outside the build context: d/../../a1 ()"),
        ("loop", "forbidden path outside the build context: loop ()"),
        ("l*", "forbidden path outside the build context: loop ()"),
        ("a1/x", "forbidden path outside the build context: a1/x ()"),
        ("x\0y", "forbidden path outside the build context: x\0y ()"),
        ("n" * 300, f"forbidden path outside the build context: {'n' * 300} ()"),
    ],
)
def test_what_is_not_there_is_refused_in_dockers_words(files: Files, word: str, text: str) -> None:
    with pytest.raises(BuildFailed) as raised:
        named(files, word)
    assert str(raised.value) == text


def test_a_pattern_without_a_class_finds_what_a_walk_finds(files: Files) -> None:
    root = files.root("/")
    every = [
        os.path.join(at, each)[2:]
        for at, folders, files, _ in os.fwalk(".", dir_fd=root.fd)
        for each in folders + files
    ]
    dice = random.Random(3)
    for _ in range(100):
        word = "/".join(
            dice.choices(("*", "d", "a*", "?1", "s*", "x", "*b"), k=1 + dice.randrange(3))
        )
        if not set(word) & set("*?"):
            continue
        glob = Glob(word)
        expected = sorted(name for name in every if glob.matches(name) and name not in {"loop"})
        try:
            found = [f"{each.path}" for each in find(files, word, in_context=True)]
        except BuildFailed:
            continue  # a link that cannot be followed
        real = [resolve(root, name) for name in expected]
        assert sorted(found) == sorted(real), word


# digests


def digest(tree: Tree, word: str, folder: Path) -> str:
    request = CopyRequest(sources=(word,), destination="/x/")
    with context(tree, folder) as found, gather(request, found.files, folder, _nothing) as sources:
        return sources.digest


def _nothing(_: dict[str, object]) -> None: ...


BASE: Tree = {"f": {"text": "F"}, "d/x": "X", "d/y": "Y"}
SAME: dict[str, tuple[str, Tree]] = {
    "time": ("f", {"f": {"text": "F", "mtime": 1_400_000_000}}),
    "the owner's name": ("f", {"f": {"text": "F", "uname": "zed", "gname": "zed"}}),
    "what is not copied": ("f", {"g": "G"}),
    "time in a folder": ("d", {"d/x": {"text": "X", "mtime": 1}}),
    "an entry of the folder": ("d", {"d/": {}}),
}  # fmt: skip
OTHER: dict[str, tuple[str, Tree]] = {
    "content": ("f", {"f": "G"}),
    "size": ("f", {"f": "FF"}),
    "mode": ("f", {"f": {"text": "F", "mode": 0o755}}),
    "a link for a file": ("f", {"f": {"linkname": "d/x"}}),
    "content in a folder": ("d", {"d/x": "Z"}),
    "a name in a folder": ("d", {"d/z": "X"}),
    "an empty folder": ("d", {"d/e/": {}}),
    "a mode in a folder": ("d", {"d/x": {"text": "X", "mode": 0o600}}),
    "the folder's mode": ("d", {"d/": {"mode": 0o700}}),
    "a link in a folder": ("d", {"d/l": {"linkname": "x"}}),
    "a hard link for a copy": ("d", {"d/y": {"type": b"1", "linkname": "d/x"}}),
}


@pytest.mark.parametrize("what", SAME)
def test_these_are_the_same_for_the_cache(what: str, tmp_path: Path) -> None:
    word, change = SAME[what]
    assert digest(BASE | change, word, tmp_path) == digest(BASE, word, tmp_path)


@pytest.mark.parametrize("what", OTHER)
def test_these_are_others_for_the_cache(what: str, tmp_path: Path) -> None:
    word, change = OTHER[what]
    assert digest(BASE | change, word, tmp_path) != digest(BASE, word, tmp_path)


def test_a_links_target_counts_though_it_is_not_there(tmp_path: Path) -> None:
    """dockerd takes its name alone, and so gives one image for the other."""
    one, other = ({"d/l": {"linkname": target}} for target in ("/etc/passwd", "/etc/group"))
    assert digest(one, "d", tmp_path) != digest(other, "d", tmp_path)


def test_the_same_bytes_by_another_name_are_another_source(tmp_path: Path) -> None:
    tree: Tree = {"f": "F", "g": "F", "h/f": "F", "l": {"linkname": "f"}}
    found = {word: digest(tree, word, tmp_path) for word in ("f", "g", "h/f", "l", "./f", "/f")}
    assert found["f"] == found["./f"] == found["/f"]
    assert len(set(found.values())) == 4


def test_digests_say_of_what_kind_they_are(tmp_path: Path) -> None:
    kinds = [digest(BASE, word, tmp_path).partition(":")[0] for word in ("f", "d", "[f]")]
    assert kinds == ["file", "dir", "file"]
    assert digest(BASE | {"g": "G"}, "?", tmp_path).startswith("multi:")


def test_a_hole_costs_nothing_and_counts(tmp_path: Path) -> None:
    sizes = {}
    for size in (1 << 40, (1 << 40) + 1):
        with open(tmp_path / "f", "wb") as file:
            file.truncate(size)
        with Root(tmp_path) as root:
            (found,) = find(FilesOnDisk(root), "f", in_context=True)
            sizes[size] = found.digest
    assert len(set(sizes.values())) == 2


# resolving


def test_paths_resolve_as_in_a_chroot_also_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    for name, target in {
        "abs": "/real", "up": "../../../real", "chain": "abs/deep", "dangling": "/no/where",
        "real/back": "..", "loop": "loop",
    }.items():  # fmt: skip
        (tmp_path / name).symlink_to(target)
    with Root(tmp_path) as root:
        found = {
            path: resolve(root, path)
            for path in ("/abs/x", "/up/deep/y/z", "/chain", "/dangling/f", "/real/back/abs",
                         "/no/such/../x", "/a/b/../../../real/deep/", "/")
        }  # fmt: skip
        assert found == {
            "/abs/x": "/real/x", "/up/deep/y/z": "/real/deep/y/z", "/chain": "/real/deep",
            "/dangling/f": "/no/where/f", "/real/back/abs": "/real", "/no/such/../x": "/no/x",
            "/a/b/../../../real/deep/": "/real/deep", "/": "/",
        }  # fmt: skip
        with pytest.raises(OSError, match="symbolic links"):
            resolve(root, "/loop")


@pytest.mark.slow
def test_whatever_links_there_are_nothing_resolves_outside(tmp_path: Path) -> None:
    dice = random.Random(1)
    parts = ("a", "b", "c", "..", ".", "")
    for turn in range(60):
        top = tmp_path / str(turn)
        (top / "root").mkdir(parents=True)
        for name in "abc":
            target = "/" * dice.randrange(2) + "/".join(dice.choices(parts, k=3))
            if target and dice.random() < 0.7:
                (top / "root" / name).symlink_to(target)
            else:
                (top / "root" / name).mkdir()
        with ExitStack() as stack:
            root = stack.enter_context(Root(top / "root"))
            for _ in range(10):
                path = "/" + "/".join(dice.choices(parts, k=4))
                try:
                    found = resolve(root, path)
                    fd = root.open(path, os.O_PATH)
                except OSError:
                    continue
                stack.callback(os.close, fd)
                assert ".." not in found.split("/")
                there = os.stat(f"{top}/root{found}", follow_symlinks=False)
                assert not stat.S_ISLNK(there.st_mode)
                assert os.path.samestat(there, os.fstat(fd)), (path, found)
