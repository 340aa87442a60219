"""A host follows its cluster while its own users change networks: the later change wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netkit.cluster import transactions
from netkit.cluster.client import Client
from netkit.cluster.following import Following
from netkit.cluster.state import Member
from netkit.ipam.pools import parse_subnets
from netkit.spec import NetworkSpec, SubnetSpec
from tests.unit.netkit.cluster.fake_ovsdb import Server
from tests.unit.netkit.cluster.test_cluster import WIDE, create
from tests.unit.netkit.network.test_controller import box, on
from tests.unit.netkit.network.test_global_networks import OvsBench

ME = Member(id="e1", name="h1", address="10.0.0.1")
SPEC = NetworkSpec(
    name="mine", driver="ovs", scope="global", subnets=(SubnetSpec(subnet="10.80.0.0/24"),)
)


class FakeClient(Client):
    """A client of a server in memory.  `meanwhile` is called once, right after a read."""

    def __init__(self, server: Server) -> None:
        super().__init__(ME.id)
        self._server = self  # type: ignore[assignment]  # all that is asked of one is below
        self.remote = "tcp:10.0.0.1:6640"
        self.memory = server
        self.meanwhile: Callable[[], object] = lambda: None

    def transact(self, write: transactions.Write, patience: float | None = None) -> None:
        self.memory.run(write)

    def view(self, read: Callable[[Any], Any], patience: float | None = None) -> Any:
        seen = read(self.memory.copy())
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        return seen


class Host:
    def __init__(self, path: Path) -> None:
        self.bench = OvsBench(path)
        self.server = Server()
        self.client = FakeClient(self.server)
        self.bench.join(self.client)
        self.following = Following(
            self.client, self.bench.net.global_networks, lambda: ME, keep=lambda: None
        )
        self.turn()

    def turn(self) -> None:
        self.following._turn()
        assert self.following.problems == {}

    def names(self) -> set[str]:
        return {n.spec.name for n in self.bench.net.all() if n.spec.scope == "global"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    yield h
    h.bench.database.close()


def test_networks_of_other_hosts_come_and_go(host: Host) -> None:
    host.server.run(create())
    host.turn()
    assert host.names() == {"wide"}
    host.server.run(partial(transactions.remove, WIDE.id))
    host.turn()
    assert host.names() == set()


def test_a_network_removed_after_the_look_does_not_come_back(host: Host) -> None:
    host.bench.net.create(SPEC)
    before = host.bench.things()
    host.client.meanwhile = lambda: host.bench.net.remove("mine")
    host.turn()
    assert host.names() == set()
    host.bench.net.create(SPEC)  # the name is free
    host.turn()
    assert host.names() == {"mine"}
    assert len(host.bench.things()) == len(before)


def test_a_network_created_after_the_look_does_not_go(host: Host) -> None:
    made = []
    host.client.meanwhile = lambda: made.append(host.bench.net.create(SPEC)[0])
    host.turn()
    assert [n.id for n in made] == [host.bench.net.find("mine").id]


def test_a_network_that_a_user_removes_is_not_missed_by_who_was_about_to(host: Host) -> None:
    """Another host removed it; a user of this one does so after the look."""
    host.server.run(create())
    host.turn()
    host.server.run(partial(transactions.remove, WIDE.id))
    host.client.meanwhile = lambda: host.bench.net.remove("wide")
    host.turn()
    assert host.names() == set()


def test_a_network_that_was_removed_here_may_come_back_from_another_host(host: Host) -> None:
    record, _ = host.bench.net.create(SPEC)
    host.bench.net.remove("mine")
    host.server.run(partial(transactions.create, record, parse_subnets(record.spec.subnets)))
    host.turn()
    assert host.names() == {"mine"}


def test_a_network_that_our_containers_are_on_is_published_to_a_new_cluster(host: Host) -> None:
    host.bench.net.create(SPEC)
    host.bench.net.open(box(), [on(host.bench.net.find("mine"))], [])
    host.server.rows = Server().rows
    host.turn()
    host.turn()
    assert [row["name"] for row in host.server.rows["Network"].values()] == ["mine"]
    assert [row["owner"] for row in host.server.rows["Address"].values() if row["host"]] == ["web"]
