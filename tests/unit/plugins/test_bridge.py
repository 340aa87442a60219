"""The bridge driver, host and none, as pure functions."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from netkit.driver import Driver, Endpoint, Network, Subnet
from netkit.errors import InvalidSpec, NotSupported
from netkit.model import (
    HOST,
    Addr,
    BridgeRedirect,
    Fdb,
    Link,
    Neigh,
    Netns,
    Resource,
    Route,
    Sysctl,
    state,
)
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op
from netkit.testing.kernel import NETNS, FakeKernel
from plugins.bridge import Bridge
from plugins.host import Host
from plugins.none import Null

NS = f"{NETNS}/web"
SUBNET = Subnet(cidr=IPv4Network("172.30.0.0/24"), gateway=IPv4Address("172.30.0.1"))
EP = Endpoint(
    id="c3d4" * 16,
    network="a1b2" * 16,
    addresses=(IPv4Interface("172.30.0.2/24"),),
    mac="02:00:00:00:00:05",
    ns=NS,
    ifname="eth0",
    gateway=True,
)
BR = "com.docker.network.bridge."


def net(*, internal: bool = False, subnet: Subnet = SUBNET, **options: str) -> Network:
    given = {key.replace("__", "."): value for key, value in options.items()}
    return Network(
        id="a1b2" * 16,
        name="n",
        driver="bridge",
        subnets=(subnet,),
        internal=internal,
        options=Bridge().parse(given),
        engine="e",
    )


def opt(name: str, value: str) -> dict[str, str]:
    return {f"com.docker.network.{name}".replace(".", "__"): value}


def one(resources: list[Resource], kind: type) -> Resource:
    (found,) = [r for r in resources if isinstance(r, kind)]
    return found


def test_up_again_down() -> None:
    n = net()
    kernel, mine = FakeKernel(), ownership("e", NETNS)
    want = state([*Bridge().network(n), Netns(path=NS, owner=n.owner), *Bridge().endpoint(n, EP)])
    plan = converge(Change.of(want), kernel, mine)
    assert [str(op) for op in plan] == [
        f"+ network namespace {NS}",
        "+ bridge br-a1b2a1b2a1b2",
        "+ setting net/ipv6/conf/br-a1b2a1b2a1b2/accept_ra=0",
        "+ setting net/ipv6/conf/br-a1b2a1b2a1b2/disable_ipv6=1",
        f"+ setting net/ipv6/conf/default/disable_ipv6=1 in {NS}",
        "+ veth vethc3d4c3d4c3d",
        "+ address 172.30.0.1/24 on br-a1b2a1b2a1b2",
        f"+ address 172.30.0.2/24 on eth0 in {NS}",
        f"+ route to 0.0.0.0/0 via 172.30.0.1 on eth0 in {NS}",
    ]
    assert converge(Change.of(want), kernel, mine) == ()
    converge(Change.of({}, want), kernel, mine)
    assert kernel.things == {}


def test_a_bridge_of_the_administrator_is_required_and_nothing_of_it_is_set() -> None:
    options = opt("bridge.default_bridge", "true") | opt("bridge.name", "br0")
    wants = [*Bridge().network(net(**options))]
    assert [r.key for r in wants] == [("link", "", "br0"), ("addr", "", "br0", "172.30.0.1/24")]
    assert {r.owner for r in wants} == {None}
    mine = opt("bridge.default_bridge", "true") | opt("bridge.name", "docker0")
    assert {r.owner for r in Bridge().network(net(**mine))} == {net().owner}


def test_the_bridge_keeps_its_mac_whatever_comes_and_goes() -> None:
    links = [one([*Bridge().network(n)], Link) for n in (net(), net())]
    assert isinstance(links[0], Link)
    assert links[0].mac
    assert links[0] == links[1]
    assert int(links[0].mac[:2], 16) & 3 == 2  # local, unicast


def test_a_pair_has_the_mtu_of_the_network_and_the_mac_that_was_asked_for() -> None:
    n = net(**opt("driver.mtu", "1400"))
    pair = one([*Bridge().endpoint(n, EP)], Link)
    assert isinstance(pair, Link)
    assert (pair.mtu, pair.master, pair.owner) == (1400, "br-a1b2a1b2a1b2", EP.owner(n))
    assert pair.peer
    assert (pair.peer.ns, pair.peer.name, pair.peer.mac) == (NS, "eth0", "02:00:00:00:00:05")
    assert (pair.hairpin, pair.isolated) == (False, None)


def test_without_icc_ports_are_isolated_and_published_ones_hairpin() -> None:
    pair = one([*Bridge().endpoint(net(**opt("bridge.enable_icc", "false")), EP)], Link)
    assert isinstance(pair, Link)
    assert pair.isolated is True
    ep = Endpoint(**{f: getattr(EP, f) for f in EP.__dataclass_fields__} | {"published": True})
    pair = one([*Bridge().endpoint(net(), ep)], Link)
    assert isinstance(pair, Link)
    assert pair.hairpin is True


@pytest.mark.parametrize("name", ["", "docker0", "br0"])
def test_without_icc_a_container_has_its_addresses_for_itself(name: str) -> None:
    """The host's ARP table is left alone on a bridge that may be the administrator's."""
    named = opt("bridge.name", name) if name else {}
    n = net(**opt("bridge.enable_icc", "false"), **named)
    made = [*Bridge().endpoint(n, EP)]
    link, place = one(made, Link), one(made, Fdb)
    assert isinstance(link, Link)
    assert link.locked is True
    redirect = one(made, BridgeRedirect)
    assert redirect.key == ("redirect", "", link.name, link.master, "02:00:00:00:00:05")
    assert (place.key, place.owner) == (("fdb", "", link.name, "02:00:00:00:00:05"), EP.owner(n))
    known = [(r.dev, str(r.address), r.mac) for r in made if isinstance(r, Neigh)]
    mine = (link.master, "172.30.0.2", "02:00:00:00:00:05")
    assert known == ([] if name == "br0" else [mine])


@pytest.mark.parametrize("name", ["", "docker0", "br0"])
def test_a_bridge_that_may_not_be_ours_never_takes_the_address_of_a_wire(name: str) -> None:
    """It takes the lowest of its ports': one that sorts last and is the same for all changes
    nothing."""
    n = net(**(opt("bridge.name", name) if name else {}))
    other = replace(EP, id="e5f6" * 16)
    found = {one([*Bridge().endpoint(n, ep)], Link).mac for ep in (EP, other)}  # type: ignore[attr-defined]
    (mac,) = found
    assert (mac or "").startswith("fe:") is (name == "br0")


def test_with_icc_or_without_a_mac_address_ports_are_open() -> None:
    ep = Endpoint(**{f: getattr(EP, f) for f in EP.__dataclass_fields__} | {"mac": None})
    for made in (
        [*Bridge().endpoint(net(), EP)],
        [*Bridge().endpoint(net(**opt("bridge.enable_icc", "false")), ep)],
    ):
        link = one(made, Link)
        assert isinstance(link, Link)
        assert link.locked is None
        assert not [r for r in made if isinstance(r, Fdb | Neigh | BridgeRedirect)]


def test_what_keeps_neighbours_apart_comes_and_goes() -> None:
    n = net(**opt("bridge.enable_icc", "false"))
    kernel, mine = FakeKernel(), ownership("e", NETNS)
    kernel.apply([Op(None, r) for r in Bridge().network(n)])
    before = dict(kernel.things)
    want = state([Netns(path=NS, owner=n.owner), *Bridge().endpoint(n, EP)])
    converge(Change.of(want), kernel, mine)
    assert {k[0] for k in kernel.things.keys() - before.keys()} >= {"fdb", "neigh"}
    assert converge(Change.of(want), kernel, mine) == ()
    converge(Change.of({}, want), kernel, mine)
    assert kernel.things == before


def test_a_linked_container_is_reached_by_a_detour_over_the_host_and_stays_isolated() -> None:
    ep = Endpoint(
        **{f: getattr(EP, f) for f in EP.__dataclass_fields__} | {"has_accept_rules": True}
    )
    apart = net(**opt("bridge.enable_icc", "false"))
    made = [*Bridge().endpoint(apart, ep)]
    link = one(made, Link)
    assert isinstance(link, Link)
    assert link.isolated is True
    settings = {r.name: r.value for r in made if isinstance(r, Sysctl) and r.ns == HOST}
    assert settings == {
        "net/ipv4/conf/br-a1b2a1b2a1b2/proxy_arp_pvlan": "1",
        "net/ipv4/neigh/br-a1b2a1b2a1b2/proxy_delay": "0",
    }
    with_icc = [*Bridge().endpoint(net(), ep)]
    assert not [r for r in with_icc if isinstance(r, Sysctl) and r.ns == HOST]


@pytest.mark.parametrize("case", ["internal", "not the gateway"])
def test_no_default_route_on(case: str) -> None:
    n = net(internal=case == "internal")
    ep = Endpoint(
        **{f: getattr(EP, f) for f in EP.__dataclass_fields__} | {"gateway": case == "internal"}
    )
    assert not [r for r in Bridge().endpoint(n, ep) if isinstance(r, Route)]


def test_the_router_of_the_lan_can_be_the_gateway() -> None:
    lan = Subnet(
        cidr=SUBNET.cidr,
        gateway=SUBNET.gateway,
        aux=(("DefaultGatewayIPv4", IPv4Address("172.30.0.254")),),
    )
    route = one([*Bridge().endpoint(net(subnet=lan), EP)], Route)
    assert isinstance(route, Route)
    assert str(route.gateway) == "172.30.0.254"


@pytest.mark.parametrize(
    ("internal", "options"),
    [
        (True, opt("bridge.gateway_mode_ipv4", "isolated")),
        (False, opt("bridge.inhibit_ipv4", "true")),
    ],
)
def test_the_host_has_no_address_on(internal: bool, options: dict[str, str]) -> None:
    resources = [*Bridge().network(net(internal=internal, **options))]
    assert not [r for r in resources if isinstance(r, Addr)]


def test_a_named_bridge_may_exist_and_ours_may_not() -> None:
    named = one([*Bridge().network(net(**opt("bridge.name", "br0")))], Link)
    assert (named.key, named.accept_existing) == (("link", "", "br0"), True)
    assert one([*Bridge().network(net())], Link).accept_existing is False


def test_the_hosts_own_settings_are_not_touched_for_an_endpoint_in_it() -> None:
    ep = Endpoint(**{f: getattr(EP, f) for f in EP.__dataclass_fields__} | {"ns": ""})
    assert not [r for r in Bridge().endpoint(net(), ep) if isinstance(r, Sysctl)]


@pytest.mark.parametrize(
    ("mode", "internal", "policy"),
    [
        ("nat", False, "nat"),
        ("routed", False, "routed"),
        ("nat-unprotected", False, "nat-unprotected"),
        ("nat", True, "internal"),
        ("routed", True, "internal"),
        ("isolated", True, "isolated"),
    ],
)
def test_the_mode_of_the_policy(mode: str, internal: bool, policy: str) -> None:
    n = net(internal=internal, **opt("bridge.gateway_mode_ipv4", mode))
    assert Bridge().policy(n).mode == policy


def test_options_reach_the_policy() -> None:
    n = net(
        **opt("bridge.enable_icc", "0"),
        **opt("bridge.enable_ip_masquerade", "F"),
        **opt("bridge.host_binding_ipv4", "127.0.0.1"),
        **opt("bridge.trusted_host_interfaces", "eth1:wg0"),
        **opt("host_ipv4", "192.0.2.7"),
        **opt("bridge.name", "br7"),
    )
    p = Bridge().policy(n)
    assert (p.link, p.icc, p.masquerade, p.binding) == ("br7", False, False, "127.0.0.1")
    assert (p.trusted, str(p.source)) == (("eth1", "wg0"), "192.0.2.7")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{BR}enable_icc", "maybe", "invalid value 'maybe' for option"),
        ("com.docker.network.driver.mtu", "10", "use 68 to 65535"),
        ("com.docker.network.driver.mtu", "x", "invalid value 'x'"),
        (f"{BR}name", "a/b", "invalid interface name 'a/b'"),
        (f"{BR}name", "sixteen-letters-", "1 to 15 characters"),
        (f"{BR}host_binding_ipv4", "home", "use an IPv4 address"),
        (f"{BR}gateway_mode_ipv4", "open", "use nat, nat-unprotected, routed, isolated"),
        ("com.docker.network.container_iface_prefix", "a-long-prefix", "invalid interface name"),
    ],
)
def test_bad_options_are_refused_by_name(key: str, value: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        Bridge().parse({key: value})


def test_options_on_ipv6_are_not_there_yet() -> None:
    with pytest.raises(NotSupported, match="IPv6 is not supported yet"):
        Bridge().parse({f"{BR}gateway_mode_ipv6": "nat"})


def test_isolated_is_for_internal_networks() -> None:
    with pytest.raises(InvalidSpec, match="can only be used for an internal network"):
        Bridge().policy(net(**opt("bridge.gateway_mode_ipv4", "isolated")))


@pytest.mark.parametrize("driver", [Host(), Null()], ids=lambda d: d.name)
def test_host_and_none_make_nothing_and_take_no_options(driver: Driver) -> None:
    n = Network(id="a", name="n", driver=driver.name, options=driver.parse({}))
    assert [*driver.network(n), *driver.endpoint(n, EP)] == []
    assert driver.policy(n) is None
    assert driver.options == ()
