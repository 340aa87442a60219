"""From the mounts in a request to volumes, and back when the container goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NotFound, NotSupported
from netkit.store import Database
from runtime.container import mounts
from runtime.container.config import Config, HostConfig
from runtime.container.model import Container
from runtime.filetree.scoped_root import Root
from runtime.lifecycle import rootfs_mounts
from runtime.lifecycle.staged_mounts import StagedMounts
from runtime.lifecycle.volumes import ContainerVolumes
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.service import VolumeService
from runtime.volumes.store import VolumeStore


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(folder / "db")
        self.containers: list[Container] = []
        self.events: list[tuple[str, str]] = []
        folders = VolumeFolders(folder / "volumes")
        self.volumes = VolumeService(
            VolumeStore(self.database),
            folders,
            self,
            self.users,
            MountedVolumes(folders.data, self.users),
        )
        staged = StagedMounts(SimpleNamespace(), lambda key: folder / "staged" / key)  # type: ignore[arg-type]
        unused: Any = None
        self.of = ContainerVolumes(self.volumes, staged, unused, self, self)

    def users(self, name: str) -> list[str]:
        return [c.id for c in self.containers if any(m.name == name for m in c.mounts)]

    def emit(self, type: str, action: str, id: str, attributes: Any) -> None:
        self.events.append((action, id))

    def find(self, ref: str) -> Any:  # an image
        if ref == "nosuch":
            raise NotFound(f"No such image: {ref}")
        return SimpleNamespace(id="sha256:1")

    def container(self, host: dict[str, Any], *volumes: str, source: str = "") -> Container:
        """Created as far as its volumes go."""
        config = Config(volumes={v: {} for v in volumes} or None)
        asked = msgspec.convert(host, HostConfig)
        inherited = mounts.inherit(asked, lambda ref: self.containers[0]) if source else []
        points = mounts.mount_points(config, asked, inherited)
        c = Container(id=f"{len(self.containers)}" * 64, name="c", created="", image="",
                      config=config, host_config=asked, mounts=points)  # fmt: skip
        self.of.resolve(c)
        self.containers.append(c)
        self.of.create(c)
        return c

    def gone(self, c: Container, **how: bool) -> None:
        self.of.forget(c, **{"anonymous": False, "made": False} | how)
        self.containers.remove(c)

    def names(self) -> list[str]:
        return [v.name for v in self.volumes.all()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


def test_names_drivers_and_sources_are_completed(world: World) -> None:
    labels = {"NoCopy": True, "Labels": {"a": "b"}, "DriverConfig": {"Name": "local"}}
    mount = {"Type": "volume", "Source": "two", "Target": "/two/", "VolumeOptions": labels}
    c = world.container({"Binds": ["one:/one"], "Mounts": [mount]}, "/anon")
    one, two, anon = c.mounts
    assert [m.driver for m in c.mounts] == ["local"] * 3
    assert one.source == str(world.folder / "volumes/one/_data")
    assert two.no_copy
    assert len(anon.name) == 64
    assert world.volumes.find(anon.name).anonymous
    assert world.volumes.find("two").labels == {"a": "b"}
    assert world.volumes.find("one").labels is None


@pytest.mark.parametrize(
    ("host", "error", "words"),
    [
        ({"Binds": ["vol:/v"], "VolumeDriver": "nosuch"}, NotFound, "volume plugin nosuch"),
        ({"Binds": ["a:/v"]}, InvalidSpec, "create a: volume name is too short"),
        ({"Binds": ["a/b:/v"]}, InvalidSpec, "includes invalid characters"),
        ({"Mounts": [{"Type": "volume", "Source": "vv", "Target": "/v", "VolumeOptions": {
            "DriverConfig": {"Options": {"type": "nfs", "device": ":/x"}}}}]},
         NotSupported, "type=nfs is not supported"),
        ({"Mounts": [{"Type": "image", "Source": "nosuch", "Target": "/v"}]}, NotFound,
         "No such image: nosuch"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(
    world: World, host: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        world.container({"Binds": ["first:/f"], **host})
    assert world.names() == []
    assert world.events == []


def test_only_the_last_container_takes_anonymous_volumes_along(world: World) -> None:
    first = world.container({"Binds": ["named:/n"]}, "/anon")
    second = world.container({"VolumesFrom": ["first"]}, "/more", source="first")
    assert len(world.names()) == 3
    world.gone(first, anonymous=True)
    assert len(world.names()) == 3
    world.gone(second, anonymous=True)
    assert world.names() == ["named"]


def test_without_v_anonymous_volumes_stay(world: World) -> None:
    world.gone(world.container({}, "/anon"))
    assert len(world.names()) == 1


def test_a_creation_that_failed_takes_what_it_made_and_nothing_else(world: World) -> None:
    world.volumes.create("there", options=None, labels=None)
    c = world.container({"Binds": ["made:/m", "there:/t", "shared:/s", "asked:/a"]}, "/anon")
    world.container({"Binds": ["shared:/s"]})
    world.volumes.create("asked", options=None, labels=None)  # by a client, meanwhile
    world.gone(c, anonymous=True, made=True)
    assert world.names() == ["asked", "shared", "there"]


def test_a_file_at_the_place_of_a_volume_is_refused(world: World) -> None:
    (world.folder / "image").mkdir()
    (world.folder / "image/file").write_text("x")
    c = world.container({"Binds": ["vol:/file"]})
    line = "^cannot mount volume over existing file, file exists /file$"
    with Root(world.folder / "image") as inside, pytest.raises(InvalidSpec, match=line):
        world.of.fill(c, inside)


def test_events_are_of_runs_not_of_removals(world: World) -> None:
    c = world.container({"Binds": ["vol:/v"]})
    world.of.tell_down(c)
    world.of.tell_up(c)
    world.of.tell_down(c)
    world.of.tell_down(c)
    assert world.events == [("create", "vol"), ("mount", "vol"), ("unmount", "vol")]


def test_a_container_of_an_older_netkit_keeps_its_volume_in_its_own_layer(world: World) -> None:
    """It has `Volumes` and no mounts for them."""
    c = Container(id="old", name="old", created="", image="", config=Config(volumes={"/v": {}}),
                  host_config=HostConfig())  # fmt: skip
    world.of.create(c)
    world.of.up(c)
    top = world.folder / "layer"
    top.mkdir()
    with Root(top) as inside:
        assert rootfs_mounts.lacks(c, inside)
        rootfs_mounts.furnish(c, inside)
        world.of.fill(c, inside)
    world.of.down(c)
    world.of.forget(c, anonymous=True, made=False)
    assert (top / "v").is_dir()
    assert world.names() == world.events == []
