"""Who may reach a container, as rules."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from netkit.driver import Access, TrafficPolicy
from netkit.model import Resource, Rule, state
from netkit.model.ipset import IpSet
from plugins.firewall.iptables import Iptables
from tests.unit.plugins.firewall.firewall_values import EP, NET

NAT = TrafficPolicy(link="br0")
WORLD = (IPv4Network("0.0.0.0/0"),)


def access(*sources: str, verdict: str = "drop", id: str = "a" * 12, **more: object) -> Access:
    nets = tuple(map(IPv4Network, sources)) or WORLD
    return Access(id=id, verdict=verdict, sources=nets, **more)  # type: ignore[arg-type]


def made(*rules: Access, policy: TrafficPolicy = NAT) -> list[Resource]:
    return [*Iptables().endpoint(NET, policy, EP, [], rules)]


def lines(resources: list[Resource], chain: str = "DOCKER-ACCESS") -> list[str]:
    found = [r for r in resources if isinstance(r, Rule) and r.chain == chain]
    return [" ".join(r.args) for r in sorted(found, key=lambda r: r.rank)]


def test_access_and_internal_networks_come_before_replies_are_let_through() -> None:
    forward = [
        r for r in Iptables().setup("o") if isinstance(r, Rule) and r.chain == "DOCKER-FORWARD"
    ]
    order = [r.args[-1] for r in sorted(forward, key=lambda r: r.rank)]
    assert order[:3] == ["DOCKER-ACCESS", "DOCKER-INTERNAL", "DOCKER-CT"]


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (access(), "-d 172.18.0.2/32 -o br0 -j DROP"),
        (access("10.1.0.0/16"), "-s 10.1.0.0/16 -d 172.18.0.2/32 -o br0 -j DROP"),
        (access(proto="udp"), "-d 172.18.0.2/32 -o br0 -p udp -j DROP"),
        (
            access(proto="tcp", first=80, last=80, verdict="accept"),
            "-d 172.18.0.2/32 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT",
        ),
        (
            access(proto="tcp", first=80, last=89),
            "-d 172.18.0.2/32 -o br0 -p tcp -m tcp --dport 80:89 -j DROP",
        ),
        (
            access(proto="tcp", first=8080, last=8080, published=True),
            "-d 172.18.0.2/32 -o br0 -p tcp -m conntrack --ctstate DNAT"
            " --ctorigdstport 8080 --ctdir ORIGINAL -j DROP",
        ),
        (
            access(proto="tcp", first=8080, last=8090, published=True),
            "-d 172.18.0.2/32 -o br0 -p tcp -m conntrack --ctstate DNAT"
            " --ctorigdstport 8080:8090 --ctdir ORIGINAL -j DROP",
        ),
    ],
)
def test_one_rule(rule: Access, line: str) -> None:
    assert lines(made(rule)) == [line]


def test_where_nothing_is_translated_a_published_port_is_the_containers() -> None:
    rule = access(proto="tcp", first=80, last=80, published=True)
    assert lines(made(rule, policy=TrafficPolicy(link="br0", mode="routed"))) == [
        "-d 172.18.0.2/32 -o br0 -p tcp -m tcp --dport 80 -j DROP"
    ]


def test_rules_stand_in_the_order_of_rank_then_id_however_they_are_given() -> None:
    rules = [
        access("10.0.0.1/32", priority=2, id="0" * 12),
        access("10.0.0.2/32", priority=1, id="f" * 12),
        access("10.0.0.3/32", priority=1, id="1" * 12),
        access("10.0.0.4/32", priority=-3, id="9" * 12),
    ]
    got = [line.split()[1] for line in lines(made(*rules))]
    assert got == ["10.0.0.4/32", "10.0.0.3/32", "10.0.0.2/32", "10.0.0.1/32"]
    assert state(made(*rules)) == state(made(*rules[::-1]))


def test_up_to_eight_networks_are_a_rule_each_and_more_are_a_set() -> None:
    eight = [f"10.0.{2 * n}.0/24" for n in range(8)]
    assert [line.split()[1] for line in lines(made(access(*eight)))] == eight
    nine = [*eight, "10.9.0.0/16"]
    got = made(access(*nine[::-1]))
    (many,) = [r for r in got if isinstance(r, IpSet)]
    assert many.members == tuple(map(IPv4Network, nine))
    assert many.name.startswith("nks-")
    assert len(many.name) == 16
    assert many.owner == EP.owner(NET)
    assert lines(got) == [f"-d 172.18.0.2/32 -o br0 -m set --match-set {many.name} src -j DROP"]
    (rule,) = [r for r in got if isinstance(r, Rule)]
    assert many.key in rule.needs


def test_a_set_that_gains_a_member_is_the_same_set_and_the_rule_stays() -> None:
    nine = [f"10.0.{2 * n}.0/24" for n in range(9)]
    one, two = made(access(*nine)), made(access(*nine, "192.0.2.0/24"))
    assert [r.key for r in one] == [r.key for r in two]
    elsewhere = made(access(*nine, id="b" * 12))
    assert not {r.key for r in one} & {r.key for r in elsewhere}


def test_a_container_on_two_networks_has_a_set_on_each() -> None:
    """Else the set could not be deleted with one rule while the other still uses it."""
    rule = access(*(f"10.0.{2 * n}.0/24" for n in range(9)))
    other = replace(EP, id="e5f6" * 16)
    sets = [
        r.name
        for ep in (EP, other)
        for r in Iptables().endpoint(NET, NAT, ep, [], [rule])
        if isinstance(r, IpSet)
    ]
    assert len(sets) == len(set(sets)) == 2


def test_networks_within_larger_ones_are_left_out() -> None:
    got = lines(made(access("10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16")))
    assert got == ["-s 10.0.0.0/8 -d 172.18.0.2/32 -o br0 -j DROP"]
    assert lines(made(access("0.0.0.0/0", *(f"10.{n}.0.0/16" for n in range(0, 40, 2))))) == [
        "-d 172.18.0.2/32 -o br0 -j DROP"
    ]


@pytest.mark.parametrize("mode", ["internal", "isolated"])
def test_an_internal_network_stays_closed_to_other_networks_whatever_is_allowed(mode: str) -> None:
    policy = TrafficPolicy(link="br0", mode=mode)  # type: ignore[arg-type]
    assert lines(made(access(verdict="accept"), access(priority=1), policy=policy)) == [
        "-d 172.18.0.2/32 -i br0 -o br0 -j ACCEPT",
        "-d 172.18.0.2/32 -o br0 -j DROP",
    ]


APART = TrafficPolicy(link="br0", icc=False)
PEER, OWN = "02:42:ac:12:00:07", "02:42:ac:12:00:02"
LINK = access(
    "172.18.0.7/32", verdict="accept", proto="tcp", first=80, last=81, link=True, mac=PEER
)
ANSWERS = (
    f"-s 172.18.0.2/32 -i br0 -o br0 -m mac --mac-source {OWN}"
    " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
)


def test_a_link_opens_the_port_both_ways_as_docker_writes_it_and_by_mac_address() -> None:
    between = "-i br0 -o br0 -m mac --mac-source"
    assert lines(made(LINK, policy=APART), "DOCKER") == [
        f"-s 172.18.0.7/32 -d 172.18.0.2/32 {between} {PEER} -p tcp -m tcp --dport 80:81 -j ACCEPT",
        f"-s 172.18.0.2/32 -d 172.18.0.7/32 {between} {OWN} -p tcp -m tcp --sport 80:81 -j ACCEPT",
        ANSWERS,
    ]
    assert lines(made(LINK, policy=APART)) == []


@pytest.mark.parametrize("why", ["of the container", "match in the kernel"])
def test_where_there_is_no_mac_address_a_link_goes_by_ip_addresses_alone(why: str) -> None:
    of_the_kernel = why == "match in the kernel"
    ep, link = (EP, LINK) if of_the_kernel else (replace(EP, mac=None), replace(LINK, mac=""))
    made = Iptables(mac=not of_the_kernel).endpoint(NET, APART, ep, [], [link])
    assert lines([*made], "DOCKER") == [
        "-s 172.18.0.7/32 -d 172.18.0.2/32 -i br0 -o br0 -p tcp -m tcp --dport 80:81 -j ACCEPT",
        "-s 172.18.0.2/32 -d 172.18.0.7/32 -i br0 -o br0 -p tcp -m tcp --sport 80:81 -j ACCEPT",
        "-s 172.18.0.2/32 -i br0 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]


def test_a_neighbour_that_is_accepted_is_known_by_its_mac_address_and_answered() -> None:
    rule = access("172.18.0.7/32", verdict="accept", mac=PEER)
    assert lines(made(rule, policy=APART)) == [
        f"-s 172.18.0.7/32 -d 172.18.0.2/32 -o br0 -m mac --mac-source {PEER} -j ACCEPT"
    ]
    assert lines(made(rule, policy=APART), "DOCKER") == [ANSWERS]
    assert lines(made(rule, policy=replace(APART, mode="internal")), "DOCKER-INTERNAL") == [ANSWERS]
    assert lines(made(rule), "DOCKER") == []  # there every answer passes
    assert lines(made(access(), policy=APART), "DOCKER") == []  # no flow needs an answer


def test_a_link_comes_before_the_drop_that_keeps_neighbours_apart() -> None:
    """DOCKER is entered from DOCKER-BRIDGE, which stands before the drop in DOCKER-FORWARD."""
    forward = [
        r
        for r in (*Iptables().setup("o"), *Iptables().network(NET, APART))
        if isinstance(r, Rule) and r.chain == "DOCKER-FORWARD"
    ]
    order = [" ".join(r.args) for r in sorted(forward, key=lambda r: r.rank)]
    assert order.index("-j DOCKER-BRIDGE") < order.index("-i br0 -o br0 -j DROP")


def test_where_neighbours_reach_each_other_a_link_needs_no_rule() -> None:
    assert made(LINK) == []
