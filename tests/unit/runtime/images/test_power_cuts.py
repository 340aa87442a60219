"""What a power cut may take back, and what not: the order of files, rows and removals."""

from __future__ import annotations

from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.store import Database
from runtime.images import store as module
from runtime.images.reference import parse
from runtime.images.store import ImageStore

EMPTY = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}


def _opened(folder: Path, boot: str) -> ImageStore:
    return ImageStore(folder / "images", Database(folder / "db"), lambda _: (), boot)


def _document(n: int) -> dict[str, object]:
    return {**EMPTY, "author": str(n)}


def test_steps_that_were_not_synced_go_with_the_hosts_boot_and_stay_within_it(
    tmp_path: Path,
) -> None:
    images = _opened(tmp_path, "first")
    with images.holding():
        kept = images.add(_document(1), [], [parse("kept")])
        lost = images.add(_document(2), [], [], kept, durable=False)
    ids = lambda images: {i.id for i in images.all()}  # noqa: E731
    assert ids(_opened(tmp_path, "first")) == {kept, lost}
    assert ids(_opened(tmp_path, "second")) == {kept}
    assert not images.blobs.has(lost)  # and so are its files


def test_what_is_acknowledged_later_keeps_the_steps_below_it(tmp_path: Path) -> None:
    images = _opened(tmp_path, "first")
    with images.holding():
        step = images.add(_document(1), [], [], durable=False)
        images.tag(step, "built", "1")
    assert _opened(tmp_path, "second").find("built:1").id == step


def test_files_are_on_the_disk_before_the_row_and_the_row_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _opened(tmp_path, "first")
    order: list[str] = []

    def sync(place: Path) -> None:
        order.append("files, without a row" if not images.all() else "files, with a row")

    monkeypatch.setattr(module, "sync_filesystem", sync)
    monkeypatch.setattr(Database, "flush", lambda _: order.append(f"{len(images.all())} rows"))
    with images.holding():
        id = images.add(_document(1), [], [parse("a")])
        order.append("acknowledged")
    assert order == ["files, without a row", "1 rows", "acknowledged"]
    order.clear()
    images.remove(id, force=True, prune=True)
    assert order[0] == "0 rows"  # before its files are removed


def test_an_image_that_cannot_be_written_to_the_disk_is_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _opened(tmp_path, "first")

    def full(place: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "sync_filesystem", full)
    with pytest.raises(KernelError, match="Input/output error"), images.holding():
        images.add(_document(1), [], [parse("a")])
    assert not images.all()


def test_a_build_that_made_nothing_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = _opened(tmp_path, "first")
    synced: list[Path] = []
    monkeypatch.setattr(module, "sync_filesystem", synced.append)
    with images.holding():
        images.add(_document(1), [], [parse("a")])
        synced.clear()
        images.sync()
        assert synced == []
        images.add(_document(2), [], [], durable=False)
        images.sync()
        images.sync()
    assert len(synced) == 1
