"""The use cases on networks, on a kernel, a database, ports and names whose calls are points.

The points of a use case are found by numbers: one run for each, until one has no such point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from types import MappingProxyType
from typing import Any

from netkit.driver import Driver, Firewall
from netkit.model import Key, Peer, Resource, State, Sysctl
from netkit.network.access import AccessRule
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.network.overlay_addresses import NoOverlay, OverlayAddresses
from netkit.network.remote import Cluster, NoCluster
from netkit.portallocator import PortAllocator
from netkit.reconcile.plan import Op
from netkit.spec import EndpointRecord, NetworkSpec, Sandbox, SubnetSpec
from netkit.store import Database
from netkit.testing.kernel import FakeKernel, Inline
from plugins.firewall.iptables import Iptables
from plugins.weave.driver import Weave
from tests.unit.netkit.network.test_controller import DRIVERS, Bench, RecordedNames, box, on, tcp
from tests.unit.parallel import RUN
from tests.unit.points import FailingConnection, Points

MOST = 400  # points of one use case
TABLES = ("networks", "sandboxes", "endpoints", "addresses", "pools", "access")
Live = Mapping[str, Sandbox]


@dataclass
class FailingKernel(FakeKernel):
    points: Points = field(default_factory=Points)

    def _step(self, op: Op) -> None:
        self.points.hit(f"kernel {op}")
        super()._step(op)

    def observe(self, keys: Iterable[Key]) -> State:
        self.points.hit("kernel observe")
        return super().observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        self.points.hit("kernel owned")
        return super().owned(prefix, policy=policy)


class FailingPorts(PortAllocator):
    points: Points

    def reserve(self, *args: Any, **options: Any) -> Any:
        self.points.hit("ports reserve")
        return super().reserve(*args, **options)


class FailingNames(RecordedNames):
    points: Points

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        self.points.hit("names publish")
        super().publish(joined, left)


LOWEST = 22000 + RUN * 70  # of its ports


class FaultBench(Bench):
    """A host; `again` kills its daemon and makes the next one, which has yet to restore."""

    drivers: Mapping[str, Driver] = MappingProxyType({**DRIVERS, "weave": Weave()})
    cluster: Cluster = NoCluster()
    overlay: OverlayAddresses = NoOverlay()

    def __init__(self, path: Path, firewall: Firewall | None = None) -> None:
        self.firewall = firewall or Iptables()
        super().__init__(path, NetworkConfig())
        self.points = Points()
        self.kernel = FailingKernel(points=self.points)
        self.inline = Inline(self.kernel, "e1")
        self.ports = FailingPorts(lambda: range(LOWEST, LOWEST + 50), frozenset)
        self.ports.points = self.points
        self.again()

    def made(
        self,
        database: Database | None = None,
        inline: Inline | None = None,
        names_seen: RecordedNames | None = None,
        ports: PortAllocator | None = None,
    ) -> Controller:
        return Controller(
            database or self.database,
            inline or self.inline,
            self.drivers,
            self.firewall,
            engine="e1",
            settings=self.settings,
            names=names_seen or self.names_seen,
            ports=ports or self.ports,
            now_ns=self.tick,
            cluster=self.cluster,
            overlay_addresses=self.overlay,
        )

    def again(self) -> None:
        """Start a new daemon on the same host, as after a kill."""
        self.points.begin()
        self._close_ports()
        self.names_seen = FailingNames()
        self.names_seen.points = self.points
        self.database.close()
        self.database = Database(self.path)
        self.database._db = FailingConnection(self.database._db, self.points)  # type: ignore
        self.net = self.made()
        self.points.begin()

    def _close_ports(self) -> None:
        for holder in list(self.ports._by_holder):
            self.ports.release(holder)

    def stop(self) -> None:
        self.points.begin()
        self._close_ports()
        self.database.close()

    def rows(self) -> list[list[tuple[object, ...]]]:
        return [
            [tuple(row) for row in self.database.rows(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in TABLES
        ]

    def state(self) -> tuple[object, ...]:
        """Return the state of the host, for comparisons."""
        shown = sorted(r.id for r in self.net.all())
        return (self.things(), self.rows(), shown, sorted(self.ports._by_holder))

    def untrue(self) -> list[str]:
        """List disagreements of rows, ports, names and host after a restore; half-done changes."""
        wrong = [
            f"{table} {row['id'][:12]} is {row['state']}"
            for table in ("networks", "sandboxes", "endpoints")
            for row in self.database.rows(f"SELECT id, state FROM {table} WHERE state != 'ready'")
        ]
        there = {r.id: r for r in self.net.endpoints()}
        if set(self.names_seen.now) != set(there):
            wrong.append("names are not those of the endpoints")
        rows = self.database.rows("SELECT network, address, holder, kind FROM addresses")
        have = {tuple(row)[:3] for row in rows if row["kind"] in {"lease", "static"}}
        leases = {tuple(row)[:3] for row in rows if row["kind"] == "lease"}
        wanted = {
            (r.network, ip_interface(address).packed, r.sandbox)
            for r in there.values()
            for address in r.addresses
        }
        if not leases <= wanted <= have:  # one that was chosen stays without an endpoint
            wrong.append("leases of addresses are not those of the endpoints")
        held = sorted(o.sandbox.id for _, o in self.net._parts.records.sandboxes() if o.held)
        if sorted(self.ports._by_holder) != held:
            wrong.append("host ports are not those of the sandboxes")
        if plan := self.net.repair()[0]:
            wrong.append(f"drift: {'; '.join(map(str, plan))}")
        return wrong

    def unlike_new(self, live: Live) -> list[str]:
        """Return how the host differs from an empty one where a daemon started on these rows."""
        path = self.path.with_suffix(".new")
        path.unlink(missing_ok=True)
        self.database.execute("VACUUM INTO ?", (str(path),))
        new = Database(path)
        kernel = FakeKernel()
        try:
            net = self.made(
                new,
                Inline(kernel, "e1"),
                RecordedNames(),
                PortAllocator(lambda: range(0), frozenset),
            )
            net.restore(live)
        finally:
            new.close()
        mine, ours = things(self.kernel), things(kernel)
        return [
            *(f"{key} is there" for key in mine.keys() - ours.keys()),
            *(f"{key} is missing" for key in ours.keys() - mine.keys()),
            *(f"{key} is {mine[key]}" for key in mine.keys() & ours if mine[key] != ours[key]),
        ]


def things(kernel: FakeKernel) -> dict[Key, tuple[Resource, Peer | None]]:
    """Return what could leak, with the far ends of pairs."""
    return {
        k: (r, kernel.peers.get(k)) for k, r in kernel.things.items() if not isinstance(r, Sysctl)
    }


# -- use cases: what is there before, the act, and the way back ------------------------

Act = Callable[[FaultBench], object]


@dataclass(frozen=True)
class Case:
    before: Act
    act: Act
    back: Act
    removes: bool = False  # where it fails, it may have been done all the same


def nothing(b: FaultBench) -> None:
    return None


def both(*acts: Act) -> Act:
    def do(b: FaultBench) -> None:
        for act in acts:
            act(b)

    return do


def create(b: FaultBench) -> None:
    b.net.create(NetworkSpec(name="y"))


def create_z(b: FaultBench) -> None:
    b.net.create(NetworkSpec(name="z"))


def remove(b: FaultBench) -> None:
    b.net.remove("y")


def enter(b: FaultBench) -> None:
    b.net.open(box(), [on(b.net.find("y"))], [tcp(80)])


def enter_ahead(b: FaultBench) -> None:
    """Its namespace first, as at the start of a container, which closes what it cannot open."""
    b.net.prepare(box())
    try:
        enter(b)
    except Exception:
        b.net.close(box().id)
        raise


def close(b: FaultBench) -> None:
    b.net.close(box().id)


def connect(b: FaultBench) -> None:
    b.net.connect(box(), on(b.net.find("z"), gw_priority=1))


def disconnect(b: FaultBench) -> None:
    b.net.disconnect(box().id, b.net.find("z").id)


def renew(b: FaultBench) -> None:
    b.net.renew(box().id)


DROP = AccessRule(verdict="drop", target=box().id, sources=("192.0.2.0/24",))


def allow(b: FaultBench) -> None:
    b.net.add_access_rule(DROP)


def disallow(b: FaultBench) -> None:
    b.net.remove_access_rule(b.net.access()[0].id)


def lane(b: FaultBench) -> None:
    """A network whose endpoints may have any addresses, and a container on it."""
    spec = NetworkSpec(
        name="y", driver="weave", subnets=(SubnetSpec(subnet="10.32.0.0/24"),),
        options={"expose": "true"},
    )  # fmt: skip
    b.net.create(spec)
    b.net.open(box(), [on(b.net.find("y"))], [tcp(80)])


def readdress(*addresses: str) -> Act:
    def do(b: FaultBench) -> None:
        b.net.readdress(box().id, on(b.net.find("y"), addresses=addresses))

    return do


CASES = {
    "create": Case(nothing, create, remove),
    "remove": Case(create, remove, nothing, removes=True),
    "publish": Case(create, enter, close),
    "publish, with the namespace ahead": Case(create, enter_ahead, close),
    "close": Case(both(create, enter), close, nothing, removes=True),
    "renew": Case(both(create, enter), renew, nothing, removes=True),  # a start ends it
    "allow": Case(both(create, enter), allow, disallow),
    "disallow": Case(both(create, enter, allow), disallow, nothing, removes=True),
    "add addresses": Case(
        lane, readdress("net:default", "192.168.1.2/24", "net:10.32.0.128/25"), readdress()
    ),
    "take one away": Case(
        both(lane, readdress("net:default", "10.32.0.200/24")),
        readdress("10.32.0.200/24"),
        readdress("net:default", "10.32.0.200/24"),
        removes=True,
    ),
    "connect": Case(both(create, create_z, enter), connect, disconnect),
    "disconnect": Case(both(create, create_z, enter, connect), disconnect, nothing, removes=True),
}


def empty(b: FaultBench) -> None:
    b.net.close(box().id)
    for rule in b.net.access():
        b.net.remove_access_rule(rule.id)
    for record in b.net.all():
        if not record.builtin:
            b.net.remove(record.id)
