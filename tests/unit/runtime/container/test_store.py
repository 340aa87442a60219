"""Names of containers that are created at once, and what is known without looking at all."""

from __future__ import annotations

from pathlib import Path
from random import Random

from netkit.store import Database
from runtime.container import names
from runtime.container.links import LINKS
from runtime.container.store import ContainerStore
from tests.unit.runtime.lifecycle.container_world import container


def test_containers_created_at_once_get_different_names(tmp_path: Path) -> None:
    """The second name is generated before the first container has been added."""
    store = ContainerStore(Database(tmp_path / "db"))
    first, second = (names.generate(Random(7), store.claim) for _ in range(2))
    assert first != second
    store.unclaim(first)
    assert names.generate(Random(7), store.claim) == first


def test_containers_that_name_others_are_known_whoever_wrote_their_rows(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    store = ContainerStore(database)
    plain, parent, sidecar, later = (container(x * 64, x) for x in "abcd")
    parent.extra[LINKS] = {"db": plain.id}
    sidecar.host_config.network_mode = f"container:{plain.id}"
    for c in (plain, parent, sidecar, later):
        store.add(c)
    assert {c.name for c in store.relating()} == {"b", "c"}
    later.extra[LINKS] = {"db": plain.id}
    store.save(later)
    store.remove(parent)
    assert {c.name for c in store.relating()} == {"c", "d"}
    assert {c.name for c in ContainerStore(database).relating()} == {"c", "d"}
    database.close()


def test_containers_have_the_strings_in_common_that_are_the_same(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    store = ContainerStore(database)
    for id in "ab":
        c = container(id * 64, id)
        c.host_config.masked_paths = ["/proc/" + "kcore"[:n] for n in range(6)]
        c.config.env = ["".join(("PATH=", "/bin"))]
        store.add(c)
    for stored in (store, ContainerStore(database)):
        first, second = stored.all()
        assert first.config.env == second.config.env == ["PATH=/bin"]
        one, other = ([*(c.config.env or ()), *(c.host_config.masked_paths or ())]
                      for c in (first, second))  # fmt: skip
        assert len(one) == 7
        assert all(a is b for a, b in zip(one, other, strict=True))
    database.close()
