"""What is read or used stays, though it is removed meanwhile."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.daemon import Engine, fresh, netkit_only
from tests.engine.image import rootfs
from tests.engine.test_build import Connection, building, containers, read_until, until
from tests.engine.test_images import small

BIG = os.urandom(1 << 20) * 24  # more than what is read ahead anywhere


@pytest.fixture
def big(engine: Engine) -> str:
    name = fresh("big")
    engine.out("import", "-", name, input=small(("big", BIG)))
    return name


def whole(begin: bytes, rest: Iterator[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(begin + b"".join(rest)))


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def layers(engine: Engine) -> int:
    return sum(len(p.name) == 64 for p in (engine.root / "images/layers").iterdir())


@netkit_only("its store is looked at")
@pytest.mark.parametrize("layout", ["docker", "oci"])
def test_an_image_removed_while_it_is_saved_is_saved_whole(
    engine: Engine, big: str, layout: str
) -> None:
    api = engine.client.api
    reply = api.get(api._url("/images/{0}/get", big), params={"format": layout}, stream=True)
    stream = reply.iter_content(1 << 16)
    begin, before = next(stream), layers(engine)
    engine.docker("rmi", "-f", big)
    assert layers(engine) == before
    with whole(begin, stream) as archive:
        manifest: Any = json.loads(content(archive, "manifest.json"))
        layer = content(archive, manifest[0]["Layers"][0])
        config = json.loads(content(archive, manifest[0]["Config"]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert layers(engine) == before - 1


@netkit_only("its store is looked at")
def test_a_client_that_leaves_a_save_leaves_nothing(engine: Engine, big: str) -> None:
    connection = Connection(engine.host)
    connection.request("GET", f"/images/{big}/get")
    connection.getresponse().read(1 << 16)
    engine.docker("rmi", "-f", big)
    before = layers(engine)
    connection.close()
    until(lambda: layers(engine) == before - 1)


@netkit_only("dockerd's build fails")
def test_a_build_goes_on_beside_prunes(engine: Engine) -> None:
    lines = ["FROM busybox AS a", "ENV x=1", "RUN echo a >/a", "FROM busybox", "COPY --from=a /a /"]
    with building(engine, *lines, "RUN echo begun; sleep 2; cat /a", "RUN cat /a") as reply:
        read_until(reply, "begun")
        used = json.loads(engine.out("inspect", containers(engine)[0]["Id"]))[0]["Image"]
        engine.docker("system", "prune", "-af")
        done = engine.docker("rmi", "-f", used, check=False)
        assert "cannot be forced" in done.stderr
        assert "busybox:latest" in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}")
        assert "Successfully built" in reply.read().decode()
    engine.docker("image", "prune", "-f")


@netkit_only("dockerd's cp keeps the container from being removed")
@pytest.mark.parametrize("running", [False, True], ids=["ended", "running"])
@pytest.mark.parametrize("way", ["export", "cp"])
def test_a_container_removed_while_it_is_read_is_read_whole(
    engine: Engine, way: str, running: bool
) -> None:
    name, image, api = fresh("c"), fresh("big"), engine.client.api
    raw = io.BytesIO(rootfs())
    with tarfile.open(fileobj=raw, mode="a") as tar:
        for file in ("d/a", "d/b"):
            entry = tarfile.TarInfo(file)
            entry.size = len(BIG)
            tar.addfile(entry, io.BytesIO(BIG))
    engine.docker("import", "-", image, input=raw.getvalue())
    after = "sleep 1000" if running else "true"
    engine.up(image, "/bin/sh", "-c", f"cat /d/a >/d/c; echo x; {after}", name=name)
    until(lambda: engine.docker("logs", name).stdout == "x\n")
    if not running:
        engine.docker("wait", name)
    kept = layers(engine)
    if way == "export":
        stream = api.export(name, 1 << 16)
    else:
        stream = api.get_archive(name, "/d", 1 << 16)[0]
    begin = next(stream)
    engine.docker("rm", "-f", name)
    engine.docker("rmi", "-f", image)
    assert layers(engine) == kept
    with whole(begin, stream) as archive:
        names = [n for n in archive.getnames() if n.rpartition("/")[2] in {"a", "b", "c"}]
        assert len(names) == 3
        assert all(content(archive, n) == BIG for n in names)
    until(lambda: layers(engine) == kept - 1)
    assert not list(engine.root.glob("*/*/diff/d/c"))
