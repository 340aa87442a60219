"""What dockerd calls an interface is seen in the container, or nothing is made by a guess."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.frontends.libnetwork.interfaces import LONGEST, QUIET, SHORTEST, InterfaceNames
from netkit.model import HOST, LinkInside, Netns
from netkit.network.handover import FarEnd, lowest_free_name, seen_name
from tests.unit.netkit.frontends.libnetwork.dockerd import KEY, Host

FAR = FarEnd(ns=KEY, handover="nkd1", mark="netkit:e:net:end", prefix="eth")
LO = LinkInside(name="lo", mark="")


def link(name: str, mark: str = "") -> LinkInside:
    return LinkInside(name=name, mark=mark)


def test_a_far_end_is_the_one_whose_near_end_is_ours() -> None:
    links = [LO, link("eth0", "netkit:e:net:other"), link("eth1", FAR.mark), link("eth2")]
    assert seen_name(FAR, links) == "eth1"
    assert seen_name(FAR, links[:2]) == ""
    assert seen_name(FAR, []) == ""
    assert seen_name(FAR, [LO, link("nkd1", FAR.mark)]) == ""  # moved, and not renamed yet


def test_the_lowest_free_name_is_none_of_another_endpoint() -> None:
    assert lowest_free_name(FAR, [LO]) == "eth0"
    assert lowest_free_name(FAR, [LO, link("eth0"), link("eth2")]) == "eth1"
    taken = FarEnd(ns=KEY, handover="", mark="", prefix="lan", taken=frozenset({"lan0", ""}))
    assert lowest_free_name(taken, [LO]) == "lan1"


class Box:
    """The container's namespace, of a `Host`.  `near`: whether the host's end is there."""

    def __init__(self) -> None:
        self.inside: list[LinkInside] = []
        self.near = True
        self.asked = 0
        self.broken = False

    def links(self, ns: str) -> Collection[LinkInside]:
        assert ns == KEY
        self.asked += 1
        if self.broken:
            raise KernelError("no such namespace")
        return self.inside

    def is_there(self, mark: str) -> bool:
        return self.near


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    h.network_create("back", subnet="10.40.0.0/24")
    yield h
    h.database.close()


class Names(InterfaceNames):
    def __init__(self, host: Host, box: Box) -> None:
        self.clock = 0.0
        super().__init__(host.net, box, now=lambda: self.clock)


def mark_of(host: Host, name: str) -> str:
    far = host.net.far_end(host.sandbox(name))
    assert far is not None
    return far.mark


def called(host: Host, name: str) -> str:
    (record,) = host.net.endpoints(sandbox=host.sandbox(name))
    return record.ifname


def test_it_is_looked_for_from_the_join_on_until_it_is_seen(host: Host) -> None:
    box = Box()
    names = Names(host, box)
    assert names.look() is None
    host.run("back", "web")
    assert called(host, "web") == ""
    names.joined(host.sandbox("web"))
    assert names.look() == pytest.approx(QUIET)
    assert box.asked == 0
    names.clock += QUIET
    assert names.look() == pytest.approx(SHORTEST)  # the container's process is not there yet
    box.broken = True
    names.clock += SHORTEST
    assert names.look() == pytest.approx(SHORTEST)
    box.broken, box.inside = False, [LO, link("eth7", mark_of(host, "web"))]
    names.clock += SHORTEST
    assert names.look() is None
    assert called(host, "web") == "eth7"
    asked = box.asked
    names.joined(host.sandbox("web"))  # dockerd repeats a call
    names.look()
    names.clock += QUIET
    assert names.look() is None
    assert box.asked == asked


def test_the_longer_it_takes_the_less_often_it_is_looked_for(host: Host) -> None:
    box = Box()
    names = Names(host, box)
    host.run("back", "web")
    names.joined(host.sandbox("web"))
    while names.clock < 1000:
        pause = names.look()
        assert pause is not None
        names.clock += pause
    assert pause == pytest.approx(LONGEST)
    assert box.asked < 700
    host.stop("back", "web", "10.40.0.2")
    assert names.look() is None


def test_of_a_pair_deleted_before_the_name_is_free_once_the_container_is_known(host: Host) -> None:
    box = Box()
    names = Names(host, box)
    host.run("back", "web")
    box.inside, box.near = [LO, link("eth0")], False
    names.joined(host.sandbox("web"))
    names.look()
    names.clock += QUIET
    assert names.look() == pytest.approx(SHORTEST)
    assert called(host, "web") == ""  # dockerd may be about to rename another one
    host.net.identify(host.sandbox("web"), "c" * 64, "web", {})
    names.clock += 1
    assert names.look() is None
    assert called(host, "web") == "eth1"


def test_repair_waits_until_the_container_and_the_name_are_known(host: Host) -> None:
    host.run("back", "web")
    there = Netns(path=KEY)
    host.kernel.things[there.key] = there
    sandbox = host.sandbox("web")
    (near,) = (k for k in host.kernel.things if k[:2] == ("link", HOST) and k[2][:4] == "veth")

    def repaired() -> str:
        """The name of the far end, of a pair that another tool has deleted."""
        if near in host.kernel.things:
            host.kernel._remove(host.kernel.things[near])
        host.net.links.repair()
        return host.kernel.peers[near].name if near in host.kernel.things else ""

    assert repaired() == ""
    (drift,) = (d for d in host.net.links.check().drifts if d.wanted.resource.key == near)
    assert drift.note == (
        "waits until docker says whose it is, and has named the container's end"
    )
    host.net.name_interface(sandbox, "eth3")
    assert repaired() == ""  # of which network it has the default route depends on the others
    host.net.identify(sandbox, "c" * 64, "web", {})
    assert repaired() == "eth3"


def test_a_start_looks_for_what_was_not_known(host: Host) -> None:
    host.run("back", "web")
    host.run("back", "shop")
    host.net.name_interface(host.sandbox("web"), "eth0")
    host.restarted()
    box = Box()
    box.inside = [link("eth5", mark_of(host, "shop"))]
    names = Names(host, box)
    names.start = names._new.update  # type: ignore[assignment,method-assign]
    replace(host.front, interfaces=names).start()
    names.look()
    names.clock += QUIET
    assert names.look() is None
    assert (called(host, "web"), called(host, "shop")) == ("eth0", "eth5")


def test_join_wakes_the_search(host: Host) -> None:
    host.create("back", "web")
    assert host.front.interfaces._new == set()
    host.join("back", "web")
    assert host.front.interfaces._new == {host.sandbox("web")}
