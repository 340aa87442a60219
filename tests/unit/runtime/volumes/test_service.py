"""Volumes are created, found, used and removed; a kill of the daemon leaves nothing half done."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import Conflict, InvalidSpec, NoRoom, NotFound
from netkit.store import Database
from runtime import limits
from runtime.rootfs import mount
from runtime.volumes import folders
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.service import VolumeService
from runtime.volumes.store import VolumeStore
from tests.unit.points import Faulty, Killed, Points


class World:
    """Volumes of a daemon; a second one on the same folder is the next daemon."""

    def __init__(self, folder: Path) -> None:
        self.points = Points()
        self.database = Database(folder / "db")
        self.users: dict[str, list[str]] = {}
        self.events: list[tuple[str, str, dict[str, str]]] = []
        database: Any = Faulty(self.points, "database", self.database)
        self.folders = VolumeFolders(folder / "volumes")
        folders: Any = Faulty(self.points, "folders", self.folders)
        mounted = MountedVolumes(self.folders.data, self._users)
        self.volumes = VolumeService(VolumeStore(database), folders, self, self._users, mounted)
        self.points.begin()

    def _users(self, name: str) -> list[str]:
        return self.users.get(name, [])

    def emit(self, type: str, action: str, id: str, attributes: Any) -> None:
        assert type == "volume"
        self.events.append((action, id, dict(attributes)))

    def create(self, name: str, **more: Any) -> str:
        return self.volumes.create(name, **{"options": None, "labels": None} | more).name

    def names(self) -> list[str]:
        return [v.name for v in self.volumes.all()]


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[], World]]:
    made: list[World] = []

    def make() -> World:
        made.append(World(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.database.close()


def test_a_volume_is_there_from_its_creation_to_its_removal(worlds: Callable[[], World]) -> None:
    world = worlds()
    assert world.create("vol", labels={"a": "b"}) == "vol"
    data = world.volumes.path("vol")
    assert (data.stat().st_mode & 0o7777, data.parent.stat().st_mode & 0o7777) == (0o755, 0o700)
    (data / "file").write_text("kept")
    world.create("vol", labels={"a": "c"})
    assert world.volumes.find("vol").labels == {"a": "b"}
    after = worlds()
    after.volumes.recover()
    assert after.volumes.find("vol").labels == {"a": "b"}
    assert (data / "file").read_text() == "kept"
    after.volumes.remove("vol")
    assert after.names() == os.listdir(data.parents[1]) == []
    assert [e[:2] for e in world.events] == [("create", "vol")]
    assert [e[:2] for e in after.events] == [("destroy", "vol")]


def test_a_volume_without_a_name_gets_one_and_is_anonymous(worlds: Callable[[], World]) -> None:
    world = worlds()
    name = world.create("")
    assert len(name) == 64
    assert world.volumes.find(name).anonymous
    world.create("labelled", labels={"com.docker.volume.anonymous": ""})
    assert world.volumes.find("labelled").anonymous


def test_a_volume_is_found_by_its_whole_name_only(worlds: Callable[[], World]) -> None:
    world = worlds()
    world.create("volume")
    with pytest.raises(NotFound, match=r"^get vol: no such volume$"):
        world.volumes.find("vol")
    with pytest.raises(NotFound, match=r"^get vol: no such volume$"):
        world.volumes.remove("vol")
    world.volumes.remove("vol", force=True)


def test_what_a_container_names_stays(worlds: Callable[[], World]) -> None:
    world = worlds()
    world.create("vol")
    world.users["vol"] = ["c2", "c1"]
    for force in (False, True):
        with pytest.raises(Conflict, match=r"^remove vol: volume is in use - \[c1, c2\]$"):
            world.volumes.remove("vol", force=force)
    world.volumes.remove_unused(["vol", "nosuch"], "c1")
    assert world.names() == ["vol"]
    world.users["vol"] = ["c1"]
    world.volumes.remove_unused(["vol"], "c1")
    assert world.names() == []


def test_prune_takes_what_is_unused_and_asked_for(worlds: Callable[[], World]) -> None:
    world = worlds()
    for name, more in {
        "named": {}, "used": {}, "kept": {"labels": {"keep": "1"}},
        "bound": {"options": {"type": "tmpfs", "device": "t"}},
    }.items():  # fmt: skip
        world.create(name, **more)
    world.users["used"] = ["c"]
    anonymous = world.create("")
    (world.volumes.path(anonymous) / "file").write_bytes(b"12345")
    os.link(world.volumes.path(anonymous) / "file", world.volumes.path(anonymous) / "link")
    assert world.volumes.prune({}, every=False) == ([anonymous], 5)
    assert world.volumes.prune({"label!": ["keep=1"]}, every=True) == (["named"], 0)
    assert world.volumes.prune({"label": ["keep"]}, every=True) == (["kept"], 0)
    assert world.names() == ["bound", "used"]
    assert world.events[-1] == ("prune", "", {"reclaimed": "0"})


def test_labels_of_all_volumes_are_bounded(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    with pytest.raises(InvalidSpec, match="a volume takes"):
        world.create("large", labels={"x": "y" * limits.VOLUME_BYTES})
    monkeypatch.setattr(limits, "VOLUMES_BYTES", 2000)
    world.create("first", labels={"x": "y" * 1000})
    with pytest.raises(NoRoom, match="remove volumes"):
        world.create("second", labels={"x": "y" * 1000})
    assert world.names() == os.listdir(world.volumes.path("first").parents[1]) == ["first"]


def test_a_volume_in_which_something_is_mounted_is_not_removed(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    world.create("vol")
    inside = world.volumes.path("vol") / "by-hand"
    monkeypatch.setattr(mount, "points", lambda below: [inside])
    with pytest.raises(Conflict, match="by-hand is a mount point: unmount it first"):
        world.volumes.remove("vol")
    assert world.names() == ["vol"]
    monkeypatch.undo()
    world.volumes.remove("vol")


def at_every_point(worlds: Callable[[], World], act: Callable[[World], object]) -> Iterator[World]:
    """The daemon after one that was killed at a point of `act`; each has a folder as of before."""
    reached, number = True, 0
    while reached:
        world = worlds()
        world.create("before")
        world.points.begin(cut=number)
        with suppress(Killed):
            act(world)
        reached, number = world.points.killed, number + 1
        world.database.close()
        after = worlds()
        after.volumes.recover()
        yield after
        for name in after.names():
            after.volumes.remove(name)


def test_a_creation_that_was_cut_short_is_there_or_not(worlds: Callable[[], World]) -> None:
    seen = set()
    for after in at_every_point(worlds, lambda world: world.create("new", labels={"a": "b"})):
        folders = sorted(os.listdir(after.volumes.path("new").parents[1]))
        assert folders == after.names()
        seen.add(tuple(folders))
        if "new" in folders:
            assert after.volumes.find("new").labels == {"a": "b"}
    assert seen == {("before",), ("before", "new")}


def test_a_removal_that_was_cut_short_is_completed(worlds: Callable[[], World]) -> None:
    def act(world: World) -> None:
        (world.folders.data("before") / "file").write_text("x")
        world.volumes.remove("before")

    seen = set()
    for after in at_every_point(worlds, act):
        folders = os.listdir(after.volumes.path("x").parents[1])
        assert folders == after.names()
        seen.add(tuple(folders))
        if folders:
            assert (after.volumes.path("before") / "file").exists()
    assert seen == {("before",), ()}


def test_a_power_cut_brings_back_no_volume_whose_files_are_gone(
    worlds: Callable[[], World],
) -> None:
    world = worlds()
    world.create("named")
    assert world.points.met[-1] == "database.flush 1"
    world.volumes.remove("named")
    met = world.points.met
    assert met.index("database.flush 2") < met.index("folders.put_aside 1")


@pytest.mark.parametrize("point", ["folders.put_aside 1", "database.execute 2"])
def test_a_removal_that_fails_once_it_is_marked_is_completed_by_the_next(
    worlds: Callable[[], World], point: str
) -> None:
    """As on a full disk.  A volume of that name has none of its files, whichever comes first."""
    world = worlds()
    top = world.volumes.path("x").parents[1]
    for again in (False, True):
        for name in ("one", "other"):
            world.create(name)
            (world.folders.data(name) / "file").write_text("x")
        world.points.begin(fail=(point, OSError(errno.ENOSPC, "No space left on device")))
        world.volumes.remove("one")
        assert world.points.failed
        assert world.names() == ["other"]
        if again:
            world.create("one")
            assert not os.listdir(world.volumes.path("one"))
            world.volumes.remove("one")
        world.volumes.remove("other")
        assert os.listdir(top) == world.names() == world.volumes._store.all() == []


def test_files_without_a_row_become_a_volume_again(worlds: Callable[[], World]) -> None:
    world = worlds()
    data = world.volumes.path("lost")
    data.mkdir(parents=True)
    (data / "file").write_text("precious")
    world.folders.make("a" * 64)
    (world.volumes.path("a" * 64) / "file").touch()
    world.volumes.recover()
    assert world.names() == ["a" * 64, "lost"]
    assert [v.anonymous for v in world.volumes.all()] == [True, False]


def test_a_directory_that_was_lost_is_made_anew(worlds: Callable[[], World]) -> None:
    world = worlds()
    world.create("vol")
    world.volumes.path("vol").rmdir()
    worlds().volumes.recover()
    assert world.volumes.path("vol").is_dir()


def test_a_row_that_cannot_be_read_keeps_its_name_and_its_files(
    worlds: Callable[[], World],
) -> None:
    world = worlds()
    world.create("newer")
    world.database.execute("UPDATE volume SET doc='{'")
    world.database.close()
    after = worlds()
    after.volumes.recover()
    assert after.names() == []
    assert after.volumes.path("newer").is_dir()
    with pytest.raises(Conflict, match="the row of this volume cannot be read"):
        after.create("newer")
    assert after.database.rows("SELECT doc FROM volume")[0]["doc"] == "{"


def test_the_names_of_a_removed_volume_are_on_the_disk_before_its_row_goes(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves files without a row: a volume again."""
    world, synced = worlds(), []

    def sync(place: Path) -> None:
        row = world.database.rows("SELECT name FROM volume")
        synced.append((os.listdir(place) == ["vol"], len(row)))

    world.create("vol")
    monkeypatch.setattr(folders, "sync_directory", sync)
    world.volumes.remove("vol")
    assert synced == [(False, 1)]
