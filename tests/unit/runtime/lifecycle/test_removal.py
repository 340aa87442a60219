"""A removal that fails half-way is reported to those who wait for it, and can be repeated."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from netkit.errors import KernelError
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.supervisor import Supervisor


def test_a_container_whose_removal_failed_is_dead_and_can_be_removed_again() -> None:
    c = Mock(id="c1")
    c.name, c.config.labels, c.extra = "web", {}, {}
    c.state.status, c.state.exit_code, c.state.alive = "exited", 3, False
    store, launcher, waiters = Mock(), Mock(), Mock()
    store.find.return_value = store.get.return_value = c
    launcher.discard.side_effect = [KernelError("the host will not let go"), None]
    life = ContainerOperations(
        store, launcher, Supervisor(store, launcher, waiters, Mock(), Mock())
    )
    with pytest.raises(KernelError):
        life.remove("web", force=True)
    assert (c.state.status, c.state.error) == ("dead", "the host will not let go")
    id, outcome, *conditions = waiters.resolve.call_args.args
    assert (id, outcome) == ("c1", (3, "the host will not let go"))
    assert "removed" in conditions
    store.remove.assert_not_called()
    life.remove("web", force=False)
    store.remove.assert_called_once_with(c)
