"""Laws of planning, for every pair of states hypothesis can think of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netkit.errors import Conflict, KernelError
from netkit.model import (
    Addr,
    Chain,
    Fdb,
    Link,
    Netns,
    Peer,
    Resource,
    Route,
    Rule,
    State,
    Sysctl,
    state,
)
from netkit.reconcile.converge import Change, converge, execute, fill_unobservable, ownership
from netkit.reconcile.plan import Op, diff
from netkit.testing.kernel import NETNS, FakeKernel

OWNER = "netkit:e:n1"
mine = ownership("e", NETNS)
BRIDGES, VETHS, NAMESPACES = ("b0", "b1", "b2"), ("v0", "v1", "v2"), ("a", "b")
LAST = range(1, 4)  # of addresses in 10.0.0.0/24
T = TypeVar("T")


@st.composite
def hosts(draw: st.DrawFn) -> State:
    """Draw a desired state of a host: bridges, pairs into namespaces, rules, settings.

    Few draws, each among whole alternatives: hypothesis is most of what these tests cost.
    """
    bridges = draw(st.sampled_from(subsets(BRIDGES)))
    spaces = draw(st.sampled_from(subsets(NAMESPACES)))
    veths = draw(st.sampled_from(subsets(VETHS))) if spaces else ()
    out = [Netns(path=f"{NETNS}/{s}", owner=OWNER) for s in spaces]
    parts = [*map(any_bridge, bridges), *(any_pair(v, spaces, bridges) for v in veths), any_rules()]
    return state([*out, *(r for part in parts for r in draw(part))])


Choice = st.SearchStrategy[tuple[Resource, ...]]


@cache
def subsets(of: tuple[T, ...]) -> list[tuple[T, ...]]:
    return [chosen for n in range(len(of) + 1) for chosen in combinations(of, n)]


@cache
def any_bridge(b: str) -> Choice:
    setting = Sysctl(
        name=f"net/ipv4/conf/{b}/route_localnet",
        value="0",
        owner=OWNER,
        depends_on=(("link", "", b),),
    )
    addresses = [Addr(dev=b, address=IPv4Interface(f"10.0.0.{n}/24"), owner=OWNER) for n in LAST]
    return st.sampled_from([
        (Link(name=b, kind="bridge", mtu=mtu, owner=OWNER), *held, *kept)
        for mtu in (1400, 1500)
        for held in subsets(tuple(addresses))
        for kept in ((), (), (setting,), (replace(setting, value="1"),))
    ])  # fmt: skip


@cache
def any_pair(v: str, spaces: tuple[str, ...], bridges: tuple[str, ...]) -> Choice:
    """A pair with its end in one of the namespaces, or a dummy; on one of the bridges, or none."""
    plain = [Link(name=v, kind="dummy", owner=OWNER)]
    for b in bridges:
        plain += [replace(plain[0], master=b, isolated=isolated) for isolated in (False, True)]
    pairs = [
        (replace(link, kind="veth", peer=inside.peer), *inside.things)
        for link in plain
        for s in spaces
        for inside in ends(v, s)
    ]
    return st.sampled_from([(link,) for link in plain]) | st.sampled_from(pairs)


@dataclass(frozen=True)
class End:
    peer: Peer
    things: tuple[Resource, ...]


def ends(v: str, space: str) -> Iterator[End]:
    # One name for each, so that two states agree on which pair carries which interface.
    ns, dev = f"{NETNS}/{space}", f"eth{v[1]}"
    peer = Peer(ns=ns, name=dev, mac="02:00:00:00:00:01")
    for n in range(10, 13):
        address = Addr(ns=ns, dev=dev, address=IPv4Interface(f"10.0.{n}.2/24"), via=v, owner=OWNER)
        yield End(peer, (address,))
        dst = IPv4Network(f"192.168.{v[1]}.0/24")
        gateway = IPv4Address(f"10.0.{n}.1")
        route = Route(
            ns=ns, dst=dst, dev=dev, gateway=gateway, via=v, owner=OWNER, depends_on=(address.key,)
        )
        yield End(peer, (address, route))


@cache
def any_rules() -> Choice:
    chain = Chain(table="filter", name="OURS", owner=OWNER)
    jump = Rule(table="filter", chain="FORWARD", args=("-j", "OURS"), owner=OWNER)
    accepts = [
        Rule(table="filter", chain="OURS", args=("-d", f"10.0.0.{n}", "-j", "ACCEPT"), owner=OWNER)
        for n in LAST
    ]
    chains = [
        (chain, *rules, *jumps) for rules in subsets(tuple(accepts)) for jumps in ((), (jump,))
    ]
    return st.just(()) | st.sampled_from(chains)


def kernel_with(have: State) -> FakeKernel:
    return FakeKernel.holding(op.after for op in diff(have, {}, mine) if op.after)


@pytest.mark.slow
@given(hosts())
def test_nothing_to_do_when_nothing_differs(s: State) -> None:
    assert diff(s, s, mine) == ()


@pytest.mark.slow
@given(hosts(), hosts())
def test_converges_and_then_is_idempotent(want: State, have: State) -> None:
    kernel = kernel_with(have)
    converge(Change.of(want, have), kernel, mine)
    settings_left = {k for k, r in kernel.things.items() if r.global_setting}
    assert kernel.things.keys() - settings_left == {
        k for k, r in want.items() if not r.global_setting
    }
    assert {k for k, r in want.items() if r.global_setting} <= settings_left
    assert converge(Change.of(want, have), kernel, mine) == ()


@pytest.mark.slow
@given(hosts())
def test_what_was_made_can_be_removed_without_a_trace(s: State) -> None:
    kernel = kernel_with(s)
    converge(Change.of({}, s), kernel, mine)
    assert kernel.things == {}


@pytest.mark.slow
@given(hosts(), hosts())
def test_inverse_undoes(want: State, have: State) -> None:
    # a setting of a link that goes has no inverse but the link's own
    want, have = ({k: r for k, r in s.items() if not r.global_setting} for s in (want, have))
    kernel = kernel_with(have)
    before = dict(kernel.things)
    plan = diff(want, fill_unobservable(kernel.observe({*want, *have}), {**have, **want}), mine)
    execute(plan, kernel)
    execute(tuple(op.inverse() for op in reversed(plan)), kernel)
    assert kernel.things == before


@pytest.mark.slow
@settings(max_examples=300)
@given(hosts(), hosts(), st.integers(0, 25))
def test_a_failure_at_any_step_leaves_the_host_as_it_was(want: State, have: State, at: int) -> None:
    kernel = kernel_with(have)
    before = {k: r for k, r in kernel.things.items() if not r.global_setting}
    kernel.fail_at = at
    try:
        plan = converge(Change.of(want, have), kernel, mine)
    except KernelError as error:
        failed: KernelError | None = error
    else:
        assert len(plan) <= at
        return
    assert "injected" in str(failed)
    assert not getattr(failed, "__notes__", [])
    assert {k: r for k, r in kernel.things.items() if not r.global_setting} == before


@pytest.mark.slow
@given(hosts(), hosts(), st.randoms(use_true_random=False))
def test_a_plan_does_not_depend_on_the_order_of_its_input(
    want: State, have: State, rnd: Random
) -> None:
    w, h = list(want.items()), list(have.items())
    rnd.shuffle(w)
    rnd.shuffle(h)
    assert diff(dict(w), dict(h), mine) == diff(want, have, mine)


@pytest.mark.slow
@given(hosts(), st.sampled_from([None, "lxc", "netkit:other:n1"]))
def test_what_is_not_ours_is_never_swept(s: State, owner: str | None) -> None:
    theirs = {k: replace(r, owner=owner) for k, r in s.items() if r.carries_owner}
    assert diff({}, theirs, mine) == ()


@pytest.mark.parametrize("kind", ["bridge", "dummy"])
def test_never_takes_or_rebuilds_what_is_not_ours(kind: str) -> None:
    theirs = state([Link(name="b0", kind=kind)])
    with pytest.raises(Conflict, match=r"b0 .*, and is not netkit's: remove it"):
        diff(state([Link(name="b0", kind="bridge", owner=OWNER)]), theirs, mine)


def test_without_owner_it_is_a_requirement() -> None:
    need = state([Link(name="b0", kind="bridge")])
    assert diff(need, need, mine) == ()
    with pytest.raises(Conflict, match="bridge b0 must exist"):
        diff(need, {}, mine)
    assert diff({}, need, mine) == ()


def test_adopting_takes_a_foreign_one_as_it_is_but_makes_one_where_there_is_none() -> None:
    mac = "02:00:00:00:00:09"
    want = state([Link(name="br0", kind="bridge", mac=mac, owner=OWNER, accept_existing=True)])
    theirs = state([Link(name="br0", kind="bridge", mac="02:00:00:00:00:01", mtu=9000)])
    assert diff(want, theirs, mine) == ()
    assert [str(op) for op in diff(want, {}, mine)] == ["+ bridge br0"]
    ours = state([replace(want["link", "", "br0"], mac="02:00:00:00:00:01")])  # type: ignore[call-arg]
    assert [str(op) for op in diff(want, ours, mine)] == ["~ bridge br0"]
    with pytest.raises(Conflict, match="existing interface br0 is not a bridge but a dummy"):
        diff(want, state([Link(name="br0", kind="dummy")]), mine)


def test_a_pair_that_is_rebuilt_takes_along_what_stands_on_its_far_end() -> None:
    ns = f"{NETNS}/a"
    pair = Link(name="v", kind="veth", peer=Peer(ns=ns, name="eth0"), owner=OWNER)
    address = Addr(ns=ns, dev="eth0", address=IPv4Interface("10.0.0.2/24"), via="v", owner=OWNER)
    want = state([pair, address])
    # As a kernel reports it: nothing of the far end, and the pair of an older endpoint of ours.
    have = state([replace(pair, peer=None, owner="netkit:e:old"), replace(address, via=None)])
    assert [str(op) for op in diff(want, have, mine)] == [
        f"- address 10.0.0.2/24 on eth0 in {ns}",
        "- veth v",
        "+ veth v",
        f"+ address 10.0.0.2/24 on eth0 in {ns}",
    ]


def test_a_setting_of_a_link_that_is_rebuilt_is_set_again() -> None:
    link = Link(name="b", kind="bridge", owner=OWNER)
    setting = Sysctl(
        name="net/ipv4/conf/b/route_localnet", value="1", owner=OWNER, depends_on=(link.key,)
    )
    have = state([replace(link, owner="netkit:e:old"), replace(setting, depends_on=())])
    plan = diff(state([link, setting]), have, mine)
    assert [str(op) for op in plan] == ["- bridge b", "+ bridge b", f"~ {setting}"]


def test_a_foreign_thing_on_ours_is_not_lost_in_a_rebuild() -> None:
    ours = Link(name="b", kind="bridge", owner=OWNER)
    port = Link(name="tap0", kind="tun", master="b")
    have = state([replace(ours, owner="netkit:e:old"), port])
    with pytest.raises(Conflict, match="tap0"):
        diff(state([ours]), have, mine)


def test_policy_comes_before_wires_and_settings_before_the_links_that_need_them() -> None:
    ns = f"{NETNS}/a"
    quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ns, owner=OWNER)
    want = state([
        Link(name="v", kind="veth", peer=Peer(ns=ns, name="eth0"), owner=OWNER,
             depends_on=(quiet.key,)),
        quiet,
        Netns(path=ns, owner=OWNER),
        Rule(table="filter", chain="FORWARD", args=("-j", "X"), owner=OWNER),
        Chain(table="filter", name="X", owner=OWNER),
    ])  # fmt: skip
    kinds = [op.subject.key[0] for op in diff(want, {}, mine)]
    assert kinds == ["chain", "rule", "netns", "sysctl", "link"]


def test_things_that_need_each_other_are_refused_by_name() -> None:
    one = Link(name="a", kind="dummy", owner=OWNER, depends_on=(("link", "", "b"),))
    two = Link(name="b", kind="dummy", owner=OWNER, depends_on=(("link", "", "a"),))
    with pytest.raises(Conflict, match="need each other, a circular dependency: dummy a, dummy b"):
        diff(state([one, two]), {}, mine)


def test_a_pair_whose_far_end_others_took_is_not_made_anew_and_the_rest_is() -> None:
    kept = Link(name="b0", kind="bridge", owner=OWNER)
    pair = Link(name="v0", kind="veth", master="b0", owner=OWNER,
                peer=Peer(ns="", name="far", leaves=True))  # fmt: skip
    entry = Fdb(dev="v0", mac="02:42:00:00:00:01", owner=OWNER)
    gone = replace(pair, peer=replace(pair.peer, left=True) if pair.peer else None)
    assert [op.subject for op in diff(state([kept, pair, entry]), {}, mine)] == [kept, pair, entry]
    assert [op.subject for op in diff(state([kept, gone, entry]), {}, mine)] == [kept]
    there = state([kept, replace(gone, peer=None, up=False)])
    assert [op.subject for op in diff(state([kept, gone]), there, mine)] == [gone]
    # What needs it is left alone, too, also where it is there.
    assert diff(state([kept, gone, entry]), state([kept, entry]), mine) == ()
    assert [op.after for op in diff({}, there, mine)] == [None, None]


def test_an_op_says_what_it_does() -> None:
    link = Link(name="b", kind="bridge", owner=OWNER)
    other = replace(link, mtu=9000)
    ops = (Op(None, link), Op(link, other), Op(other, None))
    assert [str(op) for op in ops] == ["+ bridge b", "~ bridge b", "- bridge b"]
    assert [str(op.inverse()) for op in ops] == ["- bridge b", "~ bridge b", "+ bridge b"]
