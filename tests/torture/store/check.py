"""What must hold of a store after any end of its engine: promises, and nothing orphaned."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker

from tests.engine.daemon import Engine
from tests.torture.store.ledger import Ledger
from tests.torture.store.load import BASE, MARKER

SAMPLE = 24
FOLDERS = ("images/layers", "images/layers/l", "images/layers/new", "images/blobs",
           "images/blobs/sha256", "images/incoming", "snapshots", "volumes", "containers",
           "build", "tmp")  # fmt: skip


class Broken(AssertionError):
    """A promise that was not kept, or something that nobody refers to."""


def check(engine: Engine, promised: Ledger, sample: random.Random) -> int:
    """Check a running engine; how many images and volumes were read.  Broken.

    All promises are compared with the lists; of `SAMPLE` the content is read.
    """
    api = docker.APIClient(base_url=engine.host, version="1.41", timeout=60)
    try:
        names = {
            tag.removesuffix(":latest"): entry["Id"]
            for entry in api.images()
            for tag in entry.get("RepoTags") or ()
        }
        volumes = {v["Name"] for v in api.volumes()["Volumes"] or ()}
        _compare("image", promised.images, set(names))
        _compare("volume", promised.volumes, volumes)
        # Also those that were never acknowledged: all or nothing.  The latest are likeliest broken.
        images = _chosen([n for n in names if n.rpartition("/")[2].startswith("w")], sample)
        for name in images:
            _same(f"image {name}", _image_marker(api, name), promised.images.get(name))
        read = _chosen([v for v in volumes if v in promised.volumes], sample)
        for name in read:
            _same(f"volume {name}", _volume_marker(api, name), promised.volumes[name])
        _complete(api, {name: names[name] for name in images})
        return len(images) + len(read)
    finally:
        api.close()


def _compare(what: str, promised: Mapping[str, str | None], have: Collection[str]) -> None:
    for name, text in promised.items():
        if text is None and name in have:
            raise Broken(f"{what} {name} was removed, and is there")
        if text is not None and name not in have:
            raise Broken(f"{what} {name} was acknowledged, and is gone")


def _chosen(names: Sequence[str], sample: random.Random) -> list[str]:
    latest, others = names[: SAMPLE // 2], names[SAMPLE // 2 :]
    return [*latest, *sample.sample(others, min(len(others), SAMPLE // 2))]


def _same(what: str, found: str, promised: str | None) -> None:
    if promised is not None and found != promised:
        raise Broken(f"{what}: the marker says {found!r}, not {promised!r}")


def _image_marker(api: docker.APIClient, name: str) -> str:
    with _container(api, name) as id:
        return _read(api, id, f"/{MARKER}")


def _volume_marker(api: docker.APIClient, name: str) -> str:
    with _container(api, BASE, [f"{name}:/kept"]) as id:
        return _read(api, id, f"/kept/{MARKER}")


@contextmanager
def _container(api: docker.APIClient, image: str, binds: list[str] | None = None) -> Iterator[str]:
    options = api.create_host_config(binds=binds or [], network_mode="none")
    id = api.create_container(image, ["true"], host_config=options)["Id"]
    try:
        yield id
    finally:
        api.remove_container(id, force=True, v=True)


def _read(api: docker.APIClient, id: str, path: str) -> str:
    stream, _ = api.get_archive(id, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        file = tar.extractfile(MARKER)
        assert file is not None
        return file.read().decode()


def _complete(api: docker.APIClient, names: Mapping[str, str]) -> None:
    """Read every byte of every image, as `save` does: the archive's own digests must hold."""
    if not names:
        return
    answer = api._get(api._url("/images/get"), params={"names": list(names.values())}, stream=True)
    answer.raise_for_status()
    data = answer.content
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {m.name for m in tar.getmembers()}
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        for entry in json.load(manifest):
            if missing := {entry["Config"], *(entry["Layers"] or ())} - found:
                raise Broken(f"{entry['RepoTags']}: {missing} not in the archive")


def orphans(engine: Engine) -> list[str]:
    """What is in the folders of a store whose images, containers and volumes were all removed."""
    spare = {"images/layers/l", "images/layers/new", "images/blobs/sha256", "snapshots/empty"}
    left = [
        str(p.relative_to(engine.root))
        for folder in FOLDERS
        for p in _listed(engine.root / folder)
    ]
    return sorted(set(left) - spare)


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
