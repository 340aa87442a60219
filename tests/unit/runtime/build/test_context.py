"""Contexts: what is received, which Dockerfile is taken, and that nothing is left."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.build.context import receive
from runtime.build.errors import BuildFailed
from runtime.build.leftovers import sweep_contexts
from tests.unit.runtime.build.trees import FROM, TIME, context, left, packed


def names(folder: int) -> list[str]:
    return sorted(
        os.path.join(at, each)[2:]
        for at, folders, files, _ in os.fwalk(".", dir_fd=folder)
        for each in folders + files
    )


def test_a_context_is_unpacked_and_removed(tmp_path: Path) -> None:
    tree = {"d/": {"mode": 0o750}, "d/f": "text", "p/q": "without an entry of its folder"}
    with context(tree, tmp_path / "builds") as found:
        assert (found.name, found.dockerfile) == ("Dockerfile", FROM.encode())
        assert found.root is not None
        assert names(found.root.fd) == ["Dockerfile", "d", "d/f", "p", "p/q"]
        st = os.stat("d", dir_fd=found.root.fd)
        assert (st.st_mode & 0o7777, int(st.st_mtime)) == (0o750, TIME)
    removing = [t for t in threading.enumerate() if t.name == "netkit-context"]
    for thread in removing:
        thread.join(5)
    assert left(tmp_path / "builds") == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_context_may_be_compressed(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = pack(packed({"Dockerfile": FROM}))
    with receive(io.BytesIO(data), tmp_path, dockerfile="") as found:
        assert found.dockerfile == FROM.encode()


def test_an_archive_may_end_without_its_padding(tmp_path: Path) -> None:
    """As docker's client leaves it, after a Dockerfile from outside of the context."""
    whole = packed({"Dockerfile": FROM})
    with receive(io.BytesIO(whole[: 512 + len(FROM)]), tmp_path, dockerfile="") as found:
        assert found.dockerfile == FROM.encode()


def test_names_that_climb_out_end_in_the_context(tmp_path: Path) -> None:
    tree = {"../up": "u", "/abs": "a", "d/../../../x": "x"}
    with context(tree, tmp_path / "builds") as found:
        assert found.root is not None
        assert names(found.root.fd) == ["Dockerfile", "abs", "up", "x"]
    assert os.listdir(tmp_path) == ["builds"]


REFUSED: dict[str, tuple[bytes, str]] = {
    "text": (FROM.encode() * 200, "archive/tar: invalid tar header"),
    "a little text": (FROM.encode(), "unexpected EOF"),
    "nothing": (b"", "Cannot locate specified Dockerfile: Dockerfile"),
    "zeros": (bytes(4096), "Cannot locate specified Dockerfile: Dockerfile"),
    "no Dockerfile": (packed({"x": "x"}), "Cannot locate specified Dockerfile: Dockerfile"),
    "cut short": (packed({"x": "x" * 5000})[:3000], "unexpected EOF"),
    "compressed and cut short": (
        gzip.compress(packed({"x": os.urandom(50_000)}))[:-40], "unexpected EOF",
    ),
    "through a link that leads nowhere": (
        packed({"l": {"linkname": "/etc"}, "l/x": "x"}),
        "Error processing tar file(exit status 1): open /l/x: no such file or directory",
    ),
    "a hard link to what is not there": (
        packed({"h": {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}}),
        "Error processing tar file(exit status 1): link /etc/passwd /h: no such file or directory",
    ),
    "a Dockerfile that is a folder": (
        packed({"Dockerfile/": {}}),
        "unexpected error reading Dockerfile: read Dockerfile: is a directory",
    ),
    "a Dockerfile that is a circle": (
        packed({"Dockerfile": {"linkname": "Dockerfile"}}),
        "forbidden path outside the build context: Dockerfile ()",
    ),
    "a Dockerfile that is a fifo": (
        packed({"Dockerfile": {"type": tarfile.FIFOTYPE}}),
        "unexpected error reading Dockerfile: read Dockerfile: not a regular file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_context_is_refused_in_dockers_words(name: str, tmp_path: Path) -> None:
    data, text = REFUSED[name]
    with pytest.raises(BuildFailed) as raised:
        receive(io.BytesIO(data), tmp_path, dockerfile="Dockerfile")
    assert (str(raised.value), raised.value.status) == (text, 500)
    assert os.listdir(tmp_path) == []


def test_a_bound_of_archives_is_one_of_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES", 2)
    with pytest.raises(InvalidSpec, match="more than 2 entries"):
        context({"a": "", "b": ""}, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_client_that_leaves_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                return data
            raise ConnectionResetError("the client disconnected during the upload")

    with pytest.raises(ConnectionResetError):
        receive(Broken(packed({"a": "x" * 5000})[:3000]), tmp_path, dockerfile="")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("dockerfile", "tree", "expected"),
    [
        ("sub/File", {"sub/File": "FROM sub\n"}, "FROM sub\n"),
        ("./sub//../Dockerfile", {}, FROM),
        ("/Dockerfile", {}, FROM),
        ("l", {"l": {"linkname": "/sub/File"}, "sub/File": "FROM sub\n"}, "FROM sub\n"),
    ],
)
def test_the_dockerfile_is_found_inside(
    dockerfile: str, tree: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    data = packed({"Dockerfile": FROM, **tree})
    with receive(io.BytesIO(data), tmp_path, dockerfile=dockerfile) as found:
        assert found.dockerfile == expected.encode()


def test_a_lower_case_dockerfile_will_do(tmp_path: Path) -> None:
    data = packed({"dockerfile": FROM})
    with receive(io.BytesIO(data), tmp_path, dockerfile="Dockerfile") as found:
        assert (found.name, found.dockerfile) == ("dockerfile", FROM.encode())


def test_a_dockerfile_outside_is_forbidden(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"forbidden path outside the build context: \.\./x \(\)"):
        receive(io.BytesIO(packed({"x": "x"})), tmp_path, dockerfile="../x")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a.txt\n", [".dockerignore", "Dockerfile", "a.txt"]),
        ("Dockerfile\n", [".dockerignore", "a.txt"]),
        (".dockerignore\n", ["Dockerfile", "a.txt"]),
        ("*\n", ["a.txt"]),
        ("**\n", ["a.txt"]),
        ("*\n!.dockerignore\n", [".dockerignore", "a.txt"]),
        ("Dockerfile\n!Dockerfile\n", [".dockerignore", "Dockerfile", "a.txt"]),
        ("[\n", [".dockerignore", "Dockerfile", "a.txt"]),
        ("# Dockerfile\n", [".dockerignore", "Dockerfile", "a.txt"]),
        ("D*\n/.dockerignore\n", ["a.txt"]),
    ],
)
def test_dockerignore_takes_two_files_from_the_context(
    text: str, left: list[str], tmp_path: Path
) -> None:
    with context({".dockerignore": text, "a.txt": "a"}, tmp_path) as found:
        assert found.root is not None
        assert names(found.root.fd) == left
        assert found.dockerfile == FROM.encode()


def test_what_a_killed_daemon_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "left" / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/etc")
    sweep_contexts(tmp_path)
    sweep_contexts(tmp_path / "nothing")
    assert os.listdir(tmp_path) == []
    assert os.path.isdir("/etc")
