"""Changes by other hosts of a cluster are applied, also when Open vSwitch fails meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest

from netkit.driver import Driver, Subnet
from netkit.errors import Forbidden
from netkit.ipam.pools import check_overlap
from netkit.model import IPNetwork, Key, Rule
from netkit.network.access import AccessRule
from netkit.network.controller import Controller
from netkit.network.remote import Cluster, NoCluster, RemoteContainer, RemoteState
from netkit.spec import NetworkRecord, NetworkSpec, SubnetSpec
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.host import Host
from plugins.none import Null
from plugins.ovs import Ovs
from tests.unit.netkit.network.test_controller import box, on
from tests.unit.netkit.reconcile.test_retry import JammedBench

RECORD = NetworkRecord(
    id="ab" * 32,
    created="2026-01-01T00:00:00.000000000Z",
    spec=NetworkSpec(
        name="wide",
        driver="ovs",
        scope="global",
        subnets=(SubnetSpec(subnet="10.70.0.0/24", gateway="10.70.0.1"),),
    ),
)
DB = RemoteContainer(
    id="cd" * 32, network=RECORD.id, host="h2", host_address="10.0.0.2", sandbox="ef" * 32,
    owner="db", address="10.70.0.9", mac="02:00:00:00:00:09", names=("db",),
)  # fmt: skip


DRIVERS: dict[str, Driver] = {"bridge": Bridge(), "host": Host(), "null": Null()}


class OvsBench(JammedBench):
    cluster: Cluster = NoCluster()
    drivers: Mapping[str, Driver] = MappingProxyType({**DRIVERS, "ovs": Ovs("netdev")})

    def made(self) -> Controller:
        return Controller(
            self.database, self.inline, self.drivers, Iptables(), engine="e1",
            settings=self.settings, names=self.names_seen, ports=self.ports, now_ns=self.tick,
            cluster=self.cluster,
        )  # fmt: skip

    def join(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.net = self.made()
        self.net.start()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[OvsBench]:
    b = OvsBench(tmp_path / "db")
    b.net.start()
    yield b
    b.database.close()


@pytest.mark.parametrize("step", range(4))
def test_a_neighbours_name_is_known_though_its_flows_had_to_be_tried_twice(
    bench: OvsBench, step: int
) -> None:
    global_networks = bench.net.global_networks
    global_networks.adopt(RECORD)
    around = RemoteState(peers=("10.0.0.2",), neighbours=(DB,))
    assert bench.jam(step, lambda: global_networks.set_remote_state(RECORD.id, around))
    global_networks.set_remote_state(RECORD.id, around)
    assert [r.owner_name for r in bench.names_seen.now.values()] == ["db"]
    assert [n.address for n in global_networks.remote_endpoints()] == ["10.70.0.9"]
    there = bench.things()
    global_networks.set_remote_state(RECORD.id, RemoteState())
    global_networks.set_remote_state(RECORD.id, around)
    assert bench.things() == there


def of_networks(bench: OvsBench) -> set[Key]:
    """Return keys of resources, without the way to the underlay, nku..., which networks share."""
    return {k for k in bench.things() if not any(str(word).startswith("nku") for word in k)}


@pytest.mark.parametrize("step", [0, 3, 10, 20])
def test_a_network_that_could_not_be_adopted_and_not_be_undone_is_adopted_later(
    bench: OvsBench, step: int
) -> None:
    before = of_networks(bench)
    assert bench.jam(step, lambda: bench.net.global_networks.adopt(RECORD))
    bench.net.repair()
    assert of_networks(bench) == before
    assert not bench.net.global_networks.exists(RECORD.id)
    bench.net.global_networks.adopt(RECORD)
    assert bench.net.find("wide").id == RECORD.id


def test_nothing_is_left_of_a_network_removed_elsewhere_whose_driver_is_not_installed_any_more(
    bench: OvsBench,
) -> None:
    bench.net.global_networks.adopt(RECORD)
    bench.drivers = DRIVERS
    bench.killed()
    bench.net.start()
    mark = f"netkit:e1:{RECORD.id[:12]}"
    assert bench.kernel.owned(mark)
    bench.net.global_networks.remove(RECORD.id)
    assert not bench.kernel.owned(mark)


def test_a_rule_that_names_a_container_of_another_host_follows_it(bench: OvsBench) -> None:
    bench.net.global_networks.adopt(RECORD)
    bench.net.open(box(), [on(bench.net.find("bridge"))], [])
    bench.net.add_access_rule(AccessRule(verdict="drop", target=box().id, source=DB.sandbox))
    assert not named(bench, "10.70.0.9")  # not received yet
    moved = msgspec.structs.replace(DB, address="10.70.0.33")
    for there, previous in ((DB, moved), (moved, DB)):
        around = RemoteState(peers=("10.0.0.2",), neighbours=(there,))
        bench.net.global_networks.set_remote_state(RECORD.id, around)
        assert named(bench, there.address)
        assert not named(bench, previous.address)
        assert bench.net.drift() == ()
    bench.net.global_networks.set_remote_state(RECORD.id, RemoteState(peers=("10.0.0.2",)))
    assert not named(bench, moved.address)


class Contested(NoCluster):
    """Other hosts create a network each, just before ours."""

    def __init__(self, rivals: int) -> None:
        self.rivals = rivals
        self.taken: list[tuple[IPNetwork, str]] = []

    def subnets(self) -> list[tuple[IPNetwork, str]]:
        return list(self.taken)

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        if self.rivals:
            self.rivals -= 1
            self.taken.append((subnets[0].cidr, f"rival{self.rivals}"))
        check_overlap(subnets[0].cidr, self.taken)
        self.taken.append((subnets[0].cidr, record.spec.name))

    def remove(self, record: NetworkRecord) -> None:
        self.taken = [(cidr, name) for cidr, name in self.taken if name != record.spec.name]


@pytest.mark.parametrize("asked", ["", "0.0.0.0/24"])
def test_a_subnet_of_our_choice_that_another_host_chose_first_is_chosen_anew(
    bench: OvsBench, asked: str
) -> None:
    cluster = Contested(3)
    bench.join(cluster)
    subnets = (SubnetSpec(subnet=asked),) if asked else ()
    spec = NetworkSpec(name="mine", driver="ovs", scope="global", subnets=subnets)
    made, _ = bench.net.create(spec)
    assert [name for _, name in cluster.taken] == ["rival2", "rival1", "rival0", "mine"]
    assert len({cidr for cidr, _ in cluster.taken}) == 4
    assert str(cluster.taken[-1][0]) == made.spec.subnets[0].subnet
    assert [n.spec.name for n in bench.net.all() if n.spec.scope == "global"] == ["mine"]


@pytest.mark.parametrize(("rivals", "subnet"), [(1, "10.71.0.0/24"), (99, "")])
def test_a_subnet_that_is_asked_for_is_not_changed_and_there_is_an_end_to_choosing(
    bench: OvsBench, rivals: int, subnet: str
) -> None:
    bench.join(Contested(rivals))
    subnets = (SubnetSpec(subnet=subnet),) if subnet else ()
    spec = NetworkSpec(name="mine", driver="ovs", scope="global", subnets=subnets)
    with pytest.raises(Forbidden, match="Pool overlaps with other one"):
        bench.net.create(spec)
    assert [n for n in bench.net.all() if n.spec.scope == "global"] == []


def named(bench: OvsBench, address: str) -> bool:
    return any(
        isinstance(r, Rule) and "-j" in r.args and "DROP" in r.args and f"{address}/32" in r.args
        for r in bench.things().values()
    )
