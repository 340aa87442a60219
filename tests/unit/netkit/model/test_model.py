"""Resources as values: what makes them the same, and what counts as a difference."""

from ipaddress import IPv4Interface

import pytest

from netkit.errors import Conflict
from netkit.model import Addr, Link, Peer, Rule, Sysctl, changed, state

OWNER = "netkit:e:n"
VETH = Link(name="v", kind="veth", peer=Peer(ns="/ns/a", name="eth0", mac="02:00:00:00:00:01"))


def test_none_is_no_opinion_only_where_the_type_says_so() -> None:
    have = Link(name="b", kind="bridge", mtu=1400, master="br0")
    assert changed(Link(name="b", kind="bridge"), have) == {"master"}
    assert changed(Link(name="b", kind="bridge", master="br0"), have) == frozenset()
    assert changed(Link(name="b", kind="bridge", master="br0", mtu=1500), have) == {"mtu"}


def test_a_peer_that_cannot_be_observed_is_no_difference() -> None:
    unseen = Link(name="v", kind="veth", peer=None)
    assert changed(VETH, unseen) == frozenset()
    moved = Link(name="v", kind="veth", peer=Peer(ns="/ns/b", name="eth0"))
    assert changed(VETH, moved) == {"peer"}


def test_the_mac_of_the_far_end_is_the_containers_own_business_once_it_is_born() -> None:
    other = Link(name="v", kind="veth", peer=Peer(ns="/ns/a", name="eth0", mac="02:0:0:0:0:7"))
    assert changed(VETH, other) == frozenset()


def test_the_owner_counts_where_the_kernel_keeps_a_mark_and_nowhere_else() -> None:
    ours = Link(name="b", kind="bridge", owner=OWNER)
    assert changed(ours, Link(name="b", kind="bridge")) == {"owner"}
    address = IPv4Interface("10.0.0.1/24")
    assert changed(Addr(dev="b", address=address, owner=OWNER), Addr(dev="b", address=address)) == (
        frozenset()
    )


def test_via_orders_steps_and_is_no_part_of_the_thing() -> None:
    address = IPv4Interface("10.0.0.2/24")
    inner = Addr(ns="/ns/a", dev="eth0", address=address, via="v")
    assert inner == Addr(ns="/ns/a", dev="eth0", address=address)
    assert inner.needs == (("link", "", "v"),)


def test_the_same_resource_twice_is_fine_and_contradiction_is_not() -> None:
    one = Sysctl(name="net/ipv4/ip_forward", value="1", owner="netkit:e:a")
    two = Sysctl(name="net/ipv4/ip_forward", value="1", owner="netkit:e:b")
    assert len(state([one, two])) == 1
    with pytest.raises(Conflict, match="ip_forward=0 is desired in two ways: value 0, not 1"):
        state([one, Sysctl(name="net/ipv4/ip_forward", value="0", owner="netkit:e:a")])


def test_a_rule_needs_its_chain_and_its_target() -> None:
    rule = Rule(table="nat", chain="A", args=("-s", "10.0.0.1", "-j", "B"))
    assert rule.needs == (("chain", "4", "nat", "A"), ("chain", "4", "nat", "B"))


def test_the_digest_of_a_rule_depends_on_all_that_makes_it_that_rule() -> None:
    args = ("-s", "10.0.0.1", "-j", "DROP")
    rules = [
        Rule(table="nat", chain="A", args=args),
        Rule(table="raw", chain="A", args=args),
        Rule(table="nat", chain="B", args=args),
        Rule(table="nat", chain="A", args=args, rank=1),
        Rule(table="nat", chain="A", args=args, family=6),
        Rule(table="nat", chain="A", args=(*args, "x")),
        Rule(table="nat", chain="A", args=("-s 10.0.0.1", "-j", "DROP")),
    ]
    assert len({r.digest for r in rules}) == len(rules)
