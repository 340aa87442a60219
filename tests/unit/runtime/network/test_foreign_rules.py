"""Which rules of other tools may decide about a container's packets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from netkit.diagnose.explain.facts import Facts, Interface
from netkit.diagnose.explain.ruleset import RuleSet
from netkit.diagnose.explain.saved import iptables
from runtime.network.foreign_rules import Home, Port, concerning, taking, written

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


JUMP = (
    "-A PREROUTING -m addrtype --dst-type LOCAL -m comment "
    '--comment "netkit:e1:global 01" -j DOCKER'
)


def takes(*before: str, raw: str = "", own: str = "", other: str = "") -> int:
    """How many rules take port 8080/tcp, published on 192.0.2.1."""
    text = "\n".join(
        (
            "*raw", ":PREROUTING ACCEPT [0:0]", raw, "COMMIT",
            "*nat", ":PREROUTING ACCEPT [0:0]", ":DOCKER - [0:0]", ":MINE - [0:0]",
            *before, JUMP, own, "-A MINE -p tcp --dport 8080 -j ACCEPT", "COMMIT",
        )
    )  # fmt: skip
    chains = iptables("iptables-nft", text)
    chains += [replace(c, tool="nft") for c in iptables("nft", other)] if other else []
    eth0 = Interface(name="eth0", addresses=(IPv4Interface("192.0.2.1/24"),))
    facts = Facts(interfaces={"eth0": eth0}, routes=(), rules=RuleSet.of(chains))
    return len(taking(facts, [Port("web", "tcp", "", 8080, "172.17.0.2")]))


@pytest.mark.parametrize(
    "rule",
    [
        "-A PREROUTING -p tcp --dport 8080 -j ACCEPT",
        "-A PREROUTING -s 198.51.100.9/32 -p tcp --dport 8000:9000 -j RETURN",
        "-A PREROUTING -d 192.0.2.1/32 -p tcp --dport 8080 -j REDIRECT --to-ports 99",
        "-A PREROUTING -i eth7 -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.1",
        "-A PREROUTING -p tcp -j ACCEPT",
        "-A PREROUTING -p tcp -j MINE",
    ],
)
def test_a_rule_before_netkits_that_takes_a_published_port_is_found(rule: str) -> None:
    assert takes(rule) == 1
    behind = "" if rule.endswith("MINE") else rule
    assert takes(own=behind) == 0


@pytest.mark.parametrize(
    "rule",
    [
        "-A PREROUTING -p tcp --dport 8081 -j ACCEPT",
        "-A PREROUTING -p udp --dport 8080 -j ACCEPT",
        "-A PREROUTING -d 192.0.2.7/32 -p tcp --dport 8080 -j ACCEPT",
        "-A PREROUTING -i virbr0 -j ACCEPT",
        "-A PREROUTING -s 198.51.100.0/24 -j RETURN",
        "-A PREROUTING -p tcp --dport 8080 -j LOG",
        "-A PREROUTING -p tcp --dport 8081 -j MINE",
        "-A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
    ],
)
def test_a_rule_that_leaves_it_alone_is_not(rule: str) -> None:
    assert takes(rule) == 0


def test_a_flow_not_tracked_is_not_translated_and_another_chain_decides_by_translating() -> None:
    assert takes(raw="-A PREROUTING -p tcp --dport 8080 -j CT --notrack") == 1
    assert takes(raw="-A PREROUTING -p tcp --dport 8080 -j ACCEPT") == 0
    head = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 8080 -j "
    assert takes(other=f"{head}ACCEPT\nCOMMIT\n") == 0
    assert takes(other=f"{head}REDIRECT --to-ports 9\nCOMMIT\n") == 1


def test_a_rule_of_netkits_without_its_comment_is_distinguished_from_foreign_rules() -> None:
    nat = "-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"
    args = ("-p", "tcp", "--dport", "8080", "-j", "DNAT", "--to-destination", "172.17.0.2:80")
    rules = RuleSet.of(iptables("iptables-legacy", SAVED.format(nat=nat, filter="")))
    for table, chain, lost in (("nat", "DOCKER", True), ("nat", "MINE", False)):
        missing = written(table, chain, args)
        assert [f["Lost"] for f in concerning(rules, [HOME], {8080}, missing)] == [lost]
    other = (*args[:-1], "172.17.0.3:80")
    assert not concerning(rules, [HOME], {8080}, written("nat", "DOCKER", other))[0]["Lost"]
