"""What is left to netkit of an endpoint whose container's end another engine sets up."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from netkit.model import HOST, Addr, Fdb, Link, Peer, Resource, Route, Sysctl
from netkit.model.openvswitch import Offload, PortOffload
from netkit.network.endpoint_store import NO_NAMESPACE
from netkit.network.handover import handed_over, made_inside
from netkit.spec import Sandbox

INSIDE = "/var/run/docker/netns/1234"


def box(ns: str) -> Sandbox:
    return Sandbox(id="1" * 64, name="web", ns=ns, engine="docker", foreign=True, handover="nkd1")


def made(ns: str) -> list[Resource]:
    return [
        Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ns, owner="o"),
        Link(name="veth1", kind="veth", peer=Peer(ns=ns, name="eth0", mac="02:42:00:00:00:01")),
        Link(name="eth0", kind="macvlan", ns=ns, parent="nic"),
        Offload(dev="eth0", ns=ns, via="veth1", checksums=False),
        PortOffload(dev="eth0", ns=ns, via="veth1", port="veth1"),
        Addr(dev="eth0", address=IPv4Interface("10.0.0.2/24"), ns=ns),
        Route(dst=IPv4Network("0.0.0.0/0"), dev="eth0", ns=ns),
        Fdb(dev="veth1", mac="02:42:00:00:00:01"),
    ]


@pytest.mark.parametrize("ns", [NO_NAMESPACE, INSIDE])
def test_the_pair_is_made_with_both_ends_here(ns: str) -> None:
    found = list(handed_over(made(ns), box(ns)))
    (pair,) = (r for r in found if isinstance(r, Link) and r.kind == "veth")
    assert pair.peer is not None
    assert (pair.peer.ns, pair.peer.name, pair.peer.mac) == (HOST, "nkd1", "02:42:00:00:00:01")
    assert {getattr(r, "ns", HOST) for r in found} == {HOST}
    assert not any(isinstance(r, Sysctl | Addr | Route) for r in found)
    assert any(isinstance(r, Fdb) for r in found)


def test_what_moves_with_the_far_end_is_there_until_it_has_moved() -> None:
    before = list(handed_over(made(NO_NAMESPACE), box(NO_NAMESPACE)))
    assert ("link", HOST, "nkd1") in {r.key for r in before}
    left = [r for r in before if isinstance(r, Offload | PortOffload)]
    assert [(type(r), r.ns, r.dev) for r in left] == [
        (Offload, HOST, "nkd1"), (PortOffload, HOST, "nkd1")
    ]  # fmt: skip
    after = list(handed_over(made(INSIDE), box(INSIDE)))
    assert {type(r) for r in after} == {Link, Fdb}
    assert len(after) == 2


def test_a_pair_that_another_tool_deleted_is_made_with_what_was_at_its_far_end() -> None:
    pair, inside = made_inside(made(INSIDE), box(INSIDE))
    (link,) = pair.values()
    assert isinstance(link, Link)
    assert link.peer is not None
    assert (link.peer.ns, link.peer.name, link.peer.leaves) == (INSIDE, "eth0", True)
    assert {type(r) for r in inside.values()} == {Addr, Route, Offload, PortOffload}
    assert all(r.accept_existing for r in inside.values() if isinstance(r, Addr | Route))
