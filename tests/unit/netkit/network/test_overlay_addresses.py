"""Addresses of endpoints on an overlay's network: rows here and the overlay agree, or nothing is
left of an attempt."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from netkit.errors import Busy, Conflict, InUse, InvalidSpec, KernelError
from netkit.model import Addr, Neigh, Rule
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.reconcile.plan import Op
from netkit.spec import EndpointSpec, NetworkRecord, NetworkSpec
from plugins.firewall.iptables import Iptables
from plugins.weave.driver import Weave
from tests.unit.netkit.network.fake_overlay import FakeOverlay
from tests.unit.netkit.network.test_controller import DRIVERS, IP, Bench, box, on, sub, tcp


class OverlayBench(Bench):
    overlay: FakeOverlay

    def made(self) -> Controller:
        old = getattr(self, "overlay", None)
        self.overlay = FakeOverlay(self.database, has=dict(old.has) if old else {})
        return Controller(
            self.database, self.inline, {**DRIVERS, "weave": Weave()}, Iptables(), engine="e1",
            settings=self.settings, names=self.names_seen, ports=self.ports, now_ns=self.tick,
            overlay_addresses=self.overlay,
        )  # fmt: skip

    def network(self, name: str = "weave", **more: object) -> NetworkRecord:
        more.setdefault("subnets", sub("10.32.0.0/24"))
        spec = NetworkSpec(name=name, driver="weave", **more)  # type: ignore[arg-type]
        return self.net.create(spec).record

    def rows(self) -> list[str]:
        """Rows of containers: "10.32.0.1 lease"."""
        found = self.database.rows(
            "SELECT address, kind FROM addresses WHERE kind IN ('lease', 'static') ORDER BY 1"
        )
        return [f"{'.'.join(map(str, r['address']))} {r['kind']}" for r in found]

    def inside(self, name: str = "web") -> list[str]:
        """Addresses in a container."""
        ns = box(name).ns
        things = self.kernel.things.values()
        return sorted(str(r.address) for r in things if isinstance(r, Addr) and r.ns == ns)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[OverlayBench]:
    b = OverlayBench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


def at(network: NetworkRecord, *addresses: str, **more: object) -> EndpointSpec:
    return on(network, addresses=addresses, **more)


def test_an_address_is_the_overlay_s_and_has_a_row_until_the_container_ends(
    bench: OverlayBench,
) -> None:
    lane = bench.network()
    bench.overlay.elsewhere = {"10.32.0.1"}
    (record,) = bench.net.open(box(), [on(lane)], [])
    assert record.addresses == ("10.32.0.2/24",)
    assert bench.overlay.addresses() == ["10.32.0.2"]
    assert bench.rows() == ["10.32.0.2 lease"]
    bench.net.close(box().id)
    assert bench.rows() == bench.overlay.addresses() == []


def test_where_no_overlay_is_launched_the_host_allocates_by_itself(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.overlay.launched = False
    (record,) = bench.net.open(box(), [at(lane, "net:default", "192.168.1.2/24")], [])
    assert record.addresses == ("10.32.0.1/24", "192.168.1.2/24")
    (other,) = bench.net.open(box("db"), [at(lane, "net:10.32.0.128/25")], [])
    assert other.addresses == ("10.32.0.129/25",)
    assert bench.rows() == ["10.32.0.1 lease", "10.32.0.129 lease", "192.168.1.2 lease"]
    with pytest.raises(InUse, match=r"192\.168\.1\.2 is held by container web"):
        bench.net.open(box("c"), [at(lane, "ip:192.168.1.2/24")], [])
    with pytest.raises(InvalidSpec, match=r"no subnet of network weave contains 10\.40\.0\.0/16"):
        bench.net.open(box("c"), [at(lane, "net:10.40.0.0/16")], [])


def test_several_addresses_are_on_one_interface_and_known_to_the_network(
    bench: OverlayBench,
) -> None:
    lane = bench.network()
    requested = ("192.168.1.2/24", "net:default", "ip:10.2.1.1/16")
    (record,) = bench.net.open(box(), [at(lane, *requested)], [])
    assert record.addresses == ("192.168.1.2/24", "10.32.0.1/24", "10.2.1.1/16")
    assert bench.inside() == ["10.2.1.1/16", "10.32.0.1/24", "192.168.1.2/24"]
    neighbours = {str(r.address): r.mac for r in bench.things().values() if isinstance(r, Neigh)}
    assert neighbours == dict.fromkeys(("192.168.1.2", "10.32.0.1", "10.2.1.1"), record.mac)
    assert bench.overlay.addresses() == ["10.2.1.1", "10.32.0.1", "192.168.1.2"]


def test_an_address_in_the_subnet_that_was_given_meets_a_request_for_any(
    bench: OverlayBench,
) -> None:
    lane = bench.network()
    for bench.overlay.launched in (True, False):
        (record,) = bench.net.open(box(), [at(lane, "net:default", "10.32.0.9/24")], [])
        assert record.addresses == ("10.32.0.9/24",)
        bench.net.close(box().id)


@pytest.mark.parametrize("launched", [True, False])
def test_of_several_addresses_the_first_is_released_where_the_second_fails(
    bench: OverlayBench, launched: bool
) -> None:
    lane, other = bench.network(), bench.net.find("bridge")
    bench.overlay.launched = launched
    bench.net.open(box("db"), [at(lane, "192.168.1.2/24")], [])
    before = bench.rows(), bench.overlay.addresses(), bench.things()
    twice = at(lane, "10.32.0.9/24", "net:default", "192.168.1.2/24")
    with pytest.raises(InUse, match=r"Address already in use: 192\.168\.1\.2 is held by"):
        bench.net.open(box(), [on(other), twice], [])
    assert (bench.rows(), bench.overlay.addresses(), bench.things()) == before
    bench.net.open(box(), [on(other)], [])
    before = bench.rows(), bench.overlay.addresses(), bench.things()
    with pytest.raises(InUse, match=r"192\.168\.1\.2"):
        bench.net.connect(box(), twice)
    assert (bench.rows(), bench.overlay.addresses(), bench.things()) == before


def test_an_address_of_another_host_is_refused_and_nothing_is_left(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.overlay.elsewhere = {"192.168.1.2"}
    with pytest.raises(InUse, match=r"Address already in use: 192\.168\.1\.2 is in use at h2"):
        bench.net.open(box(), [at(lane, "10.32.0.9/24", "192.168.1.2/24")], [])
    assert bench.rows() == bench.overlay.addresses() == []


def test_an_overlay_that_is_full_or_does_not_answer_refuses(bench: OverlayBench) -> None:
    lane = bench.network()
    for name in ("a", "b"):
        bench.net.open(box(name), [at(lane, "net:10.32.0.4/30")], [])
    with pytest.raises(Conflict, match="no available IPv4 addresses on this network's address"):
        bench.net.open(box("c"), [at(lane, "net:10.32.0.4/30")], [])
    bench.overlay.silent = True
    with pytest.raises(Busy, match="does not answer"):
        bench.net.open(box("c"), [on(lane)], [])
    bench.overlay.silent = False
    assert bench.overlay.addresses() == ["10.32.0.5", "10.32.0.6"]
    assert bench.rows() == ["10.32.0.5 lease", "10.32.0.6 lease"]


def test_what_was_allocated_before_the_launch_is_not_allocated_again(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.overlay.launched = False
    bench.net.open(box("a"), [on(lane)], [])
    bench.net.open(box("b"), [on(lane)], [])
    bench.overlay.launched = True  # and the rows are not claimed yet
    (record,) = bench.net.open(box("c"), [on(lane)], [])
    assert record.address == "10.32.0.3/24"
    assert bench.overlay.addresses() == ["10.32.0.3"]


@pytest.mark.parametrize("launched", [True, False])
def test_an_address_range_and_reserved_addresses_of_the_network_are_kept_to(
    bench: OverlayBench, launched: bool
) -> None:
    aux = {f"router{n}": f"10.32.0.{n}" for n in range(65, 90)}
    lane = bench.network(subnets=sub("10.32.0.0/24", ip_range="10.32.0.64/26", aux=aux))
    bench.overlay.launched = launched
    (record,) = bench.net.open(box(), [on(lane)], [])
    assert record.address in {"10.32.0.90/24", "10.32.0.64/24"}  # the overlay has no .64


def test_a_chosen_address_is_claimed_at_create_and_stays_while_the_container_exists(
    bench: OverlayBench,
) -> None:
    lane = bench.network()
    chosen = at(lane, "192.168.1.2/24", "net:default", ip="10.32.0.7")
    bench.net.reserve(box().id, [chosen])
    assert bench.overlay.addresses() == ["10.32.0.7", "192.168.1.2"]
    assert bench.rows() == ["10.32.0.7 static", "192.168.1.2 static"]
    with pytest.raises(InUse, match="is held by container"):
        bench.net.reserve(box("db").id, [at(lane, "10.32.0.8/24", "192.168.1.2/24")])
    assert bench.overlay.addresses() == ["10.32.0.7", "192.168.1.2"]
    (record,) = bench.net.open(box(), [chosen], [])
    assert record.addresses == ("10.32.0.7/24", "192.168.1.2/24")
    bench.net.close(box().id)
    assert bench.overlay.addresses() == ["10.32.0.7", "192.168.1.2"]
    bench.net.reserve(box().id, [at(lane, ip="10.32.0.7")])
    assert bench.overlay.addresses() == ["10.32.0.7"]
    bench.net.forget(box().id)
    assert bench.rows() == bench.overlay.addresses() == []


def test_an_address_of_another_host_cannot_be_reserved(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.overlay.elsewhere = {"10.32.0.9"}
    with pytest.raises(InUse, match=r"10\.32\.0\.9 is in use at h2"):
        bench.net.reserve(box().id, [at(lane, "192.168.1.2/24", "10.32.0.9/24")])
    assert bench.rows() == bench.overlay.addresses() == []


def test_addresses_are_the_same_after_a_restart_of_the_daemon(bench: OverlayBench) -> None:
    lane = bench.network()
    requested = at(lane, "net:default", "192.168.1.2/24")
    bench.net.reserve(box().id, [requested])
    bench.net.open(box(), [requested], [])
    before = bench.rows(), bench.overlay.addresses(), bench.things()
    bench.killed()
    bench.net.restore({box().id: box()})
    bench.overlay.notify_changed()
    assert (bench.rows(), bench.overlay.addresses(), bench.things()) == before
    bench.killed()
    bench.net.restore({})
    bench.overlay.notify_changed()
    assert bench.rows() == ["192.168.1.2 static"]
    assert bench.overlay.addresses() == ["192.168.1.2"]


def test_what_a_daemon_got_that_was_killed_before_it_had_a_row_is_released(
    bench: OverlayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network()

    def killed(*args: object) -> None:
        assert bench.overlay.has  # not released while the row is not there yet
        bench.overlay.notify_changed()
        assert bench.overlay.has
        raise SystemExit

    with monkeypatch.context() as m:
        m.setattr(bench.net._parts.addresses, "reserve", killed)
        m.setattr(bench.net._sandboxes, "_rollback_open", lambda *args, **given: None)
        with pytest.raises(SystemExit):
            bench.net.open(box(), [on(lane)], [])
    assert bench.overlay.addresses() == ["10.32.0.1"]
    bench.killed()
    bench.net.restore({})
    bench.overlay.notify_changed()
    assert bench.rows() == bench.overlay.addresses() == []


def test_a_failing_kernel_leaves_no_address(
    bench: OverlayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network()

    def refuse(op: Op) -> None:
        raise KernelError("refused")

    monkeypatch.setattr(bench.kernel, "_step", refuse)
    with pytest.raises(KernelError):
        bench.net.open(box(), [at(lane, "net:default", "192.168.1.2/24")], [])
    assert bench.rows() == bench.overlay.addresses() == []


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (["10.2.1.1"], r"invalid address '10\.2\.1\.1': it has no prefix length: write"),
        (["10.2.1.0/24"], r"network or broadcast address of 10\.2\.1\.0/24; any .* net:10\.2"),
        (["10.2.1.1/24", "ip:10.2.1.1/16"], r"10\.2\.1\.1/16: it is given twice"),
    ],
)
def test_what_is_no_request_is_refused_before_anything_is_done(
    bench: OverlayBench, addresses: list[str], message: str
) -> None:
    lane = bench.network()
    for act in (
        lambda: bench.net.reserve(box().id, [at(lane, *addresses)]),
        lambda: bench.net.open(box(), [at(lane, *addresses)], []),
    ):
        with pytest.raises(InvalidSpec, match=message):
            act()
    assert bench.overlay.calls == bench.rows() == []


def test_a_driver_with_one_address_refuses_requests(bench: OverlayBench) -> None:
    other = bench.net.create(NetworkSpec(name="back")).record
    with pytest.raises(InvalidSpec, match=r"network back is of the bridge driver, whose endpoints"):
        bench.net.reserve(box().id, [at(other, "172.18.0.9/16")])


def test_a_container_whose_addresses_do_not_reach_the_gateway_has_no_route_by_it(
    bench: OverlayBench,
) -> None:
    lane = bench.network(options={"expose": "true"})
    (inside,) = bench.net.open(box(), [on(lane)], [])
    assert (inside.gateway, inside.is_default) == ("10.32.0.1", True)
    (outside,) = bench.net.open(box("db"), [at(lane, "192.168.1.2/24")], [])
    assert (outside.gateway, outside.is_default) == ("", False)


def test_ports_lead_to_the_address_that_the_host_reaches(bench: OverlayBench) -> None:
    lane = bench.network(options={"expose": "true"})
    bench.net.open(box(), [at(lane, "192.168.1.2/24", "net:default")], [tcp(80, 21450)])
    rules = [r for r in bench.things().values() if isinstance(r, Rule)]
    targets = {a for r in rules for before, a in pairwise(r.args) if before == "--to-destination"}
    assert targets == {"10.32.0.2:80"}


@pytest.mark.parametrize(
    ("name", "words"),
    [("weave", r"netkit weave expose, leave out -p"), ("lane", r"make it with -o expose=true, ")],
)
def test_ports_of_a_network_that_is_not_exposed(
    bench: OverlayBench, name: str, words: str
) -> None:
    lane = bench.network(name)
    with pytest.raises(InvalidSpec, match=f"{name} publishes no ports: this host .*{words}"):
        bench.net.open(box(), [on(lane)], [tcp(80, 21452)])


def test_ports_are_not_published_where_the_host_reaches_no_address(bench: OverlayBench) -> None:
    lane, bridge = bench.network(options={"expose": "true"}), bench.net.find("bridge")
    outside = at(lane, "192.168.1.2/24")
    before = bench.things()
    with pytest.raises(InvalidSpec, match="weave publishes no ports of container web: none of its"):
        bench.net.open(box(), [outside], [tcp(80, 21452)])
    assert bench.things() == before
    bench.net.open(box(), [outside, on(bridge)], [tcp(80, 21452)])
    bench.net.open(box("db"), [at(lane, "192.168.1.3/24", "net:default")], [tcp(80, 21453)])
    with pytest.raises(InvalidSpec, match="weave publishes no ports of container db: none of its"):
        bench.net.readdress(box("db").id, at(lane, "192.168.1.3/24"))


def test_a_mac_address_is_made_of_the_address_that_owns_it_unless_a_container_has_it_still(
    bench: OverlayBench,
) -> None:
    lane = bench.network()
    (web,) = bench.net.open(box(), [at(lane, "10.32.0.5/24")], [])
    assert web.mac == "02:42:0a:20:00:05"
    changed = bench.net.readdress(box().id, at(lane, "10.32.0.6/24"))
    assert changed is not None
    assert changed.mac == web.mac
    (db,) = bench.net.open(box("db"), [at(lane, "10.32.0.5/24")], [])
    assert db.mac != web.mac
    (own,) = bench.net.open(box("own"), [at(lane, "10.32.0.7/24", mac="02:00:00:00:00:07")], [])
    assert own.mac == "02:00:00:00:00:07"
