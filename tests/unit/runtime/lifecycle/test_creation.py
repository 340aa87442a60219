"""What a creation that was acknowledged has written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from runtime.container.model import MountPoint
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.supervisor import Supervisor
from tests.unit.runtime.lifecycle.container_world import container


@pytest.mark.parametrize(("type", "flushes"), [("volume", 1), ("bind", 0)])
def test_a_power_cut_does_not_take_back_volumes_that_were_made_for_a_container(
    type: str, flushes: int
) -> None:
    """A row of it that is still pending would take them with it; others cost no sync."""
    store, launcher = Mock(), Mock()
    c, seen = container(), []
    c.mounts = [MountPoint(type=type, name="vol", destination="/data")]
    store.flush.side_effect = lambda: seen.append((dict(c.extra), store.save.call_count))
    Supervisor(store, launcher, Mock(), Mock(), Mock()).create(c)
    assert seen == [({}, 1)] * flushes
    launcher.prepare.assert_called_once_with(c)


@pytest.mark.parametrize(
    ("furnished", "folder", "volume", "mounts"),
    [
        (False, "", False, ["initial"]),
        (True, "", False, []),
        (True, "/srv", False, ["borrowed"]),
        (True, "", True, ["borrowed"]),
    ],
)
def test_mounts_of_a_creation(
    furnished: bool, folder: str, volume: bool, mounts: list[str], tmp_path: Path
) -> None:
    """None where the image's mount points are there already and nothing is put beside them."""
    used: list[str] = []

    def mounting(name: str) -> Any:
        @contextmanager
        def mounted(_id: str) -> Iterator[Path]:
            used.append(name)
            yield tmp_path

        return mounted

    volumes = Mock(fills=lambda c: volume)
    launcher = Launcher(
        paths=Mock(), shim=Mock(), snapshots=Mock(create=Mock(return_value=furnished)),
        mounted=Mock(initial=mounting("initial"), borrowed=mounting("borrowed")),
        sandboxes=Mock(), volumes=volumes, bundle_builder=Mock(), watcher=Mock(), boot_id="",
        before_start=Mock(), given_up=Mock(),
    )  # fmt: skip
    c = container()
    c.config.working_dir = folder
    launcher.prepare(c)
    assert used == mounts
    assert (tmp_path / "etc/hosts").exists() is not furnished
    assert volumes.fill.called is bool(mounts)
    if folder:
        assert (tmp_path / folder[1:]).is_dir()
