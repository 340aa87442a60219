"""The rules, written out: readers who know Docker should recognise them."""

# ruff: noqa: E501  rules are quoted as iptables prints them

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest

from netkit.driver import NoFirewall, TrafficPolicy
from netkit.model import Resource, Rule, Sysctl, state
from netkit.model.nftables import NftElement
from netkit.reconcile.plan import diff
from netkit.testing.kernel import FakeKernel
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from tests.unit.plugins.firewall.firewall_values import EP, NET, port


def rules(resources: Iterable[Resource]) -> list[str]:
    """As `iptables -S` prints them, in the order in which packets meet them."""
    found = sorted(
        (r for r in resources if isinstance(r, Rule)), key=lambda r: (r.table, r.chain, r.rank)
    )
    return [f"{r.table} -A {r.chain} {' '.join(r.args)}" for r in found]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def test_set_up() -> None:
    assert rules(Iptables().setup("netkit:e:global")) == lines("""
        filter -A DOCKER-FORWARD -j DOCKER-ACCESS
        filter -A DOCKER-FORWARD -j DOCKER-INTERNAL
        filter -A DOCKER-FORWARD -j DOCKER-CT
        filter -A DOCKER-FORWARD -j DOCKER-BRIDGE
        filter -A FORWARD -j DOCKER-USER
        filter -A FORWARD -j DOCKER-FORWARD
        nat -A OUTPUT -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER-LOCAL
        nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
        nat -A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
    """)


def test_our_jumps_stand_at_the_head_of_forward_and_nothing_is_put_into_docker_user() -> None:
    policy = TrafficPolicy(link="br0")
    made = [
        *Iptables().setup("netkit:e:global"),
        *Iptables().network(NET, policy),
        *Iptables().endpoint(NET, policy, EP, [port(8080, 80)]),
    ]
    ours = [r for r in made if isinstance(r, Rule)]
    assert {r.rank < 0 for r in ours if r.chain == "FORWARD"} == {True}
    assert not [r for r in ours if r.chain == "DOCKER-USER"]
    assert not [r for r in ours if r.rank < 0 and r.chain != "FORWARD"]


GOLDEN = {
    "nat": (
        TrafficPolicy(link="br0"),
        """
        filter -A DOCKER ! -i br0 -o br0 -j DROP
        filter -A DOCKER-BRIDGE -o br0 -j DOCKER
        filter -A DOCKER-CT -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        filter -A DOCKER-FORWARD -i br0 -j ACCEPT
        nat -A POSTROUTING -s 172.18.0.0/16 ! -o br0 -j MASQUERADE
        nat -A POSTROUTING -s 172.18.0.0/16 -d 172.18.0.0/16 -o br0 -m conntrack --ctstate DNAT -j MASQUERADE
        nat -A POSTROUTING -o br0 -m addrtype --src-type LOCAL -j MASQUERADE
        raw -A PREROUTING -i br0 -d 127.0.0.0/8 -j DROP
        raw -A PREROUTING -i br0 -s 127.0.0.0/8 -j DROP
        """,
    ),
    "no icc, own source address": (
        TrafficPolicy(link="br0", icc=False, source=IPv4Address("192.0.2.7")),
        """
        filter -A DOCKER ! -i br0 -o br0 -j DROP
        filter -A DOCKER-BRIDGE -o br0 -j DOCKER
        filter -A DOCKER-CT ! -i br0 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        filter -A DOCKER-FORWARD -i br0 -o br0 -m conntrack --ctstate DNAT -j ACCEPT
        filter -A DOCKER-FORWARD -i br0 -o br0 -j DROP
        filter -A DOCKER-FORWARD -i br0 -j ACCEPT
        nat -A POSTROUTING -s 172.18.0.0/16 ! -o br0 -j SNAT --to-source 192.0.2.7
        nat -A POSTROUTING -s 172.18.0.0/16 -d 172.18.0.0/16 -o br0 -m conntrack --ctstate DNAT -j MASQUERADE
        nat -A POSTROUTING -o br0 -m addrtype --src-type LOCAL -j MASQUERADE
        raw -A PREROUTING -i br0 -d 127.0.0.0/8 -j DROP
        raw -A PREROUTING -i br0 -s 127.0.0.0/8 -j DROP
        """,
    ),
    "routed": (
        TrafficPolicy(link="br0", mode="routed"),
        """
        filter -A DOCKER -o br0 -p icmp -j ACCEPT
        filter -A DOCKER ! -i br0 -o br0 -j DROP
        filter -A DOCKER-BRIDGE -o br0 -j DOCKER
        filter -A DOCKER-CT -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        filter -A DOCKER-FORWARD -i br0 -j ACCEPT
        """,
    ),
    "internal": (
        TrafficPolicy(link="br0", mode="internal"),
        """
        filter -A DOCKER-FORWARD -i br0 -o br0 -j ACCEPT
        filter -A DOCKER-INTERNAL ! -i br0 -o br0 -j DROP
        filter -A DOCKER-INTERNAL -i br0 ! -o br0 -j DROP
        """,
    ),
    "isolated, no icc": (
        TrafficPolicy(link="br0", mode="isolated", icc=False),
        """
        filter -A DOCKER-FORWARD -i br0 -o br0 -j DROP
        filter -A DOCKER-INTERNAL ! -i br0 -o br0 -j DROP
        filter -A DOCKER-INTERNAL -i br0 ! -o br0 -j DROP
        """,
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_rules_of_a_network(case: str) -> None:
    policy, golden = GOLDEN[case]
    assert rules(Iptables().network(NET, policy)) == lines(golden)


def test_a_network_without_protection_accepts_what_is_routed_to_it() -> None:
    policy = TrafficPolicy(link="br0", mode="nat-unprotected", masquerade=False)
    got = rules(Iptables().network(NET, policy))
    assert "filter -A DOCKER ! -i br0 -o br0 -j ACCEPT" in got
    assert not [r for r in got if "! -o br0 -j MASQUERADE" in r]
    ports = rules(Iptables().endpoint(NET, policy, EP, [port(8080, 80)]))
    assert ports == [
        "nat -A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80"
    ]


def test_rules_of_published_ports() -> None:
    ports = [
        port(8080, 80),
        port(53, 5353, "192.0.2.1", "udp"),
        port(9000, 90, "127.0.0.1"),
    ]
    assert rules(Iptables().endpoint(NET, TrafficPolicy(link="br0"), EP, ports)) == lines("""
        filter -A DOCKER -d 172.18.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT
        filter -A DOCKER -d 172.18.0.2/32 ! -i br0 -o br0 -p udp -m udp --dport 5353 -m conntrack --ctstate DNAT -j ACCEPT
        nat -A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80
        nat -A DOCKER -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 172.18.0.2:5353
        nat -A DOCKER-LOCAL -d 127.0.0.1/32 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.18.0.2:90
    """)


def test_trusted_interfaces_may_route_to_published_ports() -> None:
    policy = TrafficPolicy(link="br0", trusted=("eth1",))
    got = rules(Iptables().endpoint(NET, policy, EP, [port(8080, 80)]))
    assert (
        "filter -A DOCKER -d 172.18.0.2/32 -i eth1 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT" in got
    )


def test_where_a_network_is_routed_the_port_of_the_container_is_opened() -> None:
    policy = TrafficPolicy(link="br0", mode="routed")
    assert rules(Iptables().endpoint(NET, policy, EP, [port(0, 80, "")])) == [
        "filter -A DOCKER -d 172.18.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT"
    ]


@pytest.mark.parametrize("mode", ["internal", "isolated"])
def test_nothing_is_published_on(mode: str) -> None:
    policy = TrafficPolicy(link="br0", mode=mode)  # type: ignore[arg-type]
    assert rules(Iptables().endpoint(NET, policy, EP, [port(8080, 80)])) == []


def test_a_container_without_ports_costs_no_rule() -> None:
    assert [*Iptables().endpoint(NET, TrafficPolicy(link="br0"), EP, [])] == []


def test_the_published_port_comes_before_the_final_drop() -> None:
    policy = TrafficPolicy(link="br0")
    made = [*Iptables().network(NET, policy), *Iptables().endpoint(NET, policy, EP, [port(1, 2)])]
    docker = [r for r in rules(made) if r.startswith("filter -A DOCKER ")]
    assert [r.rsplit(" ", 1)[1] for r in docker] == ["ACCEPT", "DROP"]


def test_loopback_is_let_out_of_the_host_only_once_the_guard_stands() -> None:
    made = [*Iptables().network(NET, TrafficPolicy(link="br0"))]
    (setting,) = [r for r in made if isinstance(r, Sysctl)]
    assert (setting.name, setting.value) == ("net/ipv4/conf/br0/route_localnet", "1")
    guards = {r.key for r in made if isinstance(r, Rule) and r.table == "raw"}
    assert guards | {("link", "", "br0")} == set(setting.needs)
    modes = ("routed", "internal", "isolated")
    for mode in modes:
        made = [*Iptables().network(NET, TrafficPolicy(link="br0", mode=mode))]  # type: ignore[arg-type]
        assert not [r for r in made if isinstance(r, Sysctl)]


def test_every_rule_has_its_chain_and_all_of_it_can_be_made_and_removed() -> None:
    policy = TrafficPolicy(link="br0")
    fw = Iptables()
    base = [*fw.setup("netkit:0:global")]
    more = [r for r in fw.network(NET, policy) if not isinstance(r, Sysctl)]
    more += fw.endpoint(NET, policy, EP, [port(8080, 80), port(81, 81, "127.0.0.2")])
    kernel = FakeKernel.holding(op.after for op in diff(state(base), {}, bool) if op.after)
    before = dict(kernel.things)
    kernel.apply(diff(state([*base, *more]), kernel.things, bool))
    assert len(kernel.things) == len(base) + len(more)
    kernel.apply(diff(state(base), kernel.things, bool))
    assert kernel.things == before


def test_no_firewall_is_no_rules() -> None:
    fw, policy = NoFirewall(), TrafficPolicy(link="br0")
    assert [*fw.setup("o"), *fw.network(NET, policy), *fw.endpoint(NET, policy, EP, [])] == []



def test_frames_of_a_network_inside_of_another_one_s_subnet_are_not_translated() -> None:
    policy = TrafficPolicy(link="wv-b", siblings="wv-")
    (cidr,) = (subnet.cidr for subnet in NET.subnets)
    found = rules(Iptables().network(NET, policy))
    assert f"nat -A POSTROUTING -s {cidr} ! -o wv-+ -j MASQUERADE" in found
    closed = Nftables().network(NET, TrafficPolicy(link="wv-b", mode="isolated", siblings="wv-"))
    home = [e.key_fields for e in closed if isinstance(e, NftElement) and e.set == "home"]
    assert home == [(str(cidr), "wv-b")]
