"""The host joins or leaves a network: default routes of the containers that are there follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.model import Route
from netkit.network.config import NetworkConfig
from netkit.network.entry import NetworkEntry
from netkit.network.reconfigure import Reconfiguration
from netkit.reconcile.plan import Op
from netkit.spec import NetworkSpec
from tests.unit.netkit.network.test_controller import IP, box, on, sub
from tests.unit.netkit.network.test_overlay_addresses import OverlayBench, at

EXPOSED, HIDDEN = {"expose": "true"}, {"expose": "false"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[OverlayBench]:
    b = OverlayBench(tmp_path / "db", NetworkConfig(ip=IP))
    b.overlay.launched = False
    b.net.start()
    yield b
    b.database.close()


def default(bench: OverlayBench, name: str = "web") -> str:
    """The gateway of a container; "" if it has no default route."""
    found = [
        str(r.gateway)
        for r in bench.things().values()
        if isinstance(r, Route) and r.ns == box(name).ns
    ]
    assert len(found) < 2
    return found[0] if found else ""


def test_a_container_without_a_default_route_gets_one_and_loses_it(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.net.open(box(), [on(lane)], [])
    before = bench.things()
    assert default(bench) == ""
    bench.net.reconfigure("weave", EXPOSED)
    (record,) = bench.net.endpoints(sandbox=box().id)
    assert (record.gateway, record.is_default) == ("10.32.0.2", True)
    assert default(bench) == "10.32.0.2"
    bench.net.reconfigure("weave", EXPOSED, gateway="10.32.0.9")
    assert default(bench) == "10.32.0.9"
    bench.killed()
    bench.net.restore({box().id: box()})
    assert default(bench) == "10.32.0.9"
    bench.net.reconfigure("weave", HIDDEN)
    assert bench.things() == before
    (record,) = bench.net.endpoints(sandbox=box().id)
    assert (record.gateway, record.is_default) == ("", False)
    (late,) = bench.net.open(box("late"), [on(lane)], [])
    assert late.gateway == ""


def test_a_default_route_by_another_network_stays(bench: OverlayBench) -> None:
    lane, bridge = bench.network(), bench.net.find("bridge")
    zoo = bench.net.create(NetworkSpec(name="zoo", subnets=sub("10.60.0.0/24"))).record
    bench.net.open(box("a"), [on(bridge), on(lane)], [])
    bench.net.open(box("z"), [on(zoo), on(lane)], [])  # its name comes after weave's
    bench.net.open(box("first"), [on(zoo), on(lane, gw_priority=1)], [])
    bench.net.reconfigure("weave", EXPOSED)
    assert default(bench, "a") == "172.17.0.1"
    assert default(bench, "z") == "10.60.0.1"
    assert default(bench, "first") == str(bench.net.find("weave").spec.subnets[0].gateway)
    bench.net.reconfigure("weave", HIDDEN)
    assert default(bench, "first") == default(bench, "z") == "10.60.0.1"
    bench.net.reconfigure("weave", EXPOSED)
    bench.net.disconnect(box("z").id, zoo.id)
    assert default(bench, "z") == str(bench.net.find("weave").spec.subnets[0].gateway)


def test_a_container_with_no_address_of_the_subnet_gets_no_route(bench: OverlayBench) -> None:
    lane = bench.network()
    bench.net.open(box(), [at(lane, "192.168.1.2/24")], [])
    bench.net.reconfigure("weave", EXPOSED)
    assert default(bench) == ""
    bench.net.readdress(box().id, at(lane, "192.168.1.2/24", "net:default"))
    assert default(bench) == "10.32.0.1"
    bench.net.readdress(box().id, at(lane, "192.168.1.2/24"))
    assert default(bench) == ""


@pytest.mark.parametrize("first", [HIDDEN, EXPOSED])
def test_what_the_kernel_refuses_leaves_routes_and_addresses(
    bench: OverlayBench, first: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network(options=first)
    bench.net.open(box(), [on(lane)], [])
    records, things = bench.net.endpoints(), bench.things()

    def refuse(op: Op) -> None:
        if "default" in str(op) or "0.0.0.0/0" in str(op):
            raise KernelError("refused")
        step(op)

    step = bench.kernel._step
    other = HIDDEN if first == EXPOSED else EXPOSED
    with monkeypatch.context() as m:
        m.setattr(bench.kernel, "_step", refuse)
        with pytest.raises(KernelError, match="refused"):
            bench.net.reconfigure("weave", other)
    assert bench.net.endpoints() == records
    assert bench.things() == things
    bench.net.reconfigure("weave", other)
    assert bool(default(bench)) == (other == EXPOSED)


def test_what_is_on_its_way_to_the_kernel_is_no_drift(
    bench: OverlayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network()
    bench.net.open(box(), [on(lane)], [])
    converge, seen = Reconfiguration._converge, []

    def late(self: Reconfiguration, old: NetworkEntry, new: NetworkEntry) -> None:
        """A guard looks between the row and the kernel."""
        seen.extend([bench.net.drift(), bench.net.repair()])
        scope = bench.net.links.scopes.of()
        seen.append((new.config.owner in scope.busy, len(bench.net.check_links().drifts)))
        converge(self, old, new)

    monkeypatch.setattr(Reconfiguration, "_converge", late)
    for options in (EXPOSED, HIDDEN):
        bench.net.reconfigure("weave", options)
    assert seen == [(), ((), True), (True, 0)] * 2
    assert bench.net.repair() == ((), False)
