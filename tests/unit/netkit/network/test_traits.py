"""Traits that host and none declare have the same effect for a third party's driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from netkit.driver import Traits, traits_of
from netkit.errors import Forbidden, InvalidSpec
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.network.validation import validate_network_spec
from netkit.spec import NetworkSpec, Sandbox
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.none import Null
from tests.unit.netkit.network.test_controller import DRIVERS, IP, Bench, box, on


class Tap(Null):
    """A third party's driver: in the host's namespace; users may create several networks."""

    name: ClassVar[str] = "tap"
    traits: ClassVar[Traits] = Traits(needs_host_namespace=True)


class Single(Null):
    name: ClassVar[str] = "single"
    traits: ClassVar[Traits] = Traits(single_instance=True)


class TownBench(Bench):
    def made(self) -> Controller:
        return Controller(
            self.database, self.inline, {**DRIVERS, "tap": Tap(), "single": Single()},
            Iptables(), engine="e1", settings=self.settings, ports=self.ports,
            now_ns=self.tick,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = TownBench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


def test_a_driver_that_declares_nothing_has_the_traits_of_most() -> None:
    assert traits_of(Bridge()) == Traits()


def test_containers_of_a_host_namespace_driver_are_in_the_host_namespace(bench: Bench) -> None:
    taps = [bench.net.create(NetworkSpec(name=n, driver="tap"))[0] for n in ("tap0", "tap1")]
    with pytest.raises(InvalidSpec, match="do not go together"):
        bench.net.open(box(), [on(taps[0])], [])
    on_host = Sandbox(id="5" * 64, name="h", ns="")
    assert len(bench.net.open(on_host, [on(t) for t in taps], [])) == 2
    with pytest.raises(InvalidSpec, match="do not go together"):
        bench.net.connect(on_host, on(bench.net.find("bridge")))


def test_of_a_single_instance_driver_users_create_no_network(bench: Bench) -> None:
    with pytest.raises(Forbidden, match='only one instance of "single" network is allowed'):
        bench.net.create(NetworkSpec(name="mine", driver="single"))


@pytest.mark.parametrize(
    ("spanning", "advice"),
    [((), "use --scope local"), (("ovs",), "use --driver ovs, or --scope local")],
)
def test_the_refusal_of_global_scope_names_drivers_that_have_it(
    spanning: tuple[str, ...], advice: str
) -> None:
    spec = NetworkSpec(name="mine", driver="tap", scope="global")
    with pytest.raises(InvalidSpec) as refusal:
        validate_network_spec(spec, Tap(), builtin=False, spanning=spanning)
    assert str(refusal.value) == f"the tap driver has no networks of scope global: {advice}"
