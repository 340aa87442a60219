"""Each call fails, or the daemon is killed at it, while images are added, tagged and removed.

Calls on the database and on files of the store are points, and each fails, or is the one at which
the daemon is killed, in a run of its own.  Afterwards the images are those from before or after
the command, the store holds what they need and nothing else, no file that was on its way is left,
and the same command works again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from netkit.store import Database
from runtime.filetree.remove import remove_tree
from runtime.images import child
from runtime.images.importing import ImportRequest
from runtime.images.reference import parse
from runtime.images.store import ImageStore
from tests import hostile
from tests.unit.points import ERRORS, FailingConnection, FailingFiles, Killed, Points
from tests.unit.runtime.images.test_documents import Upload

TREE = hostile.tar([hostile.entry("d", hostile.DIR), hostile.entry("d/f"), hostile.entry(".wh.x")])
ONE = hostile.as_image([TREE, hostile.tar([hostile.entry("g")], b"1")], "one:1")
TWO = hostile.as_image([TREE, hostile.tar([hostile.entry("g")], b"2")], "two:1")
SPARE = hostile.as_image([], "spare:1")
FALLS_BACK = (
    "os.utime",
    "os.open",
)  # Path.touch, TemporaryFile: by another way


class Shelf:
    """A store of images whose daemon may be killed and start again."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder, self.points = folder, Points()
        FailingFiles(folder / "images", self.points, patch)
        self.database = Database(folder / "db")
        self.again()

    def again(self) -> None:
        self.points.begin()
        self.database.close()
        self.database = Database(self.folder / "db")
        self.database._db = FailingConnection(self.database._db, self.points)  # type: ignore
        self.images = ImageStore(self.folder / "images", self.database, lambda _: ())

    def state(self) -> tuple[object, ...]:
        """Return images with names; all that are listed must be readable."""
        return tuple(sorted((i.layers, i.tags, i.size) for i in self.images.all()))

    def untrue(self) -> list[str]:
        """List what the store has in excess of its images' needs, or lacks."""
        images, root = self.images, self.folder / "images"
        layers, blobs = set(), set()
        for image in images.all():
            layers |= set(image.layers)
            manifest, listed = images.manifest(image.id)
            blobs |= {image.id, manifest, *(entry["digest"] for entry in listed["layers"])}
        links = {p.name for p in images.layers.short.iterdir() if p.exists()}
        dead = [p.name for p in images.layers.short.iterdir() if not p.exists()]
        there = {
            "layers": (images.layers.all(), layers),
            "blobs": (images.blobs.all(), blobs),
            "links": (links, {d.removeprefix("sha256:")[:24] for d in layers}),
        }
        wrong = [f"{k}: {len(a - b)} too many, {len(b - a)} missing" for k, (a, b) in there.items()
                 if a != b]  # fmt: skip
        wrong += [f"layer {d[:20]} is not whole" for d in layers if not images.layers.has(d)]
        left = [p for place in ("incoming", "layers/new") for p in (root / place).iterdir()]
        return wrong + [f"left: {p.parent.name}" for p in left] + [f"dead link {d}" for d in dead]


Act = Callable[[Shelf], object]


def load(data: bytes) -> Act:
    return lambda s: list(s.images.load(Upload(data)))


def import_(s: Shelf) -> None:
    wanted = ImportRequest(repo="three", tag="1", changes=["CMD x"])
    s.images.import_(Upload(TREE), wanted)


def remove(ref: str) -> Act:
    return lambda s: s.images.remove(ref, force=True, prune=True)


def tag(s: Shelf) -> None:
    s.images.tag("one:1", "more", "2")


def tag_over(s: Shelf) -> None:
    s.images.tag("two:1", "one", "1")


def by_id(s: Shelf) -> None:
    """Remove an image with two names by its id."""
    s.images.remove(s.images.find("one:1").id, force=True, prune=True)


def prune(s: Shelf) -> None:
    s.images.prune({})


def made(s: Shelf, how: str) -> None:
    """An image made of "one:1": a commit copies the files of a container, a build moves them."""
    upper = s.folder / "upper"
    remove_tree(upper)
    upper.mkdir()
    (upper / "new").write_text("12345")
    os.utime(upper / "new", (1, 1))
    parent = s.images.find("one:1")
    with s.images.holding():
        layer = s.images.adopt(upper) if how == "adopt" else s.images.capture(upper)
        assert layer is not None
        document = child.document(
            parent.document, config={}, diff_id=layer.diff_id, created="", created_by="x"
        )
        s.images.add_child(document, parent.id, layer, [parse("child:1")])


def unnamed(s: Shelf) -> None:
    """A step that has no name, below one that has."""
    made(s, "adopt")
    parent = s.images.find("child:1")
    with s.images.holding():
        document = child.document(
            parent.document, config={}, diff_id="", created="", created_by="y"
        )
        s.images.add_child(document, parent.id, None, [parse("child:1")])


@dataclass(frozen=True)
class Case:
    before: tuple[Act, ...]
    act: Act
    partly: bool = False  # of many images, some may have been removed


CASES = {
    "load": Case((load(ONE),), load(TWO)),
    "import": Case((load(ONE),), import_),
    "commit": Case((load(ONE),), partial(made, how="capture")),
    "step": Case((load(ONE),), partial(made, how="adopt")),
    "rmi with parents": Case((load(ONE), unnamed), remove("child:1")),
    "tag": Case((load(ONE),), tag),
    "rmi": Case((load(ONE), load(TWO)), remove("two:1")),
    "rmi by id": Case((load(ONE), tag, load(TWO)), by_id),
    "prune": Case((load(ONE), load(TWO), tag_over), prune),
}


@contextmanager
def shelf(folder: Path, case: Case) -> Iterator[Shelf]:
    with pytest.MonkeyPatch.context() as patch:
        s = Shelf(folder, patch)
        for act in case.before:
            act(s)
        try:
            yield s
        finally:
            s.points.begin()
            s.database.close()


def outcome(s: Shelf, case: Case, before: object) -> list[str]:
    now, wrong = s.state(), s.untrue()
    try:
        if now == before:
            case.act(s)
            wrong += [f"again: {text}" for text in s.untrue()]
    except Exception as error:
        wrong.append(f"the same again: {error!r}")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_whatever_call_fails_no_image_is_half_there(
    memory: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case, wrong = CASES[name], {}
    with shelf(memory / "after", case) as s:
        before = s.state()
        s.points.begin()
        case.act(s)
        points = list(s.points.met)
        after = s.state()
        assert before != after
        assert s.untrue() == []
    for at, point in enumerate(points):
        error, found = ERRORS[at % len(ERRORS)](), []
        with shelf(memory / str(at), case) as s:
            caplog.clear()
            s.points.begin(fail=(at, error))
            try:
                case.act(s)
            except Exception as bad:
                if getattr(bad, "status", 500) != 500 or "\n" in str(bad):
                    found.append(f"raised {bad!r}")
            else:
                done = point.startswith("open") and s.state() == after  # TemporaryFile's, too
                if not caplog.records and not done and not point.startswith(FALLS_BACK):
                    found.append("silence")
            s.points.begin()
            if s.state() not in {before, after}:
                found.append("half done")
            load(SPARE)(s)  # what could not be removed is removed by the next command
            remove("spare:1")(s)
            found += outcome(s, case, before)
        if found:
            wrong[f"{point} {type(error).__name__}"] = found
    print(f"{name}: {len(points)} points, {len(wrong)} wrong")
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_call_the_next_daemon_finds_whole_images(memory: Path, name: str) -> None:
    case, wrong = CASES[name], {}
    with shelf(memory / "after", case) as s:
        before = s.state()
        s.points.begin()
        case.act(s)
        points, after = list(s.points.met), s.state()
    for at, point in enumerate(points):
        with shelf(memory / str(at), case) as s:
            s.points.begin(cut=at)
            with suppress(Killed):
                case.act(s)
            s.again()
            found = [] if s.state() in {before, after} else ["half done"]
            found += outcome(s, case, before)
        if found:
            wrong[point] = found
    print(f"{name}, killed: {len(points)} points, {len(wrong)} wrong")
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_on_a_disk_that_is_full_from_any_call_on_no_image_is_half_there(
    memory: Path, name: str
) -> None:
    """Undoing takes no space, or is done by the next command."""
    case, wrong, failed = CASES[name], {}, 0
    with shelf(memory / "after", case) as s:
        before = s.state()
        s.points.begin()
        case.act(s)
        points, after = list(s.points.met), s.state()
    for at, point in enumerate(points):
        with shelf(memory / str(at), case) as s:
            s.points.begin(full=at)
            found = []
            try:
                case.act(s)
            except Exception as bad:
                if getattr(bad, "status", 500) != 500 or "\n" in str(bad):
                    found.append(f"raised {bad!r}")
            failed += s.points.failed
            s.points.begin()
            if s.state() not in {before, after}:
                found.append("half done")
            load(SPARE)(s)
            remove("spare:1")(s)
            found += outcome(s, case, before)
        if found:
            wrong[point] = found
    assert failed, points
    print(f"{name}, full: {len(points)} points, {len(wrong)} wrong")
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())
