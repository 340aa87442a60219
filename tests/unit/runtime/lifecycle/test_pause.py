"""A container that ends while it is paused is not running: no error of the runtime."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from runtime.container.errors import NotRunning
from runtime.lifecycle.launch import Launcher
from runtime.oci.errors import StartFailed


@pytest.mark.parametrize(("alive", "error"), [(False, NotRunning), (True, StartFailed)])
def test_a_refused_pause_is_told_by_what_is_left_of_the_container(
    alive: bool, error: type[Exception]
) -> None:
    shim = Mock()
    shim.pause.side_effect = StartFailed("OCI runtime pause failed: container not running")
    shim.alive.return_value = alive
    launcher = Launcher(
        paths=Mock(), shim=shim, snapshots=Mock(), mounted=Mock(), sandboxes=Mock(),
        volumes=Mock(), bundle_builder=Mock(), watcher=Mock(), boot_id="",
        before_start=Mock(), given_up=Mock(),
    )  # fmt: skip
    with pytest.raises(error):
        launcher.pause(Mock(id="c1"))
