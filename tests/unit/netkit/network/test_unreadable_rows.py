"""An unreadable row, of any kind, causes nothing that it describes to be deleted."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

import netkit
from netkit.driver import Firewall
from netkit.errors import Conflict
from netkit.model import IPAddress
from netkit.network.access import AccessRule
from netkit.network.controller import Controller
from netkit.network.remote import NoCluster, RemoteState
from netkit.spec import LinkedPorts, NetworkSpec
from netkit.store import Kind
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.host import Host
from plugins.none import Null
from plugins.ovs import Ovs
from runtime.daemon.ovs_resync import in_openvswitch
from tests.unit.netkit.network.fault_bench import LOWEST
from tests.unit.netkit.network.test_controller import BR, box, on, tcp
from tests.unit.netkit.network.test_global_networks import DB, RECORD, OvsBench

pytestmark = pytest.mark.slow

DAMAGE = b'{"id": 5'
BOXES = ("web", "db", "mate", "far")
LIVE = {box(name).id: box(name) for name in BOXES}
RULE = {"verdict": "drop", "sources": ("198.51.100.0/24",)}
# What the daemon keeps about networks; the kinds of `netkit.store.Kind` below netkit/, by table.
TABLES = ("networks", "endpoints", "sandboxes", "access", "around", "dhcp_leases")


class Cluster(NoCluster):
    """A cluster that allocates one address."""

    def allocate(self, *_: object, **__: object) -> IPAddress:
        return IPv4Address("10.70.0.5")


class Town(OvsBench):
    """A host with a row of each kind, and rules of each kind that block."""

    firewall: Firewall = Iptables()
    cluster = Cluster()

    def made(self) -> Controller:
        drivers = {"bridge": Bridge(), "host": Host(), "null": Null(), "ovs": Ovs("netdev")}
        return Controller(
            self.database, self.inline, drivers, self.firewall, engine="e1",
            settings=self.settings, names=self.names_seen, ports=self.ports, now_ns=self.tick,
            cluster=self.cluster,
        )  # fmt: skip

    def settle(self) -> None:
        plain, _ = self.net.create(NetworkSpec(name="plain"))
        apart, _ = self.net.create(NetworkSpec(name="apart", options={f"{BR}enable_icc": "false"}))
        closed, _ = self.net.create(NetworkSpec(name="closed", internal=True))
        self.net.global_networks.adopt(RECORD)
        self.net.global_networks.set_remote_state(
            RECORD.id, RemoteState(peers=("10.0.0.2",), neighbours=(DB,))
        )
        linked = (LinkedPorts(sandbox=box("db").id, ports=(("tcp", 5432),)),)
        self.net.open(box("web"), [on(plain), on(closed)], [tcp(80, LOWEST + 60)])
        self.net.open(box("db"), [on(apart)], [])
        self.net.open(box("mate"), [on(apart, opens=linked), on(closed)], [])
        self.net.open(box("far"), [on(RECORD)], [])
        for target in BOXES:
            self.net.add_access_rule(AccessRule(target=box(target).id, **RULE))  # type: ignore[arg-type]
        for source, target in (("mate", "web"), ("web", "db")):
            self.net.add_access_rule(
                AccessRule(verdict="drop", source=box(source).id, target=box(target).id)
            )
        self.net.add_access_rule(
            AccessRule(verdict="drop", source=DB.sandbox, target=box("far").id)
        )
        self.database.execute("INSERT INTO dhcp_leases VALUES ('gone', ?)", (DAMAGE,))

    def docs(self, table: str) -> list[tuple[str, bytes]]:
        key = {"around": "network", "dhcp_leases": "endpoint"}.get(table, "id")
        rows = self.database.rows(f"SELECT {key} AS id, doc FROM {table}")
        if table == "networks":  # one that is built in and not used is made anew
            used = {r["network"] for r in self.database.rows("SELECT network FROM endpoints")}
            rows = [r for r in rows if r["id"] in used]
        return [(f"UPDATE {table} SET doc=? WHERE {key}='{r['id']}'", r["doc"]) for r in rows]

    def again(self) -> None:
        self.killed()
        self.net.restore(LIVE)


@pytest.fixture(params=[Iptables(), Nftables()], ids=["iptables", "nft"])
def town(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Town]:
    Town.firewall = request.param
    t = Town(tmp_path / "db")
    t.net.start()
    t.settle()
    yield t
    for holder in list(t.ports._by_holder):
        t.ports.release(holder)
    t.database.close()


OF_FRONT_ENDS = {"cni_attachments"}  # nothing in the kernel is by these alone


def guards(net: Controller) -> None:
    net.repair()
    net.repair_drivers(in_openvswitch)
    for name in BOXES:
        net._sandboxes.policy_sync.sync_sandbox(box(name).id)
    net.repair()


def test_every_kind_of_row_that_networks_have_is_tried() -> None:
    names = [m.name for m in pkgutil.walk_packages(netkit.__path__, "netkit.")]
    entries = [n for n in names if n.endswith(".__main__")]  # programs
    modules = [importlib.import_module(n) for n in names if n not in entries]
    kinds = [v for m in modules for v in vars(m).values() if isinstance(v, Kind)]
    assert {k.table for k in kinds} == {*TABLES, *OF_FRONT_ENDS}


@pytest.mark.parametrize("table", TABLES)
def test_nothing_leaves_the_host_for_a_row_that_cannot_be_read(town: Town, table: str) -> None:
    """Neither while the daemon runs nor after its next start, with the container alive."""
    before = town.things()
    for statement, doc in town.docs(table):
        town.database.execute(statement, (DAMAGE,))
        guards(town.net)
        assert town.things() == before, statement
        town.again()
        guards(town.net)
        assert town.things() == before, statement
        town.database.execute(statement, (doc,))
    town.again()
    guards(town.net)
    assert town.things() == before


def test_a_flush_is_repaired_with_rules_that_cannot_be_read_any_more(town: Town) -> None:
    before = town.things()
    town.database.execute("UPDATE access SET doc=?", (DAMAGE,))
    for key in [k for k, r in before.items() if r.is_firewall and k[0] in {"rule", "nft-rule"}]:
        del town.kernel.things[key]
    guards(town.net)
    assert town.things() == before


@pytest.mark.parametrize("restarted", [False, True])
def test_what_an_unreadable_rule_stood_for_goes_when_it_is_removed(
    town: Town, restarted: bool
) -> None:
    before = town.things()
    rule = town.net.add_access_rule(
        AccessRule(target=box("web").id, verdict="drop", sources=("192.0.2.1",))
    )
    town.database.execute("UPDATE access SET doc=? WHERE id=?", (DAMAGE, rule.id))
    if restarted:
        town.again()
    assert town.things() != before
    town.net.remove_access_rule(rule.id)
    assert town.things() == before


def test_what_is_of_an_unreadable_network_goes_with_its_containers_and_itself(town: Town) -> None:
    plain = town.net.find("plain").id
    town.database.execute("UPDATE networks SET doc=? WHERE id=?", (DAMAGE, plain))
    town.again()
    (endpoint,) = [r.id for r in town.net.endpoints(network=plain)]
    assert any(plain[:12] in (r.owner or "") for r in town.things().values())
    town.net.close(box("web").id)
    assert not any(endpoint[:12] in (r.owner or "") for r in town.things().values())
    town.net.remove("plain")
    assert not any(plain[:12] in (r.owner or "") for r in town.things().values())


def test_a_container_does_not_start_without_a_rule_that_may_have_to_block(town: Town) -> None:
    web, plain = box("web"), town.net.find("plain")
    town.database.execute("UPDATE access SET doc=? WHERE target=?", (DAMAGE, web.id))
    town.net.close(web.id)
    before = town.things()
    with pytest.raises(Conflict, match="netkit fw rm"):
        town.net.open(web, [on(plain)], [])
    assert town.things() == before
    for rule in [r for r in town.net.access() if r.target == web.id]:
        town.net.remove_access_rule(rule.id)
    town.net.open(web, [on(plain)], [])
