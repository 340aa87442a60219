"""Each call fails, or the disk is full from it on, while volumes are created, filled and removed.

Calls on the database and on the volumes' directories are points.  Afterwards a volume is there with
all of its files or not at all, and a directory without a volume is not.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit.errors import NetkitError
from netkit.store import Database
from runtime.rootfs import mount
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.service import VolumeService
from runtime.volumes.store import VolumeStore
from tests.unit.points import ERRORS, FailingConnection, FailingFiles, Points

FILES = ("a", "d/b", "d/e/c")
CONTAINER = "c"


class Shelf:
    """The volumes of a daemon, one of which is there already: "kept"."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.top, self.image = folder / "volumes", folder / "image"
        for name in FILES:
            (self.image / name).parent.mkdir(parents=True, exist_ok=True)
            (self.image / name).write_text(name)
        self.points = Points()
        self.unfinished = False  # is there a container whose creation failed, and its undoing
        FailingFiles(self.top, self.points, patch)
        patch.setattr(mount, "points", lambda _: [])
        self.database = Database(folder / "db")
        self.database._db = FailingConnection(self.database._db, self.points)  # type: ignore
        folders = VolumeFolders(self.top)
        mounted = MountedVolumes(folders.data, self._users)
        self.volumes = VolumeService(
            VolumeStore(self.database), folders, self, self._users, mounted
        )
        self.volumes.create("kept", options=None, labels=None)
        (folders.data("kept") / "file").write_text("kept")

    @staticmethod
    def _users(_: str) -> list[str]:
        return []

    def emit(self, *_: object) -> None:
        pass

    def untrue(self) -> list[str]:
        """What the directories have in excess of the volumes, or lack."""
        there = set(os.listdir(self.top))
        listed = {v.name for v in self.volumes.all()}
        wrong = [f"no volume: {name}" for name in there - listed]
        wrong += [f"no directory: {name}" for name in listed - there]
        for name in listed & there:
            if left := [e for e in os.listdir(self.top / name) if e != "_data"]:
                wrong.append(f"{name}: {left}")
        return wrong


def create(s: Shelf) -> None:
    s.volumes.create("new", options=None, labels={"a": "b"})


def first_use(s: Shelf) -> None:
    """As the creation of a container uses and fills it; if that fails the volume goes again."""
    s.unfinished = True
    try:
        s.volumes.ensure("new", CONTAINER, unnamed=False, options=None, labels=None)
        source = os.open(s.image, os.O_RDONLY | os.O_DIRECTORY)
        try:
            s.volumes.fill("new", source)
        finally:
            os.close(source)
    except Exception:
        undo(s)
        raise
    s.unfinished = False


def undo(s: Shelf) -> None:
    if s.volumes.made_for("new", CONTAINER):
        s.volumes.remove_unused(["new"], CONTAINER)
    s.unfinished = False


def remove(s: Shelf) -> None:
    s.volumes.remove("kept")


CASES = {"create": create, "first use": first_use, "remove": remove}
RAISED = (NetkitError, OSError, RuntimeError, sqlite3.Error)


@contextmanager
def shelf(folder: Path) -> Iterator[Shelf]:
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        s = Shelf(folder, patch)
        try:
            s.points.begin()
            yield s
        finally:
            s.points.begin()
            s.database.close()


def settled(s: Shelf, name: str) -> list[str]:
    """What is wrong once there is space again, and other volumes have come and gone."""
    s.points.begin()
    if s.unfinished:  # the container stays, dead, and its removal is repeated
        undo(s)
    s.volumes.create("spare", options=None, labels=None)
    s.volumes.remove("spare")
    wrong = s.untrue()
    if name == "first use" and (s.top / "new/_data").exists():
        found = sorted(p.name for p in (s.top / "new/_data").rglob("*") if p.is_file())
        if found != sorted(os.path.basename(f) for f in FILES):
            wrong.append(f"partly filled: {found}")
    if (s.top / "kept").exists() and (s.top / "kept/_data/file").read_text() != "kept":
        wrong.append("the files of another are gone")
    return wrong


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", ["fails", "full"])
def test_no_volume_is_half_there(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    act: Callable[[Shelf], None] = CASES[name]
    with shelf(tmp_path / "whole") as s:
        act(s)
        points = list(s.points.met)
        assert settled(s, name) == []
    wrong, failed = {}, 0
    for at, point in enumerate(points):
        with shelf(tmp_path / str(at)) as s:
            if how == "full":
                s.points.begin(full=at)
            else:
                s.points.begin(fail=(at, ERRORS[at % len(ERRORS)]()))
            try:
                act(s)
            except RAISED:
                failed += 1
            if found := settled(s, name):
                wrong[point] = found
    assert failed, points
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())
