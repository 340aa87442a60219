"""Layers of strangers: nothing in an archive reaches outside its directory.  Needs root."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit.errors import InvalidSpec, NetkitError
from netkit.store import Database
from runtime.images.importing import ImportRequest
from runtime.images.layer_unpack import unpack
from runtime.images.layers import Layers
from runtime.images.store import ImageStore
from runtime.limits import RATIO_GRACE
from runtime.tar.compression import Unpacked

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and devices"),
]

Entry = tuple[str, bytes, dict[str, object]]  # name, content, fields of TarInfo


def tar(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, more in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o644
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def file(name: str, content: bytes = b"x", **more: object) -> Entry:
    return (name, content, more)


def link(name: str, to: str) -> Entry:
    return (name, b"", {"type": tarfile.SYMTYPE, "linkname": to})


def hard(name: str, to: str) -> Entry:
    return (name, b"", {"type": tarfile.LNKTYPE, "linkname": to})


def folder(name: str, mode: int = 0o755) -> Entry:
    return (name, b"", {"type": tarfile.DIRTYPE, "mode": mode})


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> Entry:
    return (name, b"", {"type": kind, "devmajor": major, "devminor": minor})


HOSTILE: dict[str, list[Entry]] = {
    "dot dot": [file("../canary/file")],
    "dot dot inside": [file("a/../../canary/file")],
    "absolute": [file("/etc/nk-canary")],
    "double slash": [file("//etc//nk-canary")],
    "link then file through it": [link("out", "../canary"), file("out/file")],
    "absolute link then file": [link("out", "/CANARY"), file("out/file")],
    "link to dot dot chain": [link("a", ".."), link("b", "a/.."), file("b/canary/file")],
    "link replaced by file": [link("x", "../canary/file"), file("x")],
    "file over link to canary": [link("x", "/CANARY/file"), file("x", b"gone")],
    "hard link out": [hard("x", "../canary/file")],
    "hard link absolute": [hard("x", "/CANARY/file"), file("x", b"gone")],
    "hard link through link": [link("l", "../canary"), hard("x", "l/file")],
    "hard link to link, then write": [link("l", "../canary/file"), hard("x", "l"), file("x")],
    "folder over link": [link("d", "../canary"), folder("d", 0o777), file("d/file")],
    "mode through link": [link("d", "../canary/file"), folder("d", 0o777)],
    "mode of dot dot": [folder("..", 0o777)],
    "mode of root by dots": [folder("a/../..", 0o777)],
    "owner through link": [link("d", "../canary"), (("d/."), b"", {"type": tarfile.DIRTYPE})],
    "whiteout out": [file("../canary/.wh.file", b"")],
    "whiteout of dot dot": [file(".wh...", b"")],
    "whiteout of dot": [file(".wh..", b"")],
    "whiteout of nothing": [file(".wh.", b"")],
    "whiteout through link": [link("d", "../canary"), file("d/.wh.file", b"")],
    "opaque through link": [link("d", "../canary"), file("d/.wh..wh..opq", b"")],
    "posing as whiteout": [device("x", 0, 0)],
    "device out": [device("../canary/dev", 1, 3)],
    "device through link": [link("d", "../canary"), device("d/dev", 1, 3)],
    "fifo through link": [link("d", "../canary"), ("d/p", b"", {"type": tarfile.FIFOTYPE})],
    "link in a link's name": [link("a", "b"), link("a/c", "../../canary"), file("a/c/file")],
    "self link": [link("a", "a"), file("a/b")],
    "link circle": [link("a", "b"), link("b", "a"), file("a/x")],
    "long name": [file("x/" * 2500 + "y")],
    "proc magic": [link("p", "/proc/self/root"), file("p/CANARY/file")],
    "proc fd magic": [link("p", "/proc/self/fd/3"), file("p/x")],
    "setuid outside": [link("s", "../canary/file"), file("s", b"x", mode=0o4755)],
    "file named dot": [file(".", b"x")],
    "file where folder was": [folder("d"), file("d/in"), file("d", b"x"), file("d/in2")],
    "hard link to itself": [hard("x", "x")],
    "hard link to folder": [folder("d"), hard("x", "d")],
    "xattr of overlayfs": [
        file("x", b"", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/CANARY"})
    ],
    "xattr opaque": [
        (("d"), b"", {"type": tarfile.DIRTYPE,
                      "pax_headers": {"SCHILY.xattr.trusted.overlay.opaque": "y"}})
    ],
    "huge owner": [file("x", b"", uid=2**31, gid=2**31)],
    "time before the epoch": [file("x", b"", mtime=-5)],
    "unknown kind": [("x", b"", {"type": b"Z"})],
}  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "canary"
    place.mkdir(mode=0o750)
    (place / "file").write_text("alive")
    (place / "file").chmod(0o640)
    before = state(place)
    yield place
    assert state(place) == before, "something outside the layer was touched"
    assert not Path("/etc/nk-canary").exists()


def state(place: Path) -> list[object]:
    """Return everything about a tree but access times."""
    out: list[object] = []
    for path in sorted([place, *place.rglob("*")]):
        st = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        xattrs = sorted(os.listxattr(path, follow_symlinks=False))
        out.append((str(path), st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, content, xattrs))
    return out


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_changes_nothing_outside(name: str, tmp_path: Path, canary: Path) -> None:
    entries = [
        (n.replace("CANARY", str(canary)[1:]), content,
         {k: v.replace("CANARY", str(canary)[1:]) if isinstance(v, str) else v
          for k, v in more.items()})
        for n, content, more in HOSTILE[name]
    ]  # fmt: skip
    layer = tmp_path / "layer"
    layer.mkdir()
    with contextlib.suppress(InvalidSpec):  # refused, or put where it belongs
        unpack(Unpacked(io.BytesIO(tar(*entries))), layer)
    for path in layer.rglob("*"):
        xattrs = os.listxattr(path, follow_symlinks=False)
        assert "trusted.overlay.redirect" not in xattrs


def test_archives_that_are_none_are_refused(tmp_path: Path) -> None:
    for n, junk in enumerate((b"", b"x" * 700, gzip.compress(b"y" * 700), b"\x1f\x8bshort")):
        layer = tmp_path / str(n)
        layer.mkdir()
        if junk == b"":
            continue
        with pytest.raises(InvalidSpec):
            unpack(Unpacked(io.BytesIO(junk)), layer)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(tar(file("a", os.urandom(100_000))))
    with pytest.raises(InvalidSpec):
        unpack(Unpacked(io.BytesIO(whole[: len(whole) // 2])), tmp_path)


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(file("a", bytes(RATIO_GRACE * 3))), 9)
    with pytest.raises(InvalidSpec, match="bomb"):
        unpack(Unpacked(io.BytesIO(bomb)), tmp_path)
    used = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert used <= RATIO_GRACE * 2


def test_padding_without_end_is_refused(tmp_path: Path) -> None:
    """CVE-2017-14992: an empty archive followed by gigabytes of zeros."""
    bomb = gzip.compress(tar() + bytes(RATIO_GRACE * 3), 9)
    with pytest.raises(InvalidSpec, match="bomb"):
        unpack(Unpacked(io.BytesIO(bomb)), tmp_path)


def test_honest_archives_are_unpacked_as_they_are(tmp_path: Path) -> None:
    content = tar(
        folder("var", 0o755), folder("run", 0o711), link("var/run", "/run"),
        file("var/run/pid", b"7", mode=0o600, uid=12, gid=34, mtime=1_500_000_000),
        file("bin/tool", b"#!", mode=0o4755), hard("bin/same", "bin/tool"),
        device("dev/null", 1, 3), ("p", b"", {"type": tarfile.FIFOTYPE}),
    )  # fmt: skip
    source = Unpacked(io.BytesIO(gzip.compress(content)))
    unpack(source, tmp_path)
    pid = (tmp_path / "run/pid").lstat()
    assert (pid.st_uid, pid.st_gid, stat.S_IMODE(pid.st_mode)) == (12, 34, 0o600)
    assert pid.st_mtime == 1_500_000_000
    assert (tmp_path / "bin/same").samefile(tmp_path / "bin/tool")
    assert stat.S_IMODE((tmp_path / "bin/tool").stat().st_mode) == 0o4755
    assert os.readlink(tmp_path / "var/run") == "/run"
    assert stat.S_ISCHR((tmp_path / "dev/null").stat().st_mode)
    assert source.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


REPLACED: dict[str, tuple[list[Entry], str]] = {
    "by a link": ([folder("d"), folder("e"), file("d/x"), link("d", "e"), file("d/y")], "e/y"),
    "by another link": (
        [folder("e"), folder("f"), link("d", "e"), file("d/x"), link("d", "f"), file("d/y")], "f/y",
    ),
    "above": (
        [folder("a"), folder("a/b"), folder("c"), folder("c/b"), file("a/b/x"), file("a", b""),
         link("a", "c"), file("a/b/y")], "c/b/y",
    ),
    "through itself": (
        [folder("d"), folder("e"), link("d/up", ".."), file("d/up/x"), link("d/up/d", "e"),
         file("d/up/y")], "e/up/y",
    ),
    "by a whiteout": ([folder("e"), link("d", "e"), file("d/x"), file(".wh.d", b""), file("d/y")],
                      "none"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_a_directory_that_is_replaced_takes_no_more_files(name: str, tmp_path: Path) -> None:
    entries, expected = REPLACED[name]
    (tmp_path / "tree").mkdir()
    try:
        unpack(Unpacked(io.BytesIO(tar(*entries))), tmp_path / "tree")
    except InvalidSpec:
        assert name == "by a whiteout"  # it is hidden: nothing can be in it
    found = [str(p.relative_to(tmp_path / "tree")) for p in (tmp_path / "tree").rglob("y")]
    assert found == ([] if expected == "none" else [expected])


def test_whiteouts_become_overlayfs_s_own(tmp_path: Path) -> None:
    content = tar(file("d/.wh.gone", b""), file("e/.wh..wh..opq", b""))
    unpack(Unpacked(io.BytesIO(content)), tmp_path)
    whiteout = (tmp_path / "d/gone").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(tmp_path / "e", "trusted.overlay.opaque") == b"y"


def test_a_layer_is_kept_only_with_the_digest_that_was_promised(tmp_path: Path) -> None:
    layers = Layers(tmp_path / "layers")
    content = tar(file("a"))
    with pytest.raises(InvalidSpec, match="diff id"):
        layers.add(io.BytesIO(content), "sha256:" + "0" * 64)
    assert layers.all() == set()
    assert layers.add(io.BytesIO(content)) == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda image: [])


class Upload(io.BytesIO):
    def check(self) -> None:
        """The client is still there."""


def imported(store: ImageStore, name: str = "a:1", content: bytes = b"x") -> str:
    repo, _, tag = name.partition(":")
    wanted = ImportRequest(repo=repo, tag=tag, changes=['CMD ["x"]'])
    return store.import_(Upload(tar(file("f", content))), wanted)


def test_save_and_load_round_trip(store: ImageStore, tmp_path: Path) -> None:
    ids = [imported(store, "a:1"), imported(store, "b:2", b"y")]
    archive = b"".join(store.save(["a:1", "b:2"]))
    other = ImageStore(tmp_path / "other", Database(tmp_path / "db2"), lambda image: [])
    messages = list(other.load(Upload(gzip.compress(archive))))
    assert messages == ["Loaded image: a:1\n", "Loaded image: b:2\n"]
    assert [other.find(n).id for n in ("a:1", "b:2")] == ids


Change = Callable[[dict[str, bytes]], None]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda m: m.pop("manifest.json") and m.pop("index.json"), "holds no image"),
        (lambda m: m.update({"manifest.json": b"{"}), "not JSON"),
        (lambda m: m.update({"manifest.json": b'[{"Config": "../../etc/passwd"}]'}), "has no file"),
        (lambda m: m.update({"manifest.json": b'[{"Config": 5, "Layers": []}]'}), "malformed"),
        (
            lambda m: m.update({k: b"other" for k in m if k.startswith("blobs/")}),
            "JSON|digest",
        ),
    ],
)
def test_a_malformed_image_archive_is_refused_and_leaves_nothing(
    store: ImageStore, broken: Change, message: str, tmp_path: Path
) -> None:
    imported(store)
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(store.save(["a:1"], "oci")))) as archive:
        for m in archive:
            content = archive.extractfile(m)
            members[m.name] = content.read() if content else b""
    broken(members)
    other = ImageStore(tmp_path / "other", Database(tmp_path / "db2"), lambda image: [])
    with pytest.raises(NetkitError, match=message):
        list(other.load(Upload(tar(*(file(n, c) for n, c in members.items())))))
    assert other.all() == []
    assert other.layers.all() == set()
    assert other.blobs.all() == set()


def test_removing_an_image_removes_what_no_other_image_has(store: ImageStore) -> None:
    id = imported(store, "a:1")
    store.tag("a:1", "b", "2")
    assert store.remove("a:1", force=False, prune=True) == [{"Untagged": "a:1"}]
    assert store.find("b:2").id == id
    out = store.remove("b:2", force=False, prune=True)
    assert {"Deleted": id} in out
    assert (store.layers.all(), store.blobs.all()) == (set(), set())


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 63, "../../etc", "sha512:" + "0" * 128, ""])
def test_what_is_no_digest_never_becomes_a_path(store: ImageStore, digest: str) -> None:
    with pytest.raises(InvalidSpec, match="digest"):
        store.blobs.path(digest)
