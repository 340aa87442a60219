"""Of two concurrent requests for the same resource one succeeds; refused stored networks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit.driver import Network, TrafficPolicy
from netkit.errors import Conflict, Forbidden, InvalidSpec, NetkitError
from netkit.model import Link
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.network.entry import NetworkEntry
from netkit.reconcile.converge import Change
from netkit.reconcile.plan import Plan
from netkit.spec import NetworkRecord, NetworkSpec, SubnetSpec
from netkit.testing.kernel import Inline
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.lan import Lan
from plugins.ovs import Ovs
from runtime.daemon.discovery import nameservers
from tests.unit.netkit.network.test_controller import BR, DRIVERS, IP, Bench, box, on

AT_ONCE = 4


class Slow(Inline):
    """Delays each change, so that concurrent requests meet."""

    def converge(self, change: Change) -> Plan:
        time.sleep(0.02)
        return super().converge(change)


class Choosy(Bridge):
    """A driver that refuses options it accepted before, once `refuses` is set."""

    refuses: Exception | None = None
    late = False  # only when asked for resources

    def policy(self, net: Network) -> TrafficPolicy | None:
        if self.refuses and not self.late and net.name != "bridge":
            raise self.refuses
        return super().policy(net)

    def network(self, net: Network):  # type: ignore[no-untyped-def]
        if self.refuses and net.name != "bridge":
            raise self.refuses
        yield from super().network(net)


class TwinBench(Bench):
    def made(self) -> Controller:
        self.bridge = Choosy()
        drivers = {**DRIVERS, "bridge": self.bridge, "lan": Lan(), "ovs": Ovs()}
        return Controller(
            self.database, self.inline, drivers, Iptables(), engine="e1", settings=self.settings,
            ports=self.ports, now_ns=self.tick,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[TwinBench]:
    b = TwinBench(tmp_path / "db", NetworkConfig(ip=IP))
    nic = Link(name="nic0", kind="", mac="02:00:00:00:00:01", up=True)
    b.kernel.things[nic.key] = nic
    b.net.start()
    yield b
    b.database.close()


def _spec(n: int, driver: str, **options: str) -> NetworkSpec:
    subnets = (SubnetSpec(subnet=f"10.99.{n}.0/24"),)
    return NetworkSpec(name=f"net{n}", driver=driver, options=options, subnets=subnets)


REQUESTS = {
    "a bridge": lambda n: _spec(n, "bridge", **{f"{BR}name": "nk0"}),
    "a parent": lambda n: _spec(n, "lan", parent="nic0"),
    "a switch": lambda n: _spec(n, "ovs", bridge="nk0"),
    "a tunnel": lambda n: _spec(n, "ovs", peers="192.0.2.1", key="7"),
    "a name": lambda n: NetworkSpec(name="one"),
    "a subnet": lambda n: NetworkSpec(name=f"net{n}", subnets=(SubnetSpec(subnet="10.98.0.0/24"),)),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REQUESTS)
def test_of_several_that_request_the_same_at_once_one_gets_it(bench: TwinBench, what: str) -> None:
    before = bench.things()

    def create(n: int) -> NetworkRecord | NetkitError:
        try:
            return bench.net.create(REQUESTS[what](n))[0]
        except NetkitError as error:
            return error

    bench.inline = Slow(bench.kernel, "e1")
    bench.net._parts.converger.__class__ = Slow
    with ThreadPoolExecutor(AT_ONCE) as pool:
        came = list(pool.map(create, range(AT_ONCE)))
    made = [c for c in came if isinstance(c, NetworkRecord)]
    assert len(made) == 1, came
    assert all(isinstance(c, Forbidden | Conflict | InvalidSpec) for c in came if c not in made)
    owners = {r.owner for k, r in bench.things().items() if k not in before and r.owner}
    assert {o for o in owners if not o.endswith(":global")} == {f"netkit:e1:{made[0].id[:12]}"}
    bench.net.remove(made[0].id)
    assert {k for k, r in bench.things().items() if made[0].id[:12] in (r.owner or "")} == set()


def test_one_that_becomes_ready_is_seen_at_every_moment(bench: TwinBench) -> None:
    """Also between the time its row is ready and the time it is listed."""
    registry = bench.net._parts.registry
    show, errors = registry._publish, []

    def create() -> None:
        try:
            bench.net.create(REQUESTS["a bridge"](2))
        except NetkitError as error:
            errors.append(error)

    other = threading.Thread(target=create)

    def late(entry: NetworkEntry) -> None:
        if entry.name == "net1":
            other.start()
            other.join(0.05)  # long enough for a look at the database, were it free
        show(entry)

    registry._publish = late  # type: ignore[method-assign]
    bench.net.create(REQUESTS["a bridge"](1))
    other.join()
    assert [str(e) for e in errors] == [
        "cannot create network net2: interface nk0 belongs to network net1: give this one another"
    ]


@pytest.mark.slow
def test_several_that_leave_the_subnet_to_us_get_different_ones(bench: TwinBench) -> None:
    bench.net._parts.converger.__class__ = Slow
    with ThreadPoolExecutor(AT_ONCE) as pool:
        specs = [NetworkSpec(name=f"net{n}") for n in range(AT_ONCE)]
        made = list(pool.map(lambda s: bench.net.create(s)[0], specs))
    assert len({r.spec.subnets[0].subnet for r in made}) == AT_ONCE


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("why", [InvalidSpec("no such option"), KeyError("x")])
def test_a_network_that_its_driver_refuses_now_is_kept_shown_and_can_be_removed(
    bench: TwinBench, why: Exception, late: bool
) -> None:
    bad, _ = bench.net.create(NetworkSpec(name="bad"))
    good, _ = bench.net.create(NetworkSpec(name="good"))
    there = bench.things()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Choosy, "refuses", why)
        patch.setattr(Choosy, "late", late)
        bench.killed()
        bench.net.start()
        assert {k for k in there if k[0] == "link"} <= bench.things().keys()
        assert list(bench.net.refused()) == ["bad", "good"]
        with pytest.raises(Conflict, match="network bad cannot be used: driver bridge"):
            bench.net.open(box(), [on(bad)], [])
        bench.net.open(box("b"), [on(bench.net.find("bridge"))], [])
        bench.net.close(box("b").id)
        assert bench.net.remove("bad").id == bad.id
    bench.killed()
    bench.net.start()
    assert bench.net.refused() == {}
    assert [r.spec.name for r in bench.net.all() if not r.builtin] == [good.spec.name]
    assert not [r for r in bench.things().values() if bad.id[:12] in (r.owner or "")]
    bench.net.open(box(), [on(good)], [])


def test_a_nameserver_that_is_no_address_does_not_hide_the_next() -> None:
    text = "nameserver 10.0.0.300\nnameserver\nnameserver fe80::1%eth0\nnameserver 10.1.2.3 # x\n"
    assert list(map(str, nameservers(text))) == ["fe80::1/128", "10.1.2.3/32"]


def test_of_two_that_claim_the_same_after_one_was_refused_the_newer_has_it(
    bench: TwinBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused network claims nothing; the daemon starts all the same once it is not refused."""
    bench.net.create(REQUESTS["a bridge"](1))
    with monkeypatch.context() as m:
        m.setattr(Choosy, "refuses", InvalidSpec("the host has changed"))
        bench.killed()
        bench.net.start()
        m.setattr(Choosy, "refuses", None)
        newer, _ = bench.net.create(REQUESTS["a bridge"](2))
    for _ in range(2):
        bench.killed()
        bench.net.start()
        assert bench.net.refused() == {"net1": "interface nk0 belongs to network net2"}
    bench.net.remove(newer.id)
    bench.killed()
    bench.net.start()
    assert bench.net.refused() == {}
