"""What netkit.reconcile.converge.Kernel promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from netkit.errors import Conflict, KernelError
from netkit.model import (
    PORT_FLAGS,
    Addr,
    BridgeRedirect,
    Chain,
    Fdb,
    Key,
    Link,
    Neigh,
    Netns,
    Peer,
    Resource,
    Route,
    Rule,
    State,
    Sysctl,
    changed,
    state,
)
from netkit.model.nftables import NftRule
from netkit.reconcile.converge import Change, Kernel
from netkit.reconcile.plan import Op

OURS = "netkit:0:aaaaaaaaaaaa"
FOREIGN = "netkit:9:bbbbbbbbbbbb"
MAC = "02:42:00:00:00:99"
WIRES = 2  # the phase of what is no matter of the firewall


def test_what_was_made_is_observed_as_desired(world):
    desired = [*world.network(), *world.container(1)]
    world.make(*desired)
    seen = world.seen(*desired)
    assert {r.key: changed(r, seen[r.key]) for r in desired} == {
        r.key: frozenset() for r in desired
    }


def test_making_it_again_does_nothing(world):
    desired = [*world.network(), *world.container(1)]
    assert len(world.make(*desired)) == len(desired)
    assert world.make(*desired) == ()


def test_only_what_is_asked_for_is_seen(world):
    world.make(*world.network(), *world.container(1), *world.container(2))
    some = world.container(1)[1:3]
    assert set(world.seen(*some)) == {r.key for r in some}


def test_what_is_not_there_is_not_seen(world):
    nowhere = [
        *world.network()[:3],
        *world.container(1),
        Route(dst=ip_network("10.9.0.0/16"), dev="br0"),
        Neigh(dev="br0", address=ip_address("10.77.0.9"), mac="02:00:00:00:00:01"),
        Fdb(dev="veth1", mac="02:00:00:00:00:01"),
        Sysctl(name="net/ipv4/conf/nosuchlink/forwarding", value="1"),
        Sysctl(name="net/ipv4/ip_forward", value="1", ns=world.ns("never")),
    ]
    assert world.seen(*nowhere) == {}


def test_what_is_dropped_is_deleted_and_the_rest_stays(world):
    world.make(*world.network(), *world.container(1), *world.container(2))
    world.drop(*world.container(1))
    assert world.seen(*world.container(1)) == {}
    assert len(world.seen(*world.container(2))) == len(world.container(2))
    assert world.drop(*world.container(1)) == ()


def test_several_links_are_dropped_together(world):
    containers = [r for n in range(1, 5) for r in world.container(n)]
    world.make(*world.network(), *containers, *world.container(9))
    world.drop(*containers)
    assert world.seen(*containers) == {}
    assert len(world.seen(*world.container(9))) == len(world.container(9))


@pytest.mark.parametrize(
    "to",
    [
        {"mtu": 1400},
        {"gso_max_size": 62000},
        {"mtu": 1400, "gso_max_size": 62000, "master": None},
        {"up": False},
        {"mac": "02:42:00:00:00:99"},
        {"hairpin": True},
        {"isolated": True},
        {"locked": True},
        {"learning": False},
        {"flood": False, "mcast_flood": False, "bcast_flood": False},
        {"neigh_suppress": True},
        {"master": None},
        {"mtu": 1300, "hairpin": True, "isolated": True, "locked": True},
    ],
    ids=str,
)
def test_a_link_changes_in_place_and_back(world, to):
    world.make(*world.network(), *world.container(1))
    before = world.container(1)[1]
    start = world.seen(before)[before.key]
    after = replace(before, **to)
    assert [(o.before is None, o.after is None) for o in world.make(after)] == [(False, False)]
    seen = world.seen(before)[before.key]
    assert {k: getattr(seen, k) for k in to} == to
    world.kernel.apply([Op(seen, start)])
    assert changed(start, world.seen(before)[before.key]) == frozenset()
    assert len(world.seen(*world.container(1))) == len(world.container(1))


def test_iptables_is_shown_the_frames_of_one_bridge_or_not(world):
    bridge = Link(name="br1", kind="bridge", filtered=True, owner=OURS)
    for variant in (bridge, replace(bridge, filtered=False), bridge):
        assert len(world.make(variant)) == 1
        assert world.seen(variant)[variant.key].filtered == variant.filtered


def test_a_bridge_hears_who_listens_to_multicast_or_not(world):
    bridge = Link(name="br1", kind="bridge", owner=OURS)
    world.make(bridge)
    assert world.seen(bridge)[bridge.key].snooping is True
    for snooping in (False, True):
        assert len(world.make(replace(bridge, snooping=snooping))) == 1
        seen = world.seen(bridge)[bridge.key]
        assert (seen.snooping, seen.filtered) == (snooping, False)


def test_a_link_moves_to_another_bridge_with_its_port_flags(world):
    world.make(*world.network(), Link(name="br1", kind="bridge", owner=OURS), *world.container(1))
    on = ("hairpin", "isolated", "locked", "neigh_suppress")
    flags = {name: name in on for name in PORT_FLAGS}
    link = replace(world.container(1)[1], master="br1", **flags)
    world.make(link)
    seen = world.seen(link)[link.key]
    assert seen.master == "br1"
    assert {name: getattr(seen, name) for name in flags} == flags


def _ends_of_an_overlay() -> list[Link]:
    """Return a TAP and a VXLAN device as ports of br0."""
    flags = {"isolated": True, "learning": False, "flood": False, "neigh_suppress": True}
    tunnel = (("df", "set"), ("dstport", "6784"), ("id", "77"), ("learning", "off"), ("ttl", "64"),
              ("udpcsum", "on"))  # fmt: skip
    return [
        Link(name="wt0", kind="tap", master="br0", mtu=1400, gso_max_size=62000, owner=OURS,
             **flags),
        Link(name="wx0", kind="vxlan", options=tunnel, master="br0", mtu=1400, mac=MAC,
             up=False, owner=OURS, **flags),
    ]  # fmt: skip


@pytest.mark.parametrize("which", [0, 1], ids=["tap", "vxlan"])
def test_an_end_of_an_overlay_is_made_and_deleted(world, which):
    link = _ends_of_an_overlay()[which]
    world.make(*world.network(), link)
    assert world.make(link) == ()
    assert changed(link, world.seen(link)[link.key]) == frozenset()
    world.make(replace(link, mtu=1300, isolated=False))
    seen = world.seen(link)[link.key]
    assert (seen.mtu, seen.isolated, seen.master) == (1300, False, "br0")
    world.drop(link)
    assert world.seen(link) == {}
    world.kernel.apply([Op(None, seen)])  # as an undo would
    assert changed(seen, world.seen(link)[link.key]) == frozenset()


def test_a_tunnel_with_another_number_is_made_anew(world):
    link = _ends_of_an_overlay()[1]
    world.make(*world.network(), link)
    other = tuple((name, "78" if name == "id" else value) for name, value in link.options)
    plan = world.make(replace(link, options=other))
    assert [(o.before is None, o.after is None) for o in plan] == [(False, True), (True, False)]
    assert world.seen(link)[link.key].options == other


@pytest.mark.parametrize("bad", [{"master": "nosuch"}, {"name": "br0"}], ids=str)
def test_a_tap_that_cannot_be_made_leaves_nothing(world, bad):
    world.make(*world.network())
    tap = _ends_of_an_overlay()[0]
    before = world.seen(tap, *world.network()).keys()
    with pytest.raises(KernelError) as e:
        world.kernel.apply([Op(None, replace(tap, name="wt1")), Op(None, replace(tap, **bad))])
    assert e.value.done == 1
    first = replace(tap, name="wt1")
    world.kernel.apply([Op(world.seen(first)[first.key], None)])
    assert world.seen(tap, *world.network()).keys() == before


def _on_a_nic(world) -> list[Resource]:
    """Return a link in a container's namespace with its parent on the host, and its address."""
    ns, owner, mac = world.ns("c1"), f"{OURS}:000000000001", "02:42:0a:4d:00:09"
    link = Link(
        name="eth0", kind="macvlan", ns=ns, parent="nic0", options=(("mode", "bridge"),),
        mac=mac, mtu=1400, owner=owner,
    )  # fmt: skip
    return [
        Link(name="nic0", kind="veth", peer=Peer(ns="", name="nic1"), owner=OURS),
        Netns(path=ns, owner=owner),
        link,
        Addr(dev="eth0", address=ip_interface("10.9.0.2/24"), ns=ns, owner=owner),
    ]


def test_a_link_hangs_on_one_of_the_host_in_a_namespace_of_its_own(world):
    parent, space, link, _address = desired = _on_a_nic(world)
    assert len(world.make(*desired)) == len(desired)
    assert world.make(*desired) == ()
    seen = world.seen(*desired)
    assert {r.key: changed(r, seen[r.key]) for r in desired} == {
        r.key: frozenset() for r in desired
    }
    any_nic = Link(name="nic0", kind=None, up=None, accept_existing=True)
    assert world.make(any_nic) == ()
    there = seen[link.key]
    assert (there.parent, there.options, there.owner) == ("nic0", link.options, link.owner)
    world.drop(link)
    assert set(world.seen(*desired)) == {parent.key, space.key}
    world.make(*desired)
    private = replace(link, options=(("mode", "private"),))
    assert [(o.before is None, o.after is None) for o in world.make(*desired[:2], private)] == [
        (False, True), (True, False),
    ]  # fmt: skip
    assert world.seen(link)[link.key].options == private.options
    world.make(*desired)
    world.drop(parent)
    assert set(world.seen(*desired)) == {space.key}


def test_a_mac_address_belongs_to_a_port_until_it_or_the_port_is_deleted(world):
    first, second = world.container(1), world.container(2)
    world.make(*world.network(), *first, *second)
    ports = first[1], second[1]
    mine, other = (Fdb(dev=p.name, mac=p.peer.mac, owner=p.owner) for p in ports)
    borrowed = replace(mine, dev=ports[1].name)
    assert len(world.make(mine, other)) == 2
    assert world.make(mine, other) == ()
    assert set(world.seen(mine, other, borrowed)) == {mine.key, other.key}
    world.drop(other)
    assert set(world.seen(mine, other)) == {mine.key}
    world.drop(*first)
    assert world.seen(mine) == {}


def test_a_redirect_is_made_and_deleted_also_with_its_port(world):
    first = world.container(1)
    world.make(*world.network(), *first)
    redirect = BridgeRedirect(
        dev=first[1].name, bridge="br0", mac=first[1].peer.mac, owner=first[1].owner
    )
    assert world.seen(redirect) == {}
    assert len(world.make(redirect)) == 1
    assert world.make(redirect) == ()
    world.drop(redirect)
    assert world.seen(redirect) == {}
    world.make(redirect)
    world.drop(*first)
    assert world.seen(redirect) == {}


def test_routes_neighbours_and_settings_change_in_place(world):
    world.make(*world.network())
    near, far = ip_address("10.77.0.8"), ip_address("10.77.0.9")
    route = Route(dst=ip_network("10.9.0.0/16"), dev="br0", gateway=near, owner=OURS)
    neigh = Neigh(dev="br0", address=near, mac="02:00:00:00:00:01", owner=OURS)
    setting = Sysctl(name="net/ipv4/conf/br0/route_localnet", value="1", owner=OURS)
    first = [route, neigh, setting]
    world.make(*first)
    second = [
        replace(route, gateway=far),
        replace(neigh, mac="02:00:00:00:00:02"),
        replace(setting, value="0"),
    ]
    plan = world.make(*second)
    assert all(op.before and op.after for op in plan)
    assert len(plan) == 3
    seen = world.seen(*second)
    assert [changed(r, seen[r.key]) for r in second] == [frozenset()] * 3
    world.drop(*second)
    assert set(world.seen(*second)) == {setting.key}  # a setting cannot be deleted


def test_a_setting_of_a_container_is_its_own(world):
    inside = Sysctl(name="net/ipv4/conf/default/rp_filter", value="2", ns=world.ns("c1"))
    outside = Sysctl(name="net/ipv4/conf/default/rp_filter", value="1")
    world.make(Netns(path=world.ns("c1"), owner=OURS), inside, outside)
    seen = world.seen(inside, outside)
    assert (seen[inside.key].value, seen[outside.key].value) == ("2", "1")


# -- failures ----------------------------------------------------------------


class Breaks:
    """Wraps a kernel whose n-th step fails, once."""

    def __init__(self, kernel: Kernel, at: int) -> None:
        self.kernel, self.at = kernel, at

    def observe(self, keys: Iterable[Key]) -> State:
        return self.kernel.observe(keys)

    def owned(self, prefix: str) -> State:
        return self.kernel.owned(prefix)

    def apply(self, ops: Sequence[Op]) -> None:
        if 0 <= self.at < len(ops):
            at, self.at = self.at, -1
            self.kernel.apply(ops[:at])
            raise KernelError("injected", done=at)
        self.kernel.apply(ops)


def _whole(world) -> list[Resource]:
    return [*world.network(), *world.container(1), *world.container(2)]


@pytest.mark.parametrize("at", range(0, 9, 2))
def test_a_failure_at_any_step_of_making_leaves_nothing(world, at):
    world.make(*world.network())
    before = world.kernel.owned("netkit:")
    world.kernel = Breaks(world.kernel, at)
    with pytest.raises(KernelError) as e:
        world.make(*_whole(world))
    assert getattr(e.value, "__notes__", []) == []
    assert world.seen(*world.container(1), *world.container(2)) == {}
    assert world.kernel.owned("netkit:").keys() == before.keys()


@pytest.mark.parametrize("at", range(1, 10, 2))
def test_a_failure_at_any_step_of_dropping_leaves_everything(world, at):
    world.make(*_whole(world))
    world.kernel = Breaks(world.kernel, at)
    with pytest.raises(KernelError) as e:
        world.drop(*world.container(1), *world.container(2))
    assert getattr(e.value, "__notes__", []) == []
    assert world.make(*_whole(world)) == ()


def _impossible(world) -> dict[str, Resource]:
    ns = world.ns("c1")
    return {
        "route": Route(
            dst=ip_network("10.8.0.0/16"),
            dev="eth0",
            ns=ns,
            gateway=ip_address("192.168.9.9"),
            via="veth1",
            owner=OURS,
            depends_on=(world.container(1)[3].key,),
        ),
        "link": Link(
            name="veth3", kind="veth", peer=Peer(ns=ns, name="eth1"), master="nosuch", owner=OURS
        ),
        "peer": Link(name="veth3", kind="veth", peer=Peer(ns=ns, name="eth0"), owner=OURS,
                     depends_on=(world.container(1)[1].key,)),
        "address": Addr(dev="nosuch", address=ip_interface("10.6.0.1/24"), owner=OURS),
        "rule": NftRule(table="netkit", chain="nosuch", expression="accept", owner=OURS)
        if world.native
        else Rule(table="nat", chain="NOSUCH", args=("-j", "ACCEPT"), owner=OURS),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["route", "link", "peer", "address", "rule"])
def test_what_linux_refuses_undoes_the_rest(world, which):
    world.make(*world.network())
    before = world.kernel.owned("netkit:")
    with pytest.raises(KernelError) as e:
        world.make(*world.network(), *world.container(1), _impossible(world)[which])
    assert getattr(e.value, "__notes__", []) == []
    assert world.kernel.owned("netkit:").keys() == before.keys()
    assert world.seen(*world.container(1)) == {}


@pytest.mark.parametrize("which", ["route", "link", "peer", "address", "rule"])
def test_done_counts_the_steps_that_took_effect(world, which):
    world.make(*world.network())
    bad = _impossible(world)[which]
    first = [r for r in world.container(1) if r.order >= WIRES]
    ops = [Op(None, r) for r in (*first, bad, *world.container(2)[:2])]
    with pytest.raises(KernelError) as e:
        world.kernel.apply(ops)
    assert e.value.done == len(first)
    assert set(world.seen(*first, bad, *world.container(2))) == {r.key for r in first}


def test_steps_after_the_first_failure_take_no_effect(world):
    """Steps after the failed one are not done, though they are independent and in its batch."""
    world.make(*world.network(), *world.container(1))
    one, two, three = (Link(name=f"br{n}", kind="bridge", owner=OURS) for n in (1, 2, 3))
    taken = replace(one, name="br0", mtu=1300)
    with pytest.raises(KernelError) as e:
        world.kernel.apply([Op(None, r) for r in (one, taken, two, three)])
    assert e.value.done == 1
    near, far = (
        Addr(dev="br0", address=ip_interface(f"10.{n}.0.1/24"), owner=OURS) for n in (8, 9)
    )
    with pytest.raises(KernelError) as e:
        world.kernel.apply([Op(None, r) for r in (near, near, far)])
    assert e.value.done == 1
    assert set(world.seen(one, two, three, near, far)) == {one.key, near.key}
    assert world.make(*world.network(), *world.container(1)) == ()


def test_a_link_that_exists_is_neither_made_nor_hurt(world):
    """Another tool changed the kernel between our observation and our step."""
    theirs = Link(name="veth1", kind="bridge", mtu=1450, owner=FOREIGN)
    world.make(*world.network())
    world.kernel.apply([Op(None, theirs)])
    ops = [Op(None, r) for r in world.container(1)]
    with pytest.raises(KernelError):
        world.kernel.apply(ops)
    seen = world.seen(theirs)[theirs.key]
    assert changed(theirs, seen) == frozenset()
    assert seen.master is None


# -- what is not ours ---------------------------------------------------------


def test_a_foreign_link_of_another_kind_is_a_conflict_and_nothing_is_touched(world):
    theirs = Link(name="br0", kind="veth", peer=Peer(ns="", name="far0"), owner=FOREIGN)
    world.kernel.apply([Op(None, theirs)])
    with pytest.raises(Conflict):
        world.make(*world.network())
    assert set(world.seen(*world.network(), theirs)) == {theirs.key}


def test_foreign_things_are_not_dropped(world):
    theirs = [
        Link(name="br9", kind="bridge", owner=FOREIGN),
        Addr(dev="br9", address=ip_interface("10.99.0.1/24"), owner=FOREIGN),
        Chain(table="filter", name="THEIRS", owner=FOREIGN),
        Rule(table="filter", chain="THEIRS", args=("-j", "DROP"), owner=FOREIGN),
    ]
    world.kernel.apply([Op(None, r) for r in theirs])
    assert world.drop(*theirs) == ()
    assert set(world.seen(*theirs)) == {r.key for r in theirs}


def test_owned_finds_ours_and_no_foreign_ones(world):
    world.make(*world.network(), *world.container(1))
    world.kernel.apply([Op(None, Link(name="br9", kind="bridge", owner=FOREIGN))])
    ours = set(world.kernel.owned("netkit:0:"))
    tagged = {r.key for r in (*world.network(), *world.container(1)) if r.carries_owner}
    assert tagged <= ours
    assert ("link", "", "br9") not in ours
    assert ("link", "", "br9") in world.kernel.owned("netkit:")


def test_a_sweep_removes_all_that_is_ours(world):
    world.make(*world.network(), *world.container(1), *world.container(2))
    world.change(Change({}, frozenset(world.kernel.owned("netkit:0:"))))
    tagged = [r for r in (*world.network(), *world.container(1)) if r.carries_owner]
    assert world.seen(*tagged, world.container(1)[0]) == {}


def test_state_of_everything_together_is_consistent(world):
    """A change that replaces one container by another in one go."""
    world.make(*world.network(), *world.container(1))
    world.change(Change.of(state(world.container(2)), state(world.container(1))))
    assert world.seen(*world.container(1)) == {}
    assert len(world.seen(*world.container(2))) == len(world.container(2))


def test_a_namespace_of_another_engine_is_joined_and_left_as_it_was(world):
    elsewhere = replace(world.container(1)[0], path=f"{world.folder}-other/c1")
    world.kernel.apply([Op(None, elsewhere)])
    try:
        required = Netns(path=elsewhere.path, accept_existing=True)
        desired = [required, *moved(world.container(1)[1:4], elsewhere.path)]
        world.make(*world.network())
        assert len(world.make(*desired)) == 3
        assert len(world.seen(*desired)) == 4
        assert world.make(*desired) == ()
        world.drop(*desired)
        assert set(world.seen(*desired)) == {required.key}
    finally:
        world.kernel.apply([Op(elsewhere, None)])
        world.forget(elsewhere.path)


def test_a_namespace_of_another_engine_has_to_exist(world):
    required = Netns(path=f"{world.folder}-other/c1", accept_existing=True)
    before = world.seen(*world.network())
    with pytest.raises(Conflict, match="must exist, and is not netkit's to make"):
        world.make(*world.network(), required)
    assert world.seen(*world.network()) == before


def moved(resources: Iterable[Resource], path: str) -> list[Resource]:
    """The same in another namespace."""
    out: list[Resource] = []
    for r in resources:
        if isinstance(r, Link) and r.peer is not None:
            out.append(replace(r, peer=replace(r.peer, ns=path)))
        elif isinstance(r, Route):
            (addr,) = (("addr", path, *key[2:]) for key in r.depends_on)
            out.append(replace(r, ns=path, depends_on=(addr,)))
        elif isinstance(r, Addr):
            out.append(replace(r, ns=path))
    return out
