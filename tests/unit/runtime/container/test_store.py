"""Names of containers that are created at once."""

from __future__ import annotations

from pathlib import Path
from random import Random

from netkit.store import Database
from runtime.container import names
from runtime.container.store import ContainerStore


def test_containers_created_at_once_get_different_names(tmp_path: Path) -> None:
    """The second name is generated before the first container has been added."""
    store = ContainerStore(Database(tmp_path / "db"))
    first, second = (names.generate(Random(7), store.claim) for _ in range(2))
    assert first != second
    store.unclaim(first)
    assert names.generate(Random(7), store.claim) == first
