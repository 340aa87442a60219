"""Contexts that stay packed: nothing can tell them from unpacked ones, but the time they take."""

from __future__ import annotations

import os
import random
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import NetkitError
from runtime import limits
from runtime.build.context import BuildContext
from runtime.build.errors import BuildFailed
from runtime.build.finding import find
from runtime.build.packed import PackedFiles
from tests.unit.runtime.build.trees import FROM, TIME, context, left

Tree = dict[str, Any]

PLAIN: dict[str, Tree] = {
    "files": {"a": "A", "b": "", "c": os.urandom(300_000)},
    "folders": {"d/": {"mode": 0o2750}, "d/x": "X", "d/e/": {}, "d/e/y": "Y", "d.x": "after d/x"},
    "folders without entries": {"d/e/f/x": "X", "d/y": "Y"},
    "a folder's entry after its files": {"d/x": "X", "d/": {"mode": 0o700}},
    "links": {"l": {"linkname": "a"}, "m": {"linkname": "/d"}, "n": {"linkname": "nope"},
              "a": "A", "d/x": "X", "d/up": {"linkname": "../.."}},
    "modes": {"s": {"text": "s", "mode": 0o4755}, "n": {"text": "n", "mode": 0}},
    "names": {"with blank": "1", "\udcff": "2", "nöt": "3", "n" * 255: "4", "./dot": "5"},
    "climbing": {"../up": "u", "/abs": "a", "d/../../../x": "x"},
    "times": {"old": {"text": "o", "mtime": 0}, "d/": {"mtime": 1}, "d/f": "f"},
}  # fmt: skip
ODD: dict[str, Tree] = {
    "a file twice": {"a": "A", "./a": "B"},
    "a folder, then a file": {"d/x": "X", "d": "file"},
    "a file, then a folder": {"d": "file", "d/": {}},
    "through a link": {"d/": {}, "l": {"linkname": "/d"}, "l/x": "X"},
    "a hard link": {"a": "A", "h": {"type": tarfile.LNKTYPE, "linkname": "a"}},
    "a fifo": {"a": "A", "p": {"type": tarfile.FIFOTYPE}},
    "an attribute": {"a": {"text": "A", "pax_headers": {"SCHILY.xattr.user.x": "1"}}},
    "a sparse file": {"a": {"text": "data", "pax_headers": {
        "GNU.sparse.map": "4096,4", "GNU.sparse.size": "8192"}}},
}  # fmt: skip
REFUSED: dict[str, Tree] = {
    "a long name": {"n" * 256: "x"},
    "in a folder of a long name": {"n" * 256 + "/x": "x"},
    "through a file": {"a": "A", "a/b": "B"},
    "a link to nowhere": {"l": {"linkname": ""}},
    "through a link to nowhere": {"l": {"linkname": "/none"}, "l/x": "x"},
}


def state(found: BuildContext) -> Iterator[tuple[object, ...]]:
    """All that can be seen of a context's files."""
    assert found.root is not None
    for at, folders, files, fd in os.fwalk(".", dir_fd=found.root.fd):
        for name in folders + files:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            text = ""
            if stat.S_ISREG(st.st_mode):
                with open(os.open(name, os.O_RDONLY, dir_fd=fd), "rb") as file:
                    text = str(file.read())
            elif stat.S_ISLNK(st.st_mode):
                text = os.readlink(name, dir_fd=fd)
            times = st.st_mtime_ns if abs(st.st_mtime - TIME) < 2e9 else "now"
            recent = st.st_mtime > TIME + 1e8  # of a folder that the archive does not have
            yield (f"{at}/{name}", st.st_mode, st.st_uid, st.st_gid, st.st_nlink * (text != ""),
                   "now" if recent else times, text)  # fmt: skip


def told(found: BuildContext) -> Iterator[tuple[str, str]]:
    """Digests of everything, each by its own name and through patterns."""
    assert found.files is not None
    words = [".", "*", "*/*", "d/*", "[a-z]*", "l", "m", "m/x", "d/up/a", "nope", "Dockerfile/x"]
    for word in [*words, *list(found.files.walked())]:
        try:
            for each in find(found.files, word, in_context=True):
                yield word, f"{each.path} {each.name} {each.digest}"
        except BuildFailed as error:
            yield word, str(error)


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_a_packed_context_is_like_an_unpacked_one(name: str, tmp_path: Path) -> None:
    tree = {**PLAIN, **ODD}[name]
    with (
        context(tree, tmp_path / "a") as one,
        context(tree, tmp_path / "b", packed=False) as other,
    ):
        assert isinstance(one.files, PackedFiles) == (name in PLAIN)
        assert list(told(one)) == list(told(other))
        assert sorted(state(one), key=str) == sorted(state(other), key=str)
        assert list(told(one)) == list(told(other))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_unpacked_is_refused_alike(name: str, tmp_path: Path) -> None:
    said = []
    for packed in (True, False):
        with pytest.raises(NetkitError) as raised:
            context(REFUSED[name], tmp_path, packed=packed)
        said.append((type(raised.value), str(raised.value)))
    assert said[0] == said[1]
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_random_trees_are_alike(tmp_path: Path) -> None:
    dice = random.Random(5)
    for n in range(12):
        tree: Tree = {}
        for _ in range(30):
            path = "/".join(dice.choices("ab.-", k=1 + dice.randrange(4))).replace("/.", "/x")
            kind = dice.randrange(8)
            tree[path + ("/" if kind < 3 else "")] = (
                {"linkname": dice.choice(["a", "/b", "../a", "x"])} if kind == 3
                else {} if kind < 3 else "x" * dice.randrange(3)
            )  # fmt: skip
        seen = []
        for packed in (True, False):
            try:
                with context(tree, tmp_path / str(n), packed=packed) as found:
                    seen.append((list(told(found)), sorted(state(found), key=str)))
            except NetkitError as error:
                seen.append(([], [(str(error),)]))
        assert seen[0] == seen[1], tree


def test_digests_need_no_files_and_a_step_only_its_own(tmp_path: Path) -> None:
    with context({"d/x": "X", "d/e/y": "Y", "f/z": "Z"}, tmp_path) as found:
        assert found.files is not None
        list(find(found.files, "d", in_context=True))
        (tree,) = tmp_path.glob("*/tree")
        assert os.listdir(tree) == []
        (source,) = find(found.files, "d/e", in_context=True)
        with open(os.open("d/e/y", os.O_RDONLY, dir_fd=source.root.fd)) as file:
            assert file.read() == "Y"
        assert (os.listdir(tree), os.listdir(tree / "d")) == (["d"], ["e"])
        assert source.root is not None
        assert found.root is not None
        assert sorted(os.listdir(tree)) == ["Dockerfile", "d", "f"]
        assert sorted(os.listdir(tree / "d")) == ["e", "x"]


@pytest.mark.parametrize(
    ("limit", "value"), [("BUILD_PACKED_FILES", 3), ("BUILD_PACKED_BYTES", 40)]
)
def test_a_large_context_is_unpacked(
    limit: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, limit, value)
    deep = "d/" * 12 + "x"
    with context({deep: "X"}, tmp_path) as found:
        assert not isinstance(found.files, PackedFiles)
        assert found.dockerfile == FROM.encode()
        assert found.root is not None
        os.stat(deep, dir_fd=found.root.fd)


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with context({"d/x": "X"}, tmp_path) as found:
        assert found.files is not None
        monkeypatch.setattr(os, "sendfile", full)
        with pytest.raises(BuildFailed, match="write /d/x: no space left on device"):
            found.files.root("/d")
        monkeypatch.undo()
        os.stat("d/x", dir_fd=found.files.root("/d").fd)


def test_a_context_may_be_closed_before_its_end(tmp_path: Path) -> None:
    with context({"d/x": "X"}, tmp_path) as found:
        found.close()
        assert left(tmp_path) == []
