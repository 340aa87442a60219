"""Base images without a registry: what `netkit image bootstrap` makes."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import pytest

from netkit.lab import images, reading
from tests.engine.daemon import Engine, netkit_only

pytestmark = netkit_only("debootstrap is run by netkit's client")
CLONE = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get(images.CACHE) or CLONE / ".debian")  # of script/debian


@pytest.fixture
def cached() -> list[str]:
    """Flags of the image that labs use: the cache has it, and there is no network here."""
    if not [*CACHE.glob("debian-bookworm-*.tar")]:
        pytest.skip("needs script/debian")
    image = reading.read(CLONE / "labs/04-static-site").image("debian:bookworm")
    return ["--cache", str(CACHE), "--packages", ",".join(image.packages), "debian:bookworm"]


def test_a_debian_has_a_shell_and_installs_packages_without_a_network(
    engine: Engine, cached: list[str]
) -> None:
    """From a cache, without a network: the way of CI."""
    said = engine.netkit("image", "bootstrap", *cached, "-t", "base:1")
    assert said.stdout.startswith("sha256:")
    assert "is taken from" in said.stderr
    facts = engine.inspect("base:1")
    assert facts["Config"]["Cmd"] == ["bash"]
    script = (
        ". /etc/os-release; echo $VERSION_CODENAME; hostname; ls /var/lib/apt/lists;"
        " apt-get -q update && apt-get -qy install procps && ps -o args= -p 1; ls -d /dev/pts"
    )
    out = engine.run("--hostname", "here", "base:1", "bash", "-c", script)
    assert out.startswith("bookworm\nhere\n")
    assert "\nbash -c" in out  # ps
    assert out.endswith("/dev/pts")
    assert "Err:" not in out


def test_nothing_of_this_machine_is_in_it(cached: list[str], engine: Engine) -> None:
    archive = engine.folder / "base.tar"
    engine.netkit("image", "bootstrap", "-q", *cached, "-o", str(archive))
    with tarfile.open(archive) as tar:
        sizes = {m.name: m.size for m in tar if m.isfile()}
        newest = max(m.mtime for m in tar)
        assert all(m.isdir() or m.isfile() or m.issym() or m.islnk() for m in tar)
    archive.unlink()
    assert {sizes[f"./etc/{name}"] for name in ("hostname", "resolv.conf")} == {0}
    assert not {name: size for name, size in sizes.items() if "./var/log/" in name and size}
    assert not [name for name in sizes if name.startswith(("./dev/", "./run/", "./tmp/"))]
    assert newest == int(newest) < time.time()


def test_busybox_comes_from_this_machine(engine: Engine) -> None:
    said = engine.netkit("image", "bootstrap", "busybox", "-t", "bb:1").stdout.strip()
    assert said == engine.inspect("bb:1")["Id"]
    assert engine.run("bb:1", "sh", "-c", "id -un; wget --help 2>&1 | head -n 1").startswith(
        "root\n"
    )


def test_a_suite_that_debootstrap_does_not_know_is_one_line(engine: Engine) -> None:
    done = engine.netkit("image", "bootstrap", "debian:bookwurm", check=False)
    assert done.returncode == 1
    assert done.stderr == "debootstrap here knows no suite 'bookwurm', did you mean 'bookworm'?\n"
