"""Archives of images: what `save` writes, and what `load` makes of archives of every age."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.store import Database
from runtime.images.importing import ImportRequest
from runtime.images.store import ImageStore
from tests import hostile
from tests.unit.runtime.images.test_children import Shelf
from tests.unit.runtime.images.test_documents import Upload

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "other", Database(tmp_path / "db2"), lambda _: ())


def members(data: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for m in archive:
            file = archive.extractfile(m) if m.isfile() or m.issym() else None
            found[m.name] = file.read() if file else b""
    return found


def loaded(images: ImageStore, data: bytes) -> list[str]:
    return list(images.load(Upload(data)))


def packed(files: Mapping[str, bytes | object]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def test_save_writes_what_every_docker_loads(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    one = shelf.step(base, "one:1", "g")
    data = b"".join(shelf.images.save(["one:1", "base"]))
    assert data == b"".join(shelf.images.save(["one:1", "base"]))  # the same bytes each time
    files = members(data)
    manifest = json.loads(files["manifest.json"])
    assert [m["RepoTags"] for m in manifest] == [["one:1"], ["base:latest"]]
    assert [m.get("Parent") for m in manifest] == [base, None]
    for image, entry in zip((one, base), manifest, strict=True):
        config = files[entry["Config"]]
        assert f"sha256:{hashlib.sha256(config).hexdigest()}" == image
        ids = json.loads(config)["rootfs"]["diff_ids"]
        layers = [files[name] for name in entry["Layers"]]
        assert [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers] == ids
    top = manifest[0]["Layers"][-1].partition("/")[0]
    assert json.loads(files["repositories"])["one"] == {"1": top}
    assert files[f"{top}/VERSION"] == b"1.0"
    assert json.loads(files[f"{top}/json"])["parent"] == manifest[0]["Layers"][0].partition("/")[0]


def test_a_layer_that_came_compressed_is_saved_as_a_tar(shelf: Shelf) -> None:
    layer = hostile.tar([hostile.entry("f")], b"x" * 5000)
    shelf.images.import_(Upload(gzip.compress(layer)), ImportRequest(repo="a"))
    saved = members(b"".join(shelf.images.save(["a"])))
    assert layer in saved.values()
    (shelf.images.layers.path(shelf.images.find("a").layers[0]) / "tar").unlink()  # an older store
    assert members(b"".join(shelf.images.save(["a"]))) == saved


def test_a_tar_that_ends_early_is_refused_in_dockerds_words(shelf: Shelf) -> None:
    with pytest.raises(InvalidSpec, match=r"^Error processing tar file.* unexpected EOF$"):
        shelf.images.import_(Upload(b"not a tar at all"), ImportRequest())
    assert shelf.images.blobs.all() == set()


def test_an_import_may_be_for_another_architecture(shelf: Shelf) -> None:
    data = hostile.tar([hostile.entry("f")])
    id = shelf.images.import_(Upload(data), ImportRequest(platform="linux/arm64/v8"))
    document = shelf.images.find(id).document
    assert (document["architecture"], document["variant"]) == ("arm64", "v8")
    with pytest.raises(InvalidSpec, match="operating system 'windows' is not supported"):
        shelf.images.import_(Upload(data), ImportRequest(platform="windows/amd64"))


def test_load_gives_images_their_parents_back(shelf: Shelf, other: ImageStore) -> None:
    base = shelf.step("", "base", "f")
    one = shelf.step(base, "one:1", "g")
    assert loaded(other, b"".join(shelf.images.save(["one:1", "base"]))) == [
        "Loaded image: one:1\n", "Loaded image: base:latest\n",
    ]  # fmt: skip
    assert other.parent(one) == base
    alone = ImageStore(shelf.folder / "third", Database(shelf.folder / "db3"), lambda _: ())
    loaded(alone, b"".join(shelf.images.save(["one:1"])))
    assert alone.parent(one) == ""


def test_an_archive_that_lies_about_a_parent_is_refused(shelf: Shelf, other: ImageStore) -> None:
    one, two = shelf.step("", "one", "f"), shelf.step("", "two", "g")
    files = members(b"".join(shelf.images.save(["one", "two"])))
    manifest = json.loads(files["manifest.json"])
    manifest[0]["Parent"] = two
    with pytest.raises(InvalidSpec, match=f"image {two} is not a valid parent for {one}"):
        loaded(other, packed({**files, "manifest.json": manifest}))


def test_a_name_that_another_image_had_is_said(shelf: Shelf, other: ImageStore) -> None:
    old = shelf.step("", "mine", "f")
    loaded(other, b"".join(shelf.images.save(["mine"])))
    shelf.step("", "mine", "g")
    assert loaded(other, b"".join(shelf.images.save(["mine"]))) == [
        f"The image mine:latest already exists, renaming the old one with ID {old} to empty "
        "string\n",
        "Loaded image: mine:latest\n",
    ]


def test_what_is_not_there_is_named_as_typed(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nosuch$"):
        shelf.images.save(["nosuch"])
    with pytest.raises(NotFound, match=r"^reference does not exist$"):
        shelf.images.save(["nosuch:1"])
    with pytest.raises(InvalidSpec, match="invalid format 'zip'"):
        shelf.images.save([], "zip")


def old(**more: Any) -> dict[str, object]:
    """An archive of Docker 1.9: a base, and on top of it a step without files."""
    layer = hostile.tar([hostile.entry("f")], b"old")
    ran = {
        "container_config": {"Cmd": ["/bin/sh", "-c", "make"]},
        "created": "2015-01-01T00:00:00Z",
    }
    return {
        "b" * 64 + "/VERSION": b"1.0",
        "b" * 64 + "/json": {"id": "b" * 64, "architecture": "amd64", "os": "linux", **ran},
        "b" * 64 + "/layer.tar": layer,
        "a" * 64 + "/json": {
            "id": "a" * 64, "parent": "b" * 64, "os": "linux", "Size": 3, "author": "me",
            "config": {"Cmd": ["sh"], "Env": ["A=b"]}, **ran,
        },
        "a" * 64 + "/layer.tar": bytes(1024),
        "repositories": {"old": {"1": "a" * 64, "2": "a" * 64}},
        **more,
    }  # fmt: skip


def test_archives_from_before_docker_1_10_are_loaded(other: ImageStore) -> None:
    assert loaded(other, packed(old())) == []  # as Docker, which says nothing of them
    image = other.find("old:1")
    assert image.tags == ("old:1", "old:2")
    assert image.config.cmd == ["sh"]
    assert len(image.layers) == 2
    assert [step["CreatedBy"] for step in other.history("old:1")] == ["/bin/sh -c make"] * 2
    assert (other.layers.tree(image.layers[0]) / "f").read_text() == "old"
    assert other.find(image.parent).layers == image.layers[:1]  # each layer was an image
    nameless = {name: data for name, data in old().items() if name != "repositories"}
    with pytest.raises(InvalidSpec, match="nor repositories"):
        loaded(other, packed(nameless))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"repositories": {"old": {"1": "c" * 64}}}, "invalid target ID: ccc"),
        ({"repositories": ["old"]}, "repositories is malformed"),
        ({"repositories": {"old": {"1": 5}}}, "repositories is malformed"),
        ({"b" * 64 + "/json": {"id": "b", "parent": "a" * 64}}, "on top of one that is not there"),
        ({"b" * 64 + "/json": {"id": "b", "parent": "d" * 64}}, "on top of one that is not there"),
        ({"b" * 64 + "/json": {"parent": 5}}, "malformed"),
        ({"b" * 64 + "/json": []}, "malformed"),
        ({"b" * 64 + "/json": b"{"}, "not JSON"),
        ({"a" * 64 + "/json": {"parent": "b" * 64, "os": "windows"}}, "not for linux"),
        ({"a" * 64 + "/layer.tar": b"x"}, "unexpected EOF"),
    ],
)
def test_old_archives_that_are_wrong_leave_nothing(
    other: ImageStore, more: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        loaded(other, packed(old(**more)))
    assert len(other.all()) <= 1  # the parent, which was whole
    other.prune({})
    assert (other.all(), other.layers.all(), other.blobs.all()) == ([], set(), set())


def test_a_layer_of_holes_is_refused_at_once(other: ImageStore) -> None:
    """Some hundred bytes that unpack to 60 GiB of zeros."""
    size = 60 << 30
    config: dict[str, Any] = {"rootfs": {"diff_ids": ["sha256:" + "a" * 64]}}
    files = packed({"manifest.json": [{"Config": "c.json", "Layers": ["f"]}], "c.json": config})
    layer = hostile.sparse(size, f"{size - 1},1", b"x").removesuffix(hostile.END)
    with pytest.raises(InvalidSpec, match="consists of holes"):
        loaded(other, layer + files)
