"""What is switched on and off of an interface that ovs-vswitchd reads, by what that can do."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from netkit.errors import KernelError
from netkit.kernel import ethtool
from netkit.kernel.ovs.port_offloads import PortOffloads
from netkit.model.openvswitch import PortOffload, SegmentedPort
from netkit.reconcile.plan import Op

VETH = {
    "tx-checksum-ip-generic": True,
    "tx-checksum-sctp": True,
    "tx-scatter-gather": True,
    "tx-tcp-segmentation": True,
    "tx-tcp6-segmentation": True,
    "tx-tcp-accecn-segmentation": True,
    "tx-udp-segmentation": True,
    "tx-udp_tnl-segmentation": True,
    "tx-gso-list": True,
    "rx-checksum": True,
    "rx-gro-list": False,
}
TCP = {"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"}
REST = {"tx-scatter-gather", "rx-checksum"}


@dataclass
class World:
    """A device, and an ovs-vswitchd that reads it at port nkv1."""

    release: tuple[int, int] = (3, 5)
    status: dict[str, str] = field(default_factory=lambda: {"tx_tcp_seg_offload": "true"})
    features: dict[str, bool] = field(default_factory=lambda: dict(VETH))
    answers: bool = True

    @property
    def on(self) -> set[str]:
        return {name for name, on in self.features.items() if on}

    def make(self, r: PortOffload) -> None:
        self.adapter.apply(SESSION, [Op(None, r)])

    def matched(self, r: PortOffload) -> bool:
        (seen,) = self.adapter.observe(SESSION, [r.key]).values()
        assert isinstance(seen, PortOffload)
        return seen.matched

    @property
    def adapter(self) -> PortOffloads:
        def view(read: Any, patience: float | None = None) -> Any:
            if not self.answers:
                raise KernelError("no answer")
            row = SimpleNamespace(name="nkv1", status=self.status)
            return read(SimpleNamespace(tables={"Interface": SimpleNamespace(rows={1: row})}))

        daemon: Any = SimpleNamespace(release=lambda: self.release)
        database: Any = SimpleNamespace(view=view)
        return PortOffloads(database, daemon)


SESSION: Any = SimpleNamespace(exists=lambda ns: True)
BOX = PortOffload(dev="eth0", ns="/run/c1", port="nkv1", via="nkv1")
ROUTED = PortOffload(dev="nko1", port="nko1")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    @contextmanager
    def opened(session: object, ns: str, dev: str) -> Iterator[Any]:
        if dev == "gone":
            raise OSError(errno.ENODEV, "No such device")

        def change(features: Mapping[str, bool]) -> None:
            made.features |= features

        yield SimpleNamespace(features=lambda: dict(made.features), change=change)

    monkeypatch.setattr(ethtool, "opened", opened)
    return made


def test_tcp_and_checksums_are_left_to_a_switch_that_segments(world: World) -> None:
    assert not world.matched(BOX)
    world.make(BOX)
    assert world.on == TCP | REST
    assert world.matched(BOX)


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ((3, 5), {"tx_tcp_seg_offload": "false"}),
        ((3, 1), {}),
        ((3, 4), {"tx_tcp_seg_offload": "true"}),
        ((0, 0), {"tx_tcp_seg_offload": "true"}),
    ],
)
def test_nothing_is_left_to_one_that_does_not_or_is_too_old(
    world: World, release: tuple[int, int], status: dict[str, str]
) -> None:
    world.release, world.status = release, status
    assert not world.matched(BOX)
    world.make(BOX)
    assert not any(name.startswith("tx-checksum") for name in world.on)
    assert world.matched(BOX)


def test_one_that_is_started_again_with_another_setting_no_longer_matches(world: World) -> None:
    world.make(BOX)
    world.status = {"tx_tcp_seg_offload": "false"}
    assert not world.matched(BOX)
    world.make(BOX)
    world.status = {"tx_tcp_seg_offload": "true"}
    assert not world.matched(BOX)


@pytest.mark.parametrize(("release", "left"), [((3, 5), False), ((4, 0), True)])
def test_where_tunnels_may_come_from_it_depends_on_the_version(
    world: World, release: tuple[int, int], left: bool
) -> None:
    world.release = release
    world.make(PortOffload(dev="eth0", ns="/run/c1", port="nkv1", tunnels=True))
    assert world.on.issuperset(TCP) == left


def test_of_a_local_port_only_what_an_old_version_set_is_switched_off(world: World) -> None:
    assert world.matched(ROUTED)
    world.release = (3, 1)
    assert not world.matched(ROUTED)
    world.make(ROUTED)
    assert "tx-checksum-ip-generic" not in world.on
    assert world.matched(ROUTED)


def test_a_port_that_gives_segments_is_refused_where_they_would_be_dropped(world: World) -> None:
    port = SegmentedPort(port="nkv1")
    world.adapter.apply(SESSION, [Op(None, port)])
    world.status = {"tx_tcp_seg_offload": "false"}
    (seen,) = world.adapter.observe(SESSION, [port.key]).values()
    assert seen == SegmentedPort(port="nkv1", segmenting=False)
    with pytest.raises(KernelError, match=r"nkv1.*userspace-tso-enable"):
        world.adapter.apply(SESSION, [Op(seen, port)])
    world.adapter.apply(SESSION, [Op(port, seen)])  # an undo


def test_without_an_answer_of_open_vswitch_nothing_differs(world: World) -> None:
    world.answers = False
    assert world.matched(BOX)


def test_a_device_that_is_gone_is_not_seen(world: World) -> None:
    gone = PortOffload(dev="gone", port="nkv1")
    assert world.adapter.observe(SESSION, [gone.key]) == {}
