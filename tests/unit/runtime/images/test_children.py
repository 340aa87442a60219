"""Images made from others: parents, what removal takes with it, and the rules of dockerd."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.store import Database
from runtime import limits
from runtime.images import child
from runtime.images.chains import chain_ids
from runtime.images.layers import StoredLayer
from runtime.images.reference import parse
from runtime.images.removal import ImageUser
from runtime.images.store import ImageStore
from runtime.images.tags import _TABLES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and overlayfs")


class Shelf:
    """A store, and containers that use its images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.users = folder, list[tuple[str, ImageUser]]()
        self.database = Database(folder / "db")
        self.images = ImageStore(
            folder / "images", self.database, lambda id: [u for i, u in self.users if i == id]
        )

    def step(self, parent: str, name: str = "", file: str = "", value: str = "x") -> str:
        """An image that adds a file, or only a setting, to another."""
        images, layer = self.images, None
        with images.holding():
            if file:
                upper = self.folder / f"upper-{file}"
                upper.mkdir()
                (upper / file).write_text(value)
                os.utime(upper / file, (1, 1))
                layer = images.adopt(upper)
            below = images.find(parent).document if parent else {"architecture": "amd64"}
            made = child.document(
                below, config={"Env": [f"step={value}"]}, diff_id=layer.diff_id if layer else "",
                created="2024-02-29T10:00:00Z", created_by=f"{file}{value}",
            )  # fmt: skip
            return images.add_child(made, parent, layer, [parse(name)] if name else [])

    def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[str]:
        lines = self.images.remove(ref, force=force, prune=prune)
        return [f"{word}: {what}" for line in lines for word, what in line.items()]

    def chains(self, id: str) -> tuple[str, ...]:
        return chain_ids(self.images.layers_of(id))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_child_knows_its_parent_and_has_its_layers(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    one = shelf.step(base, "one:1", "g")
    two = shelf.step(one, "", value="2")
    images = shelf.images
    assert [images.parent(i) for i in (base, one, two)] == ["", base, one]
    assert images.children(base) == [one]
    assert images.find(two).parent == one
    assert images.layers_of(one)[:-1] == images.layers_of(base)
    assert images.layers_of(two) == images.layers_of(one)
    again = ImageStore(shelf.folder / "images", shelf.database, lambda _: ())
    assert again.parent(two) == one


def test_an_older_database_keeps_its_images(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate("images", _TABLES[:2])
    database.execute("INSERT INTO image VALUES ('sha256:ab', 'sha256:cd', '', '')")
    images = ImageStore(tmp_path / "images", database, lambda _: ())
    assert images.parent("sha256:ab") == ""
    assert images.children("sha256:ab") == []


def test_the_last_child_takes_untagged_parents_and_their_layers_with_it(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    middle = shelf.step(base, "", "g")
    top = shelf.step(middle, "top:1", value="2")
    chain = shelf.chains(middle)[-1]
    assert shelf.remove("top:1") == [
        "Untagged: top:1", f"Deleted: {top}", f"Deleted: {middle}", f"Deleted: {chain}",
    ]  # fmt: skip
    assert [i.id for i in shelf.images.all()] == [base]
    assert shelf.images.layers.all() == set(shelf.images.layers_of(base))


def test_noprune_leaves_the_parents(shelf: Shelf) -> None:
    middle = shelf.step(shelf.step("", "base", "f"), "", "g")
    shelf.step(middle, "top:1", value="2")
    shelf.remove("top:1", prune=False)
    assert shelf.images.find(middle).id == middle


def test_an_image_with_children_only_loses_its_name(shelf: Shelf) -> None:
    parent = shelf.step(shelf.step("", "base", "f"), "parent:1", "g")
    shelf.step(parent, "child:1", "h")
    assert shelf.remove("parent:1") == ["Untagged: parent:1"]
    for force in (False, True):
        with pytest.raises(Conflict, match=r"cannot be forced\) - image has dependent child"):
            shelf.remove(parent, force=force)
    assert len(shelf.remove("child:1")) == 5  # both images, with a layer each


def test_an_image_of_a_stopped_container_goes_by_force_and_its_layers_stay(shelf: Shelf) -> None:
    image = shelf.step(shelf.step("", "base", "f"), "one:1", "g")
    shelf.users.append((image, ImageUser("c" * 64, "c", alive=False)))
    with pytest.raises(Conflict, match=f'"one:1" .must force. - container {"c" * 12} is using'):
        shelf.remove("one:1")
    with pytest.raises(Conflict, match=r"must be forced\) - image is being used by stopped"):
        shelf.remove(image)
    assert shelf.remove("one:1", force=True) == ["Untagged: one:1", f"Deleted: {image}"]
    for ref in (image, image[7:19]):
        with pytest.raises(NotFound):
            shelf.images.find(ref)
    assert [i.tags for i in shelf.images.all()] == [("base:latest",)]
    assert all(map(shelf.images.layers.has, shelf.images.layers_of(image)))
    shelf.users.clear()
    again = ImageStore(shelf.folder / "images", shelf.database, lambda _: ())
    assert len(again.layers.all()) == 1


def test_an_image_of_a_running_container_stays(shelf: Shelf) -> None:
    image = shelf.step("", "one:1", "f")
    shelf.users.append((image, ImageUser("c" * 64, "c", alive=True)))
    assert shelf.remove("one:1", force=True) == ["Untagged: one:1"]
    with pytest.raises(Conflict, match=r"cannot be forced\) - image is being used by running"):
        shelf.remove(image, force=True)
    assert shelf.images.find(image).tags == ()


def test_several_names_are_removed_by_id_with_force_only(shelf: Shelf) -> None:
    image = shelf.step("", "one:1", "f")
    shelf.images.tag("one:1", "two", "2")
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        shelf.remove(image)
    found = shelf.remove(image[7:19], force=True)
    assert found[:3] == ["Untagged: one:1", "Untagged: two:2", f"Deleted: {image}"]


def test_prune_takes_what_has_no_name_with_its_parents(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    left = shelf.step(shelf.step(base, "", "g"), "", value="2")
    pruned = shelf.images.prune({})
    assert {"Deleted": left} in pruned.removed
    assert pruned.freed == 1
    assert [i.id for i in shelf.images.all()] == [base]
    assert shelf.images.prune({"dangling": ["false"]}).freed == 1


def test_a_layer_is_there_once(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    one, two = (shelf.step(base, n, "g") for n in ("one", "two"))
    assert one == two  # all of it is the same
    assert len(shelf.images.layers.all()) == 2


def test_no_image_has_more_layers_than_are_possible(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_LAYERS", 2)
    full = shelf.step(shelf.step("", "base", "f"), "full", "g")
    for file in ("h", ""):
        with pytest.raises(InvalidSpec, match=r"^max depth exceeded$"):
            shelf.step(full, "", file)


def test_nothing_is_swept_while_something_is_added(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    upper = shelf.folder / "upper"
    upper.mkdir()
    (upper / "new").write_text("1234")
    with shelf.images.holding():
        layer = shelf.images.adopt(upper)
        assert layer == StoredLayer(layer.diff_id, layer.diff_id, 4) if layer else False
        shelf.images.remove(base, force=False, prune=True)
        assert shelf.images.layers.has(layer.diff_id) if layer else False
    assert shelf.images.layers.all() == set()


def test_what_happens_to_images_is_told(shelf: Shelf) -> None:
    told: list[tuple[str, str, str]] = []
    shelf.images.events.emit = lambda action, id, attributes: told.append(
        (action, id, attributes.get("name") or attributes["reclaimed"])
    )
    parent = shelf.step(shelf.step("", "base", "f"), "", "g")
    top = shelf.step(parent, "top:1", value="2")
    shelf.images.tag("top:1", "other", "2")
    list(shelf.images.save(["top:1"]))
    shelf.remove("other:2")
    shelf.remove(top)
    shelf.images.prune({})
    assert told == [
        ("tag", top, "other:2"), ("save", top, top), ("untag", top, top), ("untag", top, top),
        ("delete", top, top), ("delete", parent, parent), ("prune", "", "0"),
    ]  # fmt: skip


@pytest.mark.slow
def test_steps_of_a_build_share_the_history_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    monkeypatch.setattr(limits, "IMAGES_BYTES", 1 << 20)  # of N * N steps of history it is 10 MiB
    below: dict[str, Any] = {"architecture": "amd64", "os": "linux"}
    parent = ""
    for n in range(150):
        below = child.document(
            below, config={"Env": ["a=b"]}, diff_id="", created="2024-01-01T00:00:00Z",
            created_by=f"/bin/sh -c #(nop)  ENV {n}",
        )  # fmt: skip
        parent = images.add_child(below, parent, None)
        images.find(parent)
    first, last = images.find(images.parent(parent)), images.find(parent)
    assert last.document["history"][0] is first.document["history"][0]
    again = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    assert len(again.all()) == 150
    assert again.find(parent).document == last.document


def test_a_sweep_that_could_not_be_is_made_up_for(tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "images", Database(tmp_path / "db"), lambda _: ())
    blob = images.blobs.put(b"of no image")
    with images.holding(leaves=False):
        pass
    assert images.blobs.has(blob)
    with images.holding(leaves=False):
        images.prune({})
        assert images.blobs.has(blob)
    assert not images.blobs.has(blob)
    blob = images.blobs.put(b"of a build that fails")
    with pytest.raises(ValueError, match="bad"), images.holding(leaves=False):
        raise ValueError("bad")
    assert not images.blobs.has(blob)
