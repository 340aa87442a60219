"""Addresses of a running container are changed in one change of the kernel, or not at all; where
they can fail, see `test_faults` and `test_kills`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import InUse, InvalidSpec, KernelError, NotFound
from netkit.network.access import AccessRule
from netkit.network.config import NetworkConfig
from netkit.reconcile.plan import Op
from netkit.spec import NetworkRecord
from tests.unit.netkit.network.test_controller import IP, box, on
from tests.unit.netkit.network.test_overlay_addresses import OverlayBench, at


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[OverlayBench]:
    b = OverlayBench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


@pytest.fixture
def lane(bench: OverlayBench) -> NetworkRecord:
    made = bench.network()
    bench.net.open(box(), [on(made)], [])
    return made


def test_a_further_address_is_added_and_nothing_else_is_touched(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    before = bench.things()
    bench.kernel.log.clear()
    record = bench.net.readdress(box().id, at(lane, "net:default", "192.168.1.2/24"))
    assert record
    assert record.addresses == ("10.32.0.1/24", "192.168.1.2/24")
    assert bench.inside() == ["10.32.0.1/24", "192.168.1.2/24"]
    assert bench.rows() == ["10.32.0.1 lease", "192.168.1.2 static"]
    assert bench.overlay.addresses() == ["10.32.0.1", "192.168.1.2"]
    assert before.items() <= bench.things().items()
    assert all("192.168.1" in line for line in bench.kernel.log), bench.kernel.log
    assert bench.net.endpoints(sandbox=box().id) == [record]
    assert bench.names_seen.now[record.id] == record


def test_one_address_is_taken_away_and_the_others_stay(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    bench.net.readdress(box().id, at(lane, "net:default", "192.168.1.2/24", "10.2.1.1/16"))
    bench.kernel.log.clear()
    record = bench.net.readdress(box().id, at(lane, "192.168.1.2/24", "10.2.1.1/16"))
    assert record
    assert record.addresses == ("192.168.1.2/24", "10.2.1.1/16")
    assert bench.inside() == ["10.2.1.1/16", "192.168.1.2/24"]
    assert bench.rows() == ["10.2.1.1 static", "192.168.1.2 static"]
    assert bench.overlay.addresses() == ["10.2.1.1", "192.168.1.2"]
    assert all("10.32.0" in line for line in bench.kernel.log), bench.kernel.log
    assert bench.net.repair() == ((), False)


def test_the_mac_address_stays_whatever_address_is_the_first(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    (before,) = bench.net.endpoints(sandbox=box().id)
    after = bench.net.readdress(box().id, at(lane, "192.168.1.2/24"))
    assert after
    assert (after.id, after.mac, after.ifname) == (before.id, before.mac, before.ifname)


def test_the_next_start_has_the_same_addresses(bench: OverlayBench, lane: NetworkRecord) -> None:
    want = at(lane, "net:default", "192.168.1.2/24")
    record = bench.net.readdress(box().id, want)
    bench.killed()
    bench.net.restore({box().id: box()})
    assert bench.net.open(box(), [want], []) == [record]
    bench.net.close(box().id)
    assert bench.rows() == ["192.168.1.2 static"]


@pytest.mark.parametrize("launched", [True, False])
def test_an_address_of_another_s_is_refused_and_all_stays_as_it_was(
    bench: OverlayBench, lane: NetworkRecord, launched: bool
) -> None:
    bench.overlay.launched = launched
    bench.net.open(box("db"), [at(lane, "192.168.1.2/24")], [])
    before = bench.rows(), bench.overlay.addresses(), bench.things()
    for requested in (
        ("net:default", "10.2.1.1/24", "192.168.1.2/24"),
        ("net:10.32.0.128/25", "192.168.1.2/16"),
    ):
        with pytest.raises(InUse, match=r"192\.168\.1\.2"):
            bench.net.readdress(box().id, at(lane, *requested))
        assert (bench.rows(), bench.overlay.addresses(), bench.things()) == before


def test_what_the_kernel_refuses_is_undone_and_released(
    bench: OverlayBench, lane: NetworkRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bench.rows(), bench.overlay.addresses(), bench.things()
    records = bench.net.endpoints()

    def refuse(op: Op) -> None:
        raise KernelError("refused")

    with monkeypatch.context() as m:
        m.setattr(bench.kernel, "_step", refuse)
        with pytest.raises(KernelError, match="refused"):
            bench.net.readdress(box().id, at(lane, "net:default", "192.168.1.2/24"))
    assert (bench.rows(), bench.overlay.addresses(), bench.things()) == before
    assert bench.net.endpoints() == records


def test_rules_about_a_container_are_about_all_of_its_addresses(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    bench.net.open(box("db"), [at(lane, "10.32.0.9/24")], [])
    bench.net.add_access_rule(AccessRule(verdict="drop", target=box().id, source=box("db").id))

    def named(address: str) -> bool:
        return any(f"{address}/32" in str(r) for r in bench.things().values())

    bench.net.readdress(box().id, at(lane, "net:default", "192.168.1.2/24"))
    bench.net.readdress(box("db").id, at(lane, "10.32.0.9/24", "192.168.1.3/24"))
    for address in ("10.32.0.1", "192.168.1.2", "10.32.0.9", "192.168.1.3"):
        assert named(address)
    bench.net.readdress(box("db").id, at(lane, "10.32.0.9/24"))
    assert not named("192.168.1.3")
    assert bench.net.drift() == ()


def test_of_a_container_that_does_not_run_the_reservations_change(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    bench.net.close(box().id)
    bench.net.reserve(box().id, [at(lane, ip="10.32.0.7")])
    assert bench.net.readdress(box().id, at(lane, "192.168.1.2/24")) is None
    assert bench.rows() == ["192.168.1.2 static"]
    bench.overlay.elsewhere = {"192.168.1.3"}
    with pytest.raises(InUse, match="at h2"):
        bench.net.readdress(box().id, at(lane, "192.168.1.9/24", "192.168.1.3/24"))
    assert bench.rows() == ["192.168.1.2 static"]
    assert bench.overlay.addresses() == ["192.168.1.2"]


def test_only_who_is_on_such_a_network_can_be_readdressed(
    bench: OverlayBench, lane: NetworkRecord
) -> None:
    bridge = bench.net.find("bridge")
    bench.net.open(box("db"), [on(bridge)], [])
    with pytest.raises(NotFound, match="container db is not connected to network weave"):
        bench.net.readdress(box("db").id, on(lane))
    with pytest.raises(InvalidSpec, match="network bridge is of the bridge driver, whose endpoint"):
        bench.net.readdress(box("db").id, on(bridge))
    with pytest.raises(InvalidSpec, match="it has no prefix length"):
        bench.net.readdress(box().id, at(lane, "10.2.1.1"))
