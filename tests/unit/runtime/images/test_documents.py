"""Documents of images with every field of every wrong type: accepted and good for all that reads
them, or refused; never anything else."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NetkitError
from netkit.store import Database
from runtime.api.json import filter_images
from runtime.api.json import images as render_images
from runtime.container.config import Config, CreateRequest
from runtime.dockerfile import changes
from runtime.images import config
from runtime.images.importing import ImportRequest
from runtime.images.model import Image
from runtime.images.store import ImageStore
from runtime.lifecycle.create import validate_create
from tests import hostile

DIGEST = "sha256:" + "ab" * 32
CONFIG: dict[str, Any] = {
    "architecture": "amd64", "os": "linux", "variant": "v8", "created": "2024-02-29T10:00:00.5Z",
    "author": "someone", "docker_version": "1.0", "comment": "c", "container": "abc",
    "os.version": "1", "os.features": ["a"],
    "config": {
        "Hostname": "h", "User": "0:0", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"],
        "Entrypoint": ["/e"], "Cmd": ["c"], "Volumes": {"/v": {}}, "WorkingDir": "/w",
        "Labels": {"k": "v"}, "StopSignal": "TERM", "ArgsEscaped": True, "OnBuild": ["RUN x"],
        "Shell": ["/bin/sh"], "AttachStdin": False,
        "Healthcheck": {
            "Test": ["CMD", "x"], "Interval": 1_000_000_000, "Timeout": 1_000_000_000,
            "StartPeriod": 0, "StartInterval": 0, "Retries": 3,
        },
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [
        {"created": "2024-02-29T12:00:00+02:00", "created_by": "x", "author": "y", "comment": "z"},
        {"created": "2024-02-29T10:00:00Z", "empty_layer": True},
    ],
}  # fmt: skip
WRONG: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, "", "x", "0000-00-00", "9999-12-31T23:59:59-23:59",
    "2024-02-30T00:00:00Z", "\0", "../../x", "é" * 300, [], [None], ["x"], [5], [[]], [{}],
    {}, {"a": None}, {"a": 5}, {"a": "b"}, {"a": {}}, {"": ""}, {"a": ["b"]},
]  # fmt: skip


def mutated(document: Any) -> Iterator[Any]:
    """Copies with one value replaced, one key left out or one key added, at every place."""
    for path in places(document):
        for value in WRONG:
            yield changed(document, path, value)
        if path and isinstance(path[-1], str):
            yield changed(document, path, ...)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if not isinstance(value, (dict, list)):
        return
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield from places(below, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    whole = copy.deepcopy(document)
    at = whole
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return whole


def image_of(document: dict[str, Any]) -> Image:
    return Image(
        id=DIGEST, tags=("x:1",), digests=(), created=document.get("created") or "", size=0,
        config=config.image_config(document), layers=config.layers_of(document),
        document=document,
    )  # fmt: skip


def use(image: Image) -> None:
    """Everything that reads an image."""
    for api in ((1, 24), (1, 51)):
        msgspec.json.encode(render_images.summary(image, api=api))
        msgspec.json.encode(render_images.inspect(image, api=api))
    msgspec.json.encode(config.history(image, [5], [image]))
    filter_images.select([image], {"label": ["a"], "reference": ["x"], "until": ["1"]}, 0)
    try:
        prepared = validate_create(CreateRequest(image="x", cmd=["y"]), image.config, "0" * 64)
    except NetkitError as error:
        assert error.status in {400, 501}  # noqa: PT017
    else:  # what is stored of a container can be read at the next start
        msgspec.json.decode(msgspec.json.encode(prepared.config), type=Config)


@pytest.mark.slow
def test_a_configuration_is_good_for_all_or_refused() -> None:
    taken = refused = 0
    for document in mutated(CONFIG):
        try:
            found = config.parse(json.dumps(document).encode())
        except InvalidSpec:
            refused += 1
        else:
            taken += 1
            use(image_of(found))
    assert min(taken, refused) > 200


@pytest.mark.slow
def test_a_configuration_of_too_many_values_is_said_to_be_that() -> None:
    ports = {f"{port}/{proto}": {} for proto in ("tcp", "udp") for port in range(30_000)}
    raw = json.dumps({"rootfs": {"diff_ids": []}, "config": {"ExposedPorts": ports}}).encode()
    with pytest.raises(InvalidSpec) as raised:
        config.parse(raw)
    assert str(raised.value) == "image configuration: more than 100000 values"


def test_what_can_be_read_of_a_bad_configuration_is_good_for_all() -> None:
    for document in mutated(CONFIG):
        use(image_of(config.salvaged(json.dumps(document).encode())))
    for raw in (b"", b"\xff", b"[" * 50_000, b'{"author": "\\ud800"}', b"null", b"5"):
        use(image_of(config.salvaged(raw)))


def test_what_is_good_of_a_bad_configuration_is_kept() -> None:
    bad = {**CONFIG, "created": "yesterday", "author": "\ud800"}
    found = config.salvaged(json.dumps(bad).encode())
    assert found["config"]["Cmd"] == ["c"]
    assert config.layers_of(found) == (DIGEST,)
    assert {"created", "author"}.isdisjoint(found)


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{", b'{"rootfs": {}} {}', b'{"rootfs": {}, "author": "\xff"}',
     b'{"rootfs": {}, "author": "\\ud800"}', b'{"rootfs": {}, "x": NaN}',
     b'{"rootfs": {}, "x": ' + b"[" * 70 + b"]" * 70 + b"}",
     b'{"rootfs": {}, "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
     b'{"rootfs": {}, "x": ' + b"9" * 10_000 + b"}",
     b'{"rootfs": {}, "x": [' + b"0," * 200_000 + b"0]}", b" " * (5 << 20)],
    ids=["empty", "null", "list", "cut", "two", "no UTF-8", "half a surrogate pair", "NaN", "deep",
         "bottomless", "long number", "many", "large"],
)  # fmt: skip
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidSpec):
        config.parse(raw)


class Upload(io.BytesIO):
    def check(self) -> None:
        pass


def docker_archive(manifest: Any) -> bytes:
    return archive({"c.json": {"rootfs": {"type": "layers"}}, "manifest.json": manifest})


def archive(files: dict[str, Any]) -> bytes:
    return b"".join(
        hostile.tar([hostile.entry(name)], json.dumps(value).encode())[: 512 + _padded(value)]
        for name, value in files.items()
    ) + bytes(1024)


def _padded(value: Any) -> int:
    size = len(json.dumps(value).encode())
    return size + -size % 512


MANIFEST = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [], "Parent": ""}]
BLOB = "blobs/sha256/"
INNER = {
    "schemaVersion": 2, "mediaType": "m", "config": {"digest": DIGEST, "size": 2, "mediaType": "m"},
    "layers": [], "annotations": {"a": "b"},
}  # fmt: skip
INDEX = {
    "schemaVersion": 2,
    "manifests": [{
        "mediaType": "m", "digest": DIGEST, "size": 2, "platform": {"os": "linux"},
        "annotations": {"io.containerd.image.name": "x:1",
                        "org.opencontainers.image.ref.name": "1"},
    }],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["manifest.json", "index.json", "manifest"])
def test_an_archive_s_documents_are_taken_or_refused(tmp_path: Path, kind: str) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    base = {"manifest.json": MANIFEST, "index.json": INDEX, "manifest": INNER}[kind]
    for document in mutated(base):
        if kind == "manifest.json":
            data = docker_archive(document)
        elif kind == "index.json":
            data = archive({"index.json": document, BLOB + "ab" * 32: INNER})
        else:
            data = archive({"index.json": INDEX, BLOB + "ab" * 32: document})
        try:
            list(images.load(Upload(data)))
        except NetkitError as error:
            assert error.status == 400  # noqa: PT017
    for image in images.all():
        use(image)


class Leaving(Upload):
    """All has been received, and then the client leaves."""

    def check(self) -> None:
        raise ConnectionResetError("the client left")


def test_a_client_that_leaves_ends_what_is_done_with_its_archive(tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    data = hostile.as_image([hostile.tar([hostile.entry("f")])], "x:1")
    with pytest.raises(ConnectionResetError):
        list(images.load(Leaving(data)))
    with pytest.raises(ConnectionResetError):
        images.import_(Leaving(b""), ImportRequest(repo="x", tag="1"))
    assert images.all() == []
    assert not [
        p for p in (tmp_path / "images").rglob("*") if p.is_file() and p.name != "oci-layout"
    ]


def test_the_last_of_several_files_of_one_name_counts(tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    parts = [
        archive({name: value})[:-1024]
        for name, value in (
            ("c.json", 5), ("c.json", {"rootfs": {}}), ("other", "x"), ("manifest.json", MANIFEST),
        )
    ]  # fmt: skip
    assert list(images.load(Upload(b"".join(parts) + bytes(1024)))) == ["Loaded image: x:1\n"]


def test_a_damaged_image_is_shown_and_can_be_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(tmp_path / "db")
    images = ImageStore(tmp_path / "images", database, lambda _: ())
    assert list(images.load(Upload(docker_archive(MANIFEST)))) == ["Loaded image: x:1\n"]
    image = images.find("x:1")
    for raw in (b"rubbish", None):
        path = images.blobs.path(image.id)
        path.write_bytes(raw) if raw else path.unlink()
        images = ImageStore(tmp_path / "images", database, lambda _: ())
        for _ in range(3):
            (found,) = images.all()
            use(found)
        assert (found.id, found.tags, found.created) == (image.id, ("x:1",), "")
        with pytest.raises(NetkitError):
            images.layers_of(image.id)
        assert len([r for r in caplog.records if "is shown with what can" in r.message]) == 1
        caplog.clear()
    assert {"Deleted": image.id} in images.remove("x:1", force=False, prune=True)
    assert images.all() == []


CHANGES = [
    "VOLUME [", "VOLUME [5]", 'VOLUME ["a", null]', 'LABEL "', "LABEL =", 'LABEL ""', "ENV '",
    "EXPOSE -", "EXPOSE 99999", "EXPOSE 1-", "EXPOSE a/tcp", "HEALTHCHECK --interval=1e9h CMD x",
    "HEALTHCHECK --retries=-1 CMD x", "HEALTHCHECK --interval=" + "9" * 400 + "h CMD x",
    "HEALTHCHECK", "HEALTHCHECK CMD", "CMD [", "CMD []", "ENTRYPOINT", "WORKDIR", "\0", "", " ",
    "USER \ud800", "LABEL a=\udcff", "STOPSIGNAL x", "ONBUILD", "FROM x", "EXPOSE " + "9" * 5000,
    "HEALTHCHECK --retries=" + "9" * 5000 + " CMD x", "CMD " + "[" * 5000, "VOLUME " + "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("line", CHANGES, ids=range(len(CHANGES)))
def test_odd_changes_of_import_are_taken_or_refused(line: str) -> None:
    document = {"rootfs": {"diff_ids": []}}
    try:
        document["config"] = changes.apply({}, [line])
        config.check_writable(document)
    except InvalidSpec:
        return
    use(image_of(document))
