"""Address lists on a kernel made of a dict, and on Linux with either iptables."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from netkit.errors import Conflict, KernelError
from netkit.model import Rule
from netkit.model.ipset import IpSet
from netkit.reconcile.plan import Op

OURS = "netkit:0:aaaaaaaaaaaa"
FOREIGN = "netkit:9:bbbbbbbbbbbb"


def _set(*members: str, name: str = "nks-0123456789ab", owner: str = OURS) -> IpSet:
    return IpSet(name=name, members=tuple(sorted(map(ip_network, members))), owner=owner)


def _rule(of: IpSet) -> Rule:
    args = f"-m set --match-set {of.name} src -j DROP"
    return Rule(table="filter", chain="FORWARD", args=tuple(args.split()), owner=of.owner)


def test_a_set_is_observed_as_desired(world):
    some = _set("10.1.0.0/16", "192.0.2.1/32", "192.0.2.0/31")
    world.make(some)
    assert world.seen(some) == {some.key: some}
    assert world.make(some) == ()


def test_a_long_set_is_seen_whole(world):
    some = _set(*(f"10.{i >> 8}.{i & 255}.0/24" for i in range(3000)))
    world.make(some)
    assert world.seen(some) == {some.key: some}
    assert world.kernel.owned(OURS) == {some.key: some}


def test_its_members_change_in_place_while_a_rule_refers_to_it(world):
    before, after = _set("10.1.0.0/16", "10.2.0.0/16"), _set("10.2.0.0/16", "10.3.0.0/24")
    world.make(before, _rule(before))
    assert world.make(after, _rule(after)) == (Op(before, after),)
    assert world.seen(after) == {after.key: after}
    assert set(world.kernel.owned(OURS)) == {after.key, _rule(after).key}


def test_rules_come_after_their_sets_and_go_before_them(world):
    some = _set("10.1.0.0/16")
    assert [op.subject.key[0] for op in world.make(_rule(some), some)] == ["ipset", "rule"]
    assert [op.subject.key[0] for op in world.drop(some, _rule(some))] == ["rule", "ipset"]
    assert world.seen(some) == {}


def test_a_set_in_use_is_not_removed(world):
    some = _set("10.1.0.0/16")
    world.make(some, _rule(some))
    with pytest.raises(KernelError, match="nks-0123456789ab"):
        world.kernel.apply([Op(some, None)])
    assert world.seen(some) == {some.key: some}


def test_a_foreign_set_is_not_taken_over(world):
    theirs = _set("10.1.0.0/16", owner=FOREIGN)
    world.kernel.apply([Op(None, theirs)])
    with pytest.raises(Conflict, match="another netkit, engine"):
        world.make(_set("10.2.0.0/16"))
    assert world.drop(_set("10.1.0.0/16")) == ()
    assert world.seen(theirs) == {theirs.key: theirs}
    assert world.kernel.owned(OURS) == {}


def test_what_cannot_be_a_member_leaves_no_set(world):
    bad = _set("0.0.0.0/0", "10.0.0.0/8")
    with pytest.raises(KernelError, match=r"0\.0\.0\.0/0 cannot be a member"):
        world.make(bad)
    assert world.seen(bad) == {}
    good = _set("10.0.0.0/8")
    world.make(good)
    with pytest.raises(KernelError):
        world.make(bad)
    assert world.seen(good) == {good.key: good}
    assert set(world.kernel.owned(OURS)) == {good.key}


def test_an_empty_set_can_be_filled_and_emptied(world):
    empty, some = _set(), _set("10.1.0.0/16")
    world.make(empty)
    assert world.make(empty) == ()
    world.make(some)
    world.make(empty)
    assert world.seen(empty)[empty.key].members == ()
    world.drop(empty)
    assert world.seen(empty) == {}


def test_a_failed_change_leaves_the_set_as_it_was(world):
    before = _set("10.1.0.0/16")
    world.make(before)
    bad = Rule(table="nat", chain="NOWHERE", args=("-j", "ACCEPT"), owner=OURS)
    with pytest.raises(KernelError):
        world.make(replace(before, members=_set("10.2.0.0/16").members), bad)
    assert world.seen(before) == {before.key: before}
