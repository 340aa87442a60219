"""What a creation that was acknowledged has written."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from runtime.container.model import MountPoint
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
