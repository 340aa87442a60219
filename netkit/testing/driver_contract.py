"""The contract of network drivers, as tests: docs/drivers.md, "The contract".

    pytest --driver netkit_hub:Hub     # see netkit.testing.plugin

First what can be seen without a host, then on a host made of a dict, and, as root, on a real one
in network namespaces of its own.  A test module may use `from netkit.testing.driver_contract
import *` and name its drivers in SUBJECTS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from itertools import product

import pytest

from netkit.driver import Driver, Exclusive, Network, SharedSegment, TrafficPolicy
from netkit.errors import Conflict, InvalidSpec, KernelError, NotSupported
from netkit.model import HOST, Key, Link, Netns, Resource, State, differences, state
from netkit.model.openvswitch import OvsBridge, OvsPort
from netkit.reconcile.converge import ownership
from netkit.reconcile.plan import Op, diff
from netkit.testing.driver_fixtures import before, driver, given, net, open_vswitch, whole, world
from netkit.testing.driver_purity import Asked, no_io
from netkit.testing.driver_world import ENGINE, Subject, World, container, endpoint, setup
from netkit.testing.kernel import NETNS

BAD = ("", "-1", "1.5", "99999999999", "no such value", "x" * 300, "a\0b", "a/b", "é")
SUBJECTS: tuple[Subject, ...] = ()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    subjects = given(metafunc.config) or metafunc.module.SUBJECTS
    if not subjects:
        raise pytest.UsageError("which driver? give --driver MODULE:CLASS, as in netkit_hub:Hub")
    metafunc.parametrize("subject", subjects, ids=lambda subject: subject.name)


# -- on paper -------------------------------------------------------------------


def test_a_driver_states_what_netkit_reads(driver: Driver) -> None:
    assert driver.name == driver.name.strip() != "", "name: a word, as in --driver NAME"
    assert not isinstance(driver.options, str), "options: a collection of names, or a mapping"
    assert all(isinstance(key, str) and key for key in driver.options)
    assert isinstance(driver.uses_ipam, bool)
    assert isinstance(driver.supports_port_mapping, bool)
    if isinstance(driver.options, Mapping):
        assert all(isinstance(about, str) for about in driver.options.values())


def test_every_option_that_is_read_is_listed(subject: Subject, driver: Driver) -> None:
    """What is not in `options` is refused as a misspelling, or warned of as without effect."""
    asked = Asked(subject.options)
    driver.parse(asked)
    unlisted = (asked.keys_read | set(subject.options)) - set(driver.options)
    assert not unlisted, f"options has no {sorted(unlisted)}"


def test_options_of_other_tools_have_no_effect(subject: Subject, driver: Driver) -> None:
    others = {**subject.options, "com.example.colour": "blue"}
    assert driver.parse(others) == driver.parse(subject.options)


def test_a_bad_value_is_refused_by_name_or_good_for_a_network(
    subject: Subject, driver: Driver, net: Network
) -> None:
    for key, value in product(driver.options, BAD):
        given, refusal = f"-o {key}={value!r}", ""
        try:
            other = replace(net, options=driver.parse({**subject.options, key: value}))
            driver.policy(other)
            made = state(driver.network(other))
        except (InvalidSpec, NotSupported) as error:
            made, refusal = {}, str(error)
        if refusal:
            named = [name for name in driver.options if name in refusal]
            assert named, f"{given}: the message names no option: {refusal}"
            assert "\n" not in refusal
        for name in (r.name for r in made.values() if isinstance(r, Link)):
            assert 1 <= len(name.encode()) <= 15, f"{given}: link {name!r}"


def test_a_driver_is_pure(subject: Subject) -> None:
    """It reads and writes nothing, and another instance yields the same."""

    def say() -> tuple[object, ...]:
        driver = subject.driver()
        net = subject.network(driver=driver)
        ep = endpoint(net, NETNS)
        return (
            driver.policy(net),
            *setup(driver).items(),
            *driver.network(net),
            *driver.endpoint(net, ep),
        )

    first = say()  # what it imports on the way is imported now
    with no_io() as seen:
        second = say()
    assert seen == []
    assert second == first


def test_the_policy_may_be_asked_for_before_there_are_subnets(driver: Driver, net: Network) -> None:
    assert isinstance(driver.policy(replace(net, subnets=())), TrafficPolicy | None)


def test_resources_are_values_with_an_owner(driver: Driver, net: Network) -> None:
    """The network's, the endpoint's, or none: then it must exist, and is left alone."""
    ep = endpoint(net, NETNS)
    of_network, of_endpoint = [*driver.network(net)], [*driver.endpoint(net, ep)]
    for r in (*of_network, *of_endpoint):
        assert isinstance(r, Resource)
        hash(r)
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            setattr(r, fields(r)[0].name, None)
        assert r.describe()
        assert "\n" not in r.describe()
    assert {r.owner for r in of_network} <= {net.owner, None}
    assert {r.owner for r in of_endpoint} <= {ep.owner(net), net.owner, None}
    links = [r for r in of_endpoint if isinstance(r, Link)]  # they go with the container
    assert {r.owner for r in links} <= {ep.owner(net), None}


def test_a_shared_segment_is_an_interface_with_seconds_to_probe(
    driver: Driver, net: Network
) -> None:
    if not isinstance(driver, SharedSegment):
        pytest.skip("its networks share no segment with foreign hosts")
    segment = driver.segment(net)
    names = {r.name for r in driver.network(net) if isinstance(r, Link)}
    assert segment.link in names
    assert isinstance(segment.probe, int | float)
    assert segment.probe >= 0


def test_two_endpoints_have_nothing_of_their_own_in_common(driver: Driver, net: Network) -> None:
    one, two = (endpoint(net, NETNS, n) for n in (1, 2))
    first = {k for k, r in _own(driver, net, one) if r.owner == one.owner(net)}
    second = {k for k, r in _own(driver, net, two) if r.owner == two.owner(net)}
    assert first & second == set()


def _own(driver: Driver, net: Network, *eps: object) -> list[tuple[Key, Resource]]:
    made = [*driver.network(net)] if not eps else []
    for ep in eps:
        made += driver.endpoint(net, ep)  # type: ignore[arg-type]
    return [(r.key, r) for r in made if r.owner and not r.global_setting]


def test_two_networks_have_nothing_in_common_or_the_second_is_refused(
    subject: Subject, driver: Driver
) -> None:
    """It is, if both have one link in their policies, or a claim in common."""
    one, two = (subject.network(n, driver) for n in (1, 2))
    both = {k for k, _ in _own(driver, one)} & {k for k, _ in _own(driver, two)}
    links = [policy.link if (policy := driver.policy(net)) else None for net in (one, two)]
    refused = links[0] is not None and links[0] == links[1]
    if isinstance(driver, Exclusive):
        refused |= bool(set(driver.claims(one)) & set(driver.claims(two)))
    assert refused or not both


# -- on a host ------------------------------------------------------------------


def _links_of_switches(whole: State) -> set[Key]:
    """What Open vSwitch makes as interfaces of the host: those of bridges, and internal ports."""
    return {
        ("link", HOST, r.name)
        for r in whole.values()
        if isinstance(r, OvsBridge) or (isinstance(r, OvsPort) and r.kind == "internal")
    }


def test_what_is_needed_is_made_or_there(world: World, before: State, whole: State) -> None:
    switches = _links_of_switches(whole)
    needed = {k for r in whole.values() for k in r.needs if k[0] in {"link", "addr", "netns"}}
    missing = needed - set(whole) - switches
    assert missing == set(world.kernel.observe(missing)), "what nothing makes is needed"
    assert diff(whole, world.kernel.observe(whole), ownership(ENGINE, world.folder))


def test_what_was_made_needs_nothing_more(world: World, whole: State) -> None:
    world.converge(whole)
    seen = world.kernel.observe(whole)
    assert set(seen) == set(whole)
    assert world.converge(whole) == ()


def test_endpoints_come_and_go_and_the_network_stays(
    driver: Driver, net: Network, world: World, before: State
) -> None:
    clean = world.remains()
    network = {**before, **state(driver.network(net))}
    world.converge(network)
    empty = world.remains()
    one, two = (container(net, driver, endpoint(net, world.folder, n)) for n in (1, 2))
    world.converge(one)
    alone = world.remains()
    world.converge(two)
    world.converge({}, {k: r for k, r in two.items() if k not in network})
    assert world.remains() == alone
    world.converge({}, {k: r for k, r in one.items() if k not in network})
    assert world.remains() == empty
    world.converge(before, network)
    assert world.remains() == clean


def test_all_of_it_goes_at_once(world: World, before: State, whole: State) -> None:
    clean = world.remains()
    world.converge(whole)
    world.converge(before, whole)
    assert world.remains() == clean


@pytest.mark.parametrize("world", ["fake"], indirect=True)
def test_a_failure_at_any_step_leaves_nothing(world: World, before: State, whole: State) -> None:
    clean = world.remains()
    for step in range(len(whole)):
        try:
            world.converge(whole, fail=step)
        except KernelError:
            assert world.remains() == clean, f"after step {step} failed"
        world.converge(before, whole)


def test_what_another_tool_deletes_comes_back(world: World, before: State, whole: State) -> None:
    world.converge(whole)
    for r in whole.values():
        if r.owner is None or r.global_setting or isinstance(r, Netns) or r.key in before:
            continue
        if world.delete(r):
            assert world.converge(whole) != (), f"the deletion of {r} was not noticed"
            assert world.converge(whole) == (), f"after {r} was deleted and repaired"
            assert set(world.kernel.observe(whole)) == set(whole)


def test_links_of_others_are_neither_taken_over_nor_hurt(
    driver: Driver, world: World, before: State, whole: State
) -> None:
    """Conflict, or with `accept_existing` used as they are; and they stay when the network goes."""
    links = [
        r for r in whole.values()
        if isinstance(r, Link | OvsBridge) and r.owner and getattr(r, "ns", HOST) == HOST
        and r.key not in before
    ]  # fmt: skip
    for r in links:
        clean = world.remains()
        beneath = _beneath(whole, r) - {r.key}
        world.converge({**before, **{k: whole[k] for k in beneath}})
        theirs = _of_another(r)
        world.kernel.apply([Op(None, theirs)])
        seen = world.kernel.observe([r.key])[r.key]
        if not r.accept_existing or differences(r, theirs):
            with pytest.raises(Conflict, match=r.name):
                world.converge(whole)
        world.converge(before, whole)
        left = world.kernel.observe([r.key])
        assert r.key in left, f"{r} of another netkit was removed"
        assert not differences(seen, left[r.key])
        world.kernel.apply([Op(theirs, None)])
        assert world.remains() == clean


def _of_another(r: Link | OvsBridge) -> Link | OvsBridge:
    """What another netkit has of that name: a bridge, which goes with no namespace."""
    owner = "netkit:9:000000000000"
    if isinstance(r, Link) and r.kind != "bridge":
        return Link(name=r.name, kind="bridge", owner=owner)
    return replace(r, owner=owner)


def _beneath(whole: State, r: Resource) -> set[Key]:
    """Keys of `whole` that must exist before `r`, with its own."""
    found, todo = {r.key}, [r]
    while todo:
        more = {k for k in todo.pop().needs if k in whole} - found
        found |= more
        todo += [whole[k] for k in more]
    return found


def test_the_policy_is_about_a_link_that_is_there(
    driver: Driver, net: Network, world: World, whole: State
) -> None:
    if (policy := driver.policy(net)) is None:
        pytest.skip("no business of the firewall's")
    world.converge(whole)
    there = world.kernel.observe([("link", HOST, policy.link)])
    assert there or ("link", HOST, policy.link) in _links_of_switches(whole)


@pytest.mark.parametrize("world", [pytest.param("real", marks=pytest.mark.root)], indirect=True)
def test_neighbours_reach_each_other(
    driver: Driver, net: Network, world: World, whole: State
) -> None:
    """And the host its containers, where published ports need that."""
    policy = driver.policy(net)
    if not driver.uses_ipam or (policy is not None and not policy.icc):
        pytest.skip("this driver does not connect them")
    world.converge(whole)
    one, two = (endpoint(net, world.folder, n) for n in (1, 2))
    assert one.inside and two.inside  # noqa: PT018  for the type checker
    assert world.reaches(one.ns, two.ns, two.inside)
    assert world.reaches(two.ns, one.ns, one.inside)
    if driver.supports_port_mapping and not (policy and policy.mode == "isolated"):
        assert world.reaches(world.home, one.ns, one.inside)


__all__ = [name for name in dir() if name.startswith("test_")] + [
    "SUBJECTS", "before", "driver", "net", "open_vswitch", "pytest_generate_tests", "whole",
    "world",
]  # fmt: skip
