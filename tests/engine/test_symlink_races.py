"""A container that swaps its directories for links never makes the engine touch the host.

What a container has below /work is a directory `box` with a file, and a link to a directory of the
host with a file of that name; both change places all the time.  Whatever the engine does with
/work/box meanwhile, it reads and writes the container's file or fails.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.engine.daemon import Engine, netkit_only
from tests.engine.swapping import swapping

ROUNDS = int(os.environ.get("NETKIT_TEST_RACES", "150"))
SECRET, INSIDE = "the host's own", "the container's"

pytestmark = netkit_only("dockerd stops the container's processes for some of these")


class Prey:
    """A running container whose directory is swapped, and the host's directory."""

    def __init__(self, engine: Engine, host: Path) -> None:
        self.engine, self.host = engine, host
        self.name = engine.sleeper()
        self.api = engine.client.api
        self.work = Path(f"/proc/{engine.state(self.name)['Pid']}/root/work")
        self.work.mkdir()
        (self.work / "box").mkdir()
        (self.work / "box" / "file").write_text(INSIDE)
        (self.work / "other").symlink_to(host)

    def untouched(self) -> bool:
        there = sorted(p.name for p in self.host.iterdir())
        return there == ["file"] and (self.host / "file").read_text() == SECRET


@pytest.fixture
def prey(engine: Engine, tmp_path: Path) -> Iterator[Prey]:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text(SECRET)
    found = Prey(engine, host)
    with swapping(found.work, "box", "other"):
        yield found
    assert found.untouched()


def _race(prey: Prey, act: Callable[[], bytes]) -> int:
    """Repeat; how often it worked.  What it returns never has the secret."""
    worked = 0
    for _ in range(ROUNDS):
        try:
            seen = act()
        except docker.errors.APIError as error:
            if error.status_code >= 500:
                raise
            continue
        assert SECRET.encode() not in seen
        worked += 1
    assert prey.untouched()
    assert prey.engine.running()
    return worked


def test_a_copy_out_reads_the_containers_file_or_fails(prey: Prey) -> None:
    assert _race(prey, lambda: b"".join(prey.api.get_archive(prey.name, "/work/box/file")[0]))


def test_a_directory_that_is_copied_out_holds_nothing_of_the_host(prey: Prey) -> None:
    assert _race(prey, lambda: b"".join(prey.api.get_archive(prey.name, "/work/box/.")[0]))


def test_a_stat_shows_nothing_of_the_host(prey: Prey) -> None:
    def stat() -> bytes:
        answer = prey.api.head(
            prey.api._url("/containers/{0}/archive", prey.name), params={"path": "/work/box/file"}
        )
        prey.api._raise_for_status(answer)
        return answer.headers["X-Docker-Container-Path-Stat"].encode()

    assert _race(prey, stat)


def test_a_copy_in_writes_to_the_container_or_fails(prey: Prey) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("planted")
        tar.addfile(info, io.BytesIO())

    def put() -> bytes:
        prey.api.put_archive(prey.name, "/work/box", out.getvalue())
        return b""

    assert _race(prey, put)


def test_an_export_holds_nothing_of_the_host(prey: Prey) -> None:
    def export() -> bytes:
        data = b"".join(prey.api.export(prey.name))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = [m for m in tar.getmembers() if m.isreg() and m.name.endswith("/file")]
            return b"".join(tar.extractfile(m).read() for m in files)  # type: ignore[union-attr]

    few = max(5, ROUNDS // 30)
    for _ in range(few):
        assert SECRET.encode() not in export()


def test_a_diff_and_sizes_go_on_while_directories_are_swapped(prey: Prey) -> None:
    def look() -> bytes:
        prey.api._result(
            prey.api.get(prey.api._url("/containers/{0}/json", prey.name), params={"size": 1})
        )
        return str(prey.api.diff(prey.name)).encode()

    assert _race(prey, look) == ROUNDS


def test_a_commit_without_a_pause_has_nothing_of_the_host(prey: Prey) -> None:
    few = max(5, ROUNDS // 15)
    for _ in range(few):
        made = prey.api._post(
            prey.api._url("/commit"), params={"container": prey.name, "pause": "0"}
        ).json()["Id"]
        assert SECRET.encode() not in b"".join(prey.api.get_image(made))
        prey.api.remove_image(made)
    assert prey.untouched()
