"""Containers that swap a volume's directories for links never make the engine touch the host.

As tests/engine/test_symlink_races.py, in a volume: seen from a container that runs, from one that
does not, and by a mount of a part of the volume.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest

from tests.engine.daemon import Engine, fresh, netkit_only
from tests.engine.swapping import swapping

ROUNDS = int(os.environ.get("NETKIT_TEST_RACES", "150"))
SECRET, INSIDE = "the host's own", "the volume's"

pytestmark = netkit_only("dockerd stops the container's processes for some of these")


class Prey:
    """A volume whose directory `box` changes places with a link to the host's, and a container."""

    def __init__(self, engine: Engine, host: Path, *, alive: bool) -> None:
        self.engine, self.host = engine, host
        self.api = engine.client.api
        self.name = fresh("c")
        engine.out("create", "--name", self.name, "--stop-timeout=1", "-v", "prey:/work",
                   "busybox", "sleep", "100000")  # fmt: skip
        if alive:
            engine.docker("start", self.name)
        self.work = Path(engine.out("volume", "inspect", "-f", "{{.Mountpoint}}", "prey"))
        (self.work / "box").mkdir()
        (self.work / "box" / "file").write_text(INSIDE)
        (self.work / "other").symlink_to(host)

    def untouched(self) -> bool:
        there = sorted(p.name for p in self.host.iterdir())
        return there == ["file"] and (self.host / "file").read_text() == SECRET

    def race(self, act: Callable[[], bytes], rounds: int = ROUNDS) -> int:
        """Repeat; how often it worked.  What it returns never has the secret."""
        worked = 0
        for _ in range(rounds):
            with suppress(docker.errors.APIError):
                assert SECRET.encode() not in act()
                worked += 1
        assert self.untouched()
        assert self.engine.running()
        return worked


@contextmanager
def hunted(engine: Engine, host: Path, *, alive: bool) -> Iterator[Prey]:
    host.mkdir()
    (host / "file").write_text(SECRET)
    found = Prey(engine, host, alive=alive)
    with swapping(found.work, "box", "other"):
        yield found
    assert found.untouched()


@pytest.mark.parametrize("alive", [True, False])
def test_copies_out_of_and_into_a_volume_stay_in_it(
    engine: Engine, tmp_path: Path, alive: bool
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("planted"), io.BytesIO())

    with hunted(engine, tmp_path / "host", alive=alive) as prey:

        def read() -> bytes:
            return b"".join(prey.api.get_archive(prey.name, "/work/box/file")[0])

        def folder() -> bytes:
            return b"".join(prey.api.get_archive(prey.name, "/work/box/.")[0])

        def write() -> bytes:
            prey.api.put_archive(prey.name, "/work/box", out.getvalue())
            return b""

        for act in (read, folder, write):
            assert prey.race(act)


def test_a_part_of_a_volume_is_never_the_hosts(engine: Engine, tmp_path: Path) -> None:
    with hunted(engine, tmp_path / "host", alive=True) as prey:

        def started() -> bytes:
            name = fresh("c")
            mount = {"Type": "volume", "Source": "prey", "Target": "/part",
                     "VolumeOptions": {"Subpath": "box"}}  # fmt: skip
            body = {"Image": "busybox", "Cmd": ["cat", "/part/file"],
                    "HostConfig": {"Mounts": [mount]}}  # fmt: skip
            answer = prey.api._post_json(
                prey.api._url("/containers/create"), data=body, params={"name": name}
            )
            prey.api._raise_for_status(answer)
            try:
                prey.api.start(name)
                prey.api.wait(name)
                return prey.api.logs(name)
            finally:
                prey.api.remove_container(name, force=True)

        assert prey.race(started, max(5, ROUNDS // 15))


def test_a_volume_with_links_to_the_host_is_removed_alone(engine: Engine, tmp_path: Path) -> None:
    with hunted(engine, tmp_path / "host", alive=False) as prey:
        size = prey.api.df()["Volumes"][0]["UsageData"]["Size"]
        # each name is the directory, the link or neither at its turn; never the host's file
        own, link = len(INSIDE), len(str(prey.host))
        assert size in {a * own + b * link for a in range(3) for b in range(3)}
    engine.docker("rm", prey.name)
    engine.docker("volume", "rm", "prey")
    assert prey.untouched()
