"""What operations use stays while they run: archives, builds, containers that are being created."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import Conflict, NotFound
from runtime.filters import Filters
from runtime.images.reference import parse
from runtime.images.removal import ImageUser
from tests.unit.runtime.images.test_children import Shelf

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and overlayfs")

BUILD = ImageUser("", "", alive=True, what="build")
ALL: Filters = {"dangling": ["false"]}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def two(shelf: Shelf) -> str:
    """An image of two layers, and its parent."""
    return shelf.step(shelf.step("", "base", "f"), "one:1", "g")


def empty(shelf: Shelf) -> bool:
    return not shelf.images.layers.all() and not shelf.images.blobs.all()


@pytest.mark.parametrize("layout", ["docker", "oci"])
def test_an_archive_is_whole_though_its_images_are_removed(shelf: Shelf, layout: str) -> None:
    two(shelf)
    whole = b"".join(shelf.images.save(["one:1", "base"], layout))
    stream = shelf.images.save(["one:1", "base"], layout)
    begin = next(stream)
    shelf.remove("one:1", force=True)
    shelf.remove("base", force=True)
    assert shelf.images.all() == []
    assert begin + b"".join(stream) == whole
    assert empty(shelf)


def test_what_other_images_had_goes_at_once_beside_an_archive(shelf: Shelf) -> None:
    two(shelf)
    other = shelf.step("", "other", "h")
    stream = shelf.images.save(["one:1"])
    next(stream)
    layer = shelf.images.layers_of(other)[0]
    shelf.remove("other")
    assert not shelf.images.layers.has(layer)
    assert list(stream)


def test_an_archive_that_nobody_reads_to_its_end_holds_nothing(shelf: Shelf) -> None:
    two(shelf)
    never, left = shelf.images.save(["one:1"]), shelf.images.save(["one:1"])
    next(left)
    shelf.remove("one:1")
    shelf.remove("base")
    assert not empty(shelf)
    close(left)
    assert empty(shelf)
    close(never)
    with pytest.raises(NotFound, match="reference does not exist"):
        next(shelf.images.save(["one:1"]))


def test_an_image_that_goes_before_the_archive_begins_is_not_found(shelf: Shelf) -> None:
    two(shelf)
    stream = shelf.images.save(["one:1"])
    shelf.remove("one:1")
    with pytest.raises(NotFound, match="reference does not exist"):
        next(stream)


def close(stream: Iterator[bytes]) -> None:
    stream.close()  # type: ignore[attr-defined]


def test_prune_leaves_what_a_build_has_come_to(shelf: Shelf) -> None:
    base = shelf.step("", "base", "f")
    idle = shelf.step("", "idle", "h")
    with shelf.images.using(BUILD) as hold:
        hold.keep(base)
        head = shelf.step(base, "", "g")
        hold.keep(head)
        shelf.images.prune({})
        shelf.images.prune(ALL)
        assert {i.id for i in shelf.images.all()} == {base, head}
        assert shelf.images.find("base").id == base
    shelf.images.prune(ALL)
    assert shelf.images.all() == []
    with pytest.raises(NotFound):
        shelf.images.find(idle)


def test_rmi_does_not_remove_what_a_build_uses(shelf: Shelf) -> None:
    image = shelf.step("", "base", "f")
    with shelf.images.using(BUILD) as hold:
        hold.keep(image)
        with pytest.raises(Conflict, match=r'reference "base" \(must force\) - build is using its'):
            shelf.remove("base")
        with pytest.raises(Conflict, match=r"cannot be forced\) - image is being used by run"):
            shelf.remove(image, force=True)
        assert shelf.remove("base", force=True) == ["Untagged: base:latest"]
    assert shelf.remove(image)[0] == f"Deleted: {image}"


def test_an_image_that_is_gone_cannot_be_kept(shelf: Shelf) -> None:
    image = shelf.step("", "base", "f")
    shelf.remove("base")
    with shelf.images.using(BUILD) as hold, pytest.raises(NotFound, match=f"image: {image}"):
        hold.keep(image)


def test_an_image_removed_while_a_container_is_made_is_kept_for_it(shelf: Shelf) -> None:
    image = two(shelf)
    user = ImageUser("c" * 64, "c", alive=False)
    with shelf.images.using(user) as hold:
        hold.keep(image)
        shelf.remove("one:1", force=True)
        assert shelf.images.layers_of(image)
        shelf.users.append((image, user))
    assert shelf.images.layers.has(shelf.images.layers_of(image)[-1])


def test_an_image_removed_while_a_creation_fails_is_gone_after_it(shelf: Shelf) -> None:
    image = two(shelf)
    layer = shelf.images.layers_of(image)[-1]
    using = shelf.images.using(ImageUser("c" * 64, "c", alive=False))
    using.__enter__().keep(image)
    shelf.remove("one:1", force=True)
    assert shelf.images.layers.has(layer)
    assert not using.__exit__(ValueError, ValueError("bad"), None)
    assert not shelf.images.layers.has(layer)


DIGEST = f"sha256:{'d' * 64}"


def test_the_end_of_a_push_gives_no_name_back(shelf: Shelf) -> None:
    first, second = shelf.step("", "one:1", "f"), shelf.step("", "", "g")
    names, name = shelf.images.registry_names, parse("one:1")
    names.pushed(first, name, DIGEST)
    assert shelf.images.find(first).digests == (f"one@{DIGEST}",)
    shelf.images.tag(second, "one", "1")
    names.pushed(first, name, f"sha256:{'e' * 64}")
    assert shelf.images.find("one:1").id == second
    assert shelf.images.find(first).digests == (f"one@{DIGEST}",)
    shelf.remove(first, force=True)
    names.pushed(first, name, DIGEST)
    assert names.named(parse(f"one@{DIGEST}")) is None


def test_a_registry_gives_no_name_to_an_image_that_is_gone(shelf: Shelf) -> None:
    image = shelf.step("", "one:1", "f")
    shelf.remove("one:1")
    with pytest.raises(NotFound, match="No such image"):
        shelf.images.registry_names.record(image, parse("one:1"), DIGEST)


def test_layers_that_are_read_stay_though_image_and_container_go(shelf: Shelf) -> None:
    image = two(shelf)
    layer = shelf.images.layers_of(image)[-1]
    with shelf.images.reading(image):
        shelf.remove("one:1")
        assert shelf.images.layers.has(layer)
    assert not shelf.images.layers.has(layer)
    with pytest.raises(NotFound), shelf.images.reading(image):
        pass
