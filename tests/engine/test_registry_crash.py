"""A daemon that is killed, and a disk that is full, in the middle of a pull: nothing is left of it.

NETKIT_TEST_KILLS: how many kills (default 4), at as many moments of a pull.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.registry import manifests
from tests.engine import registry
from tests.engine.daemon import DOCKER, Engine, alone, netkit_only
from tests.engine.registry import Registry
from tests.unit.runtime.registry.scripted import Image, digest

pytestmark = [
    pytest.mark.skipif(bool(registry.lacking()), reason=registry.lacking()),
    netkit_only("it looks into netkit's store"),
]
KILLS = int(os.environ.get("NETKIT_TEST_KILLS", "4"))
NAME = "127.0.0.1:5000/team/large:1"
MEGABYTES = 24


def large() -> bytes:
    """A layer that takes a while, of which compression makes nothing."""
    out, source = io.BytesIO(), random.Random(1)
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(MEGABYTES):
            entry = tarfile.TarInfo(f"file{number}")
            entry.size = 1 << 20
            tar.addfile(entry, io.BytesIO(source.randbytes(entry.size)))
    return out.getvalue()


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Engine, Registry]]:
    with alone() as engine:
        hub = Registry(engine.netns)
        try:
            engine.docker("import", "-", NAME, input=large())
            engine.docker("push", "-q", NAME)
            engine.docker("rmi", NAME)
            yield engine, hub
        finally:
            hub.close()


def blobs(engine: Engine) -> set[str]:
    return {path.name for path in (engine.root / "images" / "blobs" / "sha256").iterdir()}


def layers(engine: Engine) -> set[str]:
    return {p.name for p in (engine.root / "images" / "layers").iterdir() if len(p.name) == 64}


def nothing_half_done(engine: Engine) -> None:
    images = engine.root / "images"
    assert list((images / "incoming").iterdir()) == []
    assert list((images / "layers" / "new").iterdir()) == []
    for path in (images / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_kill_leaves_all_of_the_image_or_nothing(filled: tuple[Engine, Registry]) -> None:
    engine, _ = filled
    before = blobs(engine), layers(engine)
    began = time.monotonic()
    engine.docker("pull", "-q", NAME)
    whole = time.monotonic() - began
    complete = blobs(engine), layers(engine)
    engine.docker("rmi", NAME)
    assert (blobs(engine), layers(engine)) == before
    moments = random.Random(7)
    for _ in range(KILLS):
        with subprocess.Popen(
            [DOCKER, "-H", engine.host, "pull", "-q", NAME], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=engine.cli_environment(),
        ) as client:  # fmt: skip
            time.sleep(moments.uniform(0, whole * 1.1))
            engine.kill9()
            acknowledged = NAME.encode() in client.communicate(timeout=60)[0]
        engine.restart()
        nothing_half_done(engine)
        there = engine.docker("inspect", NAME, check=False).returncode == 0
        assert there or not acknowledged
        assert (blobs(engine), layers(engine)) == (complete if there else before)
        assert engine.run("busybox", "echo", "hi") == "hi"
        if there:
            engine.docker("rmi", NAME)
    engine.docker("pull", "-q", NAME)
    engine.docker("rmi", NAME)


def test_a_client_that_leaves_ends_its_pull(filled: tuple[Engine, Registry]) -> None:
    engine, _ = filled
    before = blobs(engine), layers(engine)
    with subprocess.Popen(
        [DOCKER, "-H", engine.host, "pull", "-q", NAME], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=engine.cli_environment(),
    ) as client:  # fmt: skip
        time.sleep(0.15)
        client.kill()
    deadline = time.monotonic() + 20
    while list((engine.root / "images" / "incoming").iterdir()) or blobs(engine) != before[0]:
        if engine.docker("inspect", NAME, check=False).returncode == 0:
            engine.docker("rmi", NAME)  # it was faster
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (blobs(engine), layers(engine)) == before


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        with alone(prepare=lambda engine: setattr(engine, "root", disk / "r")) as engine:
            hub = Registry(engine.netns)
            try:
                archive = tmp_path / "layer.tar"
                archive.write_bytes(large())
                pushed = hub.skopeo(
                    "copy", "--insecure-policy", "--dest-tls-verify=false",
                    f"oci:{layout(tmp_path, archive)}:x", f"docker://{NAME}",
                )  # fmt: skip
                assert pushed.returncode == 0, pushed.stderr
                before = blobs(engine), layers(engine)
                done = engine.docker("pull", NAME, check=False)
                assert done.returncode == 1
                assert "no space left on device" in done.stderr.lower()
                nothing_half_done(engine)
                assert (blobs(engine), layers(engine)) == before
                assert engine.run("busybox", "echo", "hi") == "hi"
            finally:
                hub.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def layout(folder: Path, archive: Path) -> Path:
    """An OCI layout of one layer."""
    image = Image(tar=archive.read_bytes())
    target = folder / "oci"
    (target / "blobs/sha256").mkdir(parents=True)
    document = image.manifest() | {"mediaType": manifests.OCI_MANIFEST}
    document["config"]["mediaType"] = manifests.OCI_CONFIG
    document["layers"][0]["mediaType"] = f"{manifests.OCI_LAYER}+gzip"
    manifest = json.dumps(document).encode()
    for data in (image.blob, image.raw_config, manifest):
        (target / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (target / "index.json").write_text(json.dumps({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": manifests.OCI_MANIFEST, "digest": digest(manifest),
            "size": len(manifest), "annotations": {"org.opencontainers.image.ref.name": "x"},
        }],
    }))  # fmt: skip
    return target
