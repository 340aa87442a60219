"""Which rules of other tools may decide about a container's packets."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netkit.explain.ruleset import RuleSet
from netkit.explain.saved import iptables
from runtime.foreignrules import Home, concerning

HOME = Home(IPv4Address("172.17.0.2"), "docker0")
SAVED = """*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "netkit:e1:global 01" -j DOCKER
{nat}
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:DOCKER - [0:0]
:MINE - [0:0]
:UNUSED - [0:0]
-A FORWARD -o docker0 -m comment --comment "netkit:e1:x 02" -j DOCKER
-A FORWARD -j MINE
{filter}
COMMIT
"""


def found(table: str, rule: str) -> bool:
    lines = {"nat": "", "filter": "", table: rule}
    rules = RuleSet.of(iptables("iptables-nft", SAVED.format(**lines)))
    return [f["Text"] for f in concerning(rules, [HOME], {8080})] == [rule]


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("filter", "-A DOCKER -s 192.0.2.1/32 -d 172.17.0.2/32 -p tcp --dport 80 -j DROP"),
        ("filter", "-A FORWARD -d 172.17.0.0/16 -j DROP"),
        ("filter", "-A FORWARD -i docker0 -d 192.0.2.0/24 -j REJECT"),
        ("filter", "-A MINE -j ACCEPT"),
        ("filter", "-A MINE ! -d 172.17.0.9/32 -j DROP"),
        ("nat", "-A DOCKER -p tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:80"),
        ("nat", "-A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 99"),
        ("nat", "-A PREROUTING -d 172.17.0.2/32 -j ACCEPT"),
    ],
)
def test_rules_that_may_decide(table: str, rule: str) -> None:
    assert found(table, rule)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("filter", "-A DOCKER -d 172.17.0.3/32 -j DROP"),
        ("filter", "-A FORWARD -i eth0 -o eth1 -j DROP"),
        ("filter", "-A FORWARD ! -d 172.17.0.0/16 -s 10.0.0.0/8 -j DROP"),
        ("filter", "-A INPUT -j DROP"),  # what is for the host itself
        ("filter", "-A UNUSED -d 172.17.0.2/32 -j DROP"),  # nothing leads there
        ("filter", "-A MINE -j RETURN"),
        ("filter", "-A MINE -d 172.17.0.2/32 -j LOG"),
        ("nat", "-A PREROUTING -p tcp --dport 8081 -j REDIRECT --to-ports 99"),
        ("nat", "-A DOCKER -p tcp --dport 9000 -j DNAT --to-destination 172.17.0.3:80"),
    ],
)
def test_rules_that_do_not(table: str, rule: str) -> None:
    assert not found(table, rule)
