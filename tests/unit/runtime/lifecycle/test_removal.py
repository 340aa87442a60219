"""A removal that fails half-way is reported to those who wait for it, and can be repeated."""

from __future__ import annotations

from contextlib import closing
from inspect import signature
from pathlib import Path
from unittest.mock import Mock

import pytest

from netkit.errors import Conflict, KernelError
from netkit.store import Database
from runtime.container.options import CommitRequest
from runtime.container.store import ContainerStore
from runtime.lifecycle.commit import Commits
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.service import ContainerService
from runtime.lifecycle.supervisor import Supervisor
from tests.unit.runtime.lifecycle.container_world import container


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


@pytest.mark.parametrize("status", ["removing", "dead"])
def test_files_of_a_container_that_is_being_removed_are_not_touched(
    status: str, tmp_path: Path
) -> None:
    """Its removal may have taken them already, and failed then: the disk was full."""
    with closing(Database(tmp_path / "db")) as database:
        store, looking = ContainerStore(database), Mock()
        c = container()
        c.state.status = status
        store.add(c)
        rest = {
            name: Mock()
            for name in signature(ContainerService).parameters
            if name not in {"store", "looking", "commits", "defaults"}
        }
        commits = Commits(store, Mock(), Mock(), Mock(), Mock())
        service = ContainerService(store=store, looking=looking, commits=commits, **rest)
        flags = {"no_overwrite_dir": False, "copy_uid_gid": False}
        for act in (
            lambda: service.changes("web"),
            lambda: service.export("web"),
            lambda: service.stat_path("web", "/"),
            lambda: service.get_archive("web", "/"),
            lambda: service.put_archive("web", "/", Mock(), **flags),
            lambda: service.commit("web", CommitRequest()),
        ):
            with pytest.raises(Conflict, match=r"You cannot .* container .* which is"):
                act()
        assert not looking.method_calls
