"""Drop rules that no rule of the host could enforce: refused, or warned of."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from netkit.driver import TrafficPolicy
from netkit.errors import NotSupported
from runtime.network.rule_visibility import TargetNetwork, check_visible, gaps

SUBNET = IPv4Network("172.18.0.0/16")
PLAIN = TrafficPolicy(link="br0")
LAN = TrafficPolicy(link="br0", mode="bridged")
COMMAND = "type `ip link set br0 type bridge nf_call_iptables 1`"


def ask(policy: TrafficPolicy, *sources: str, shared: bool = False, shown: str = "") -> list[str]:
    home = TargetNetwork(name="one", subnets=(SUBNET,), policy=policy, shared=shared)
    return check_visible(
        map(IPv4Network, sources), [home], lambda link: shown if link == "br0" else ""
    )


@pytest.mark.parametrize("policy", [PLAIN, LAN])
def test_what_rules_see_is_no_question(policy: TrafficPolicy) -> None:
    for source in ("172.18.0.9/32", "0.0.0.0/0", "192.0.2.1/32"):
        assert ask(policy, source) == []
    assert ask(policy, shared=True) == []


def test_a_rule_about_neighbours_alone_is_refused_and_a_wider_one_is_warned_of() -> None:
    for sources, shared in ((["172.18.0.9/32"], False), (["192.0.2.1/32", "172.18.4.0/24"], False),
                            ([], True)):  # fmt: skip
        with pytest.raises(NotSupported, match=r"would not hold on network one: ") as refused:
            ask(PLAIN, *sources, shared=shared, shown=COMMAND)
        assert COMMAND in str(refused.value)
    (warning,) = ask(PLAIN, "0.0.0.0/0", shown=COMMAND)
    assert warning.startswith("the rule does not hold between containers of one: ")
    assert COMMAND in warning
    assert ask(PLAIN, "192.0.2.1/32", shown=COMMAND) == []


def test_on_a_lan_all_packets_come_over_the_bridge() -> None:
    with pytest.raises(NotSupported, match="nf_call_iptables 1"):
        ask(LAN, "192.0.2.1/32", shown=COMMAND)


def test_isolated_neighbours_meet_only_where_rules_see_them() -> None:
    apart = TrafficPolicy(link="br0", icc=False)
    assert ask(apart, "172.18.0.9/32", shown=COMMAND) == []


def test_where_a_rule_in_the_kernel_does_not_hold_is_reported_for_each_network() -> None:
    near, far = IPv4Network("172.18.0.9/32"), IPv4Network("0.0.0.0/0")
    homes = [
        TargetNetwork(name="one", subnets=(SUBNET,), policy=PLAIN),
        TargetNetwork(name="lan", subnets=(IPv4Network("192.0.2.0/24"),), policy=LAN),
        TargetNetwork(name="two", subnets=(SUBNET,), policy=TrafficPolicy(link="br2")),
    ]

    def shown(link: str) -> str:
        return COMMAND if link == "br0" else ""

    whole = [str(g) for g in gaps([near], homes, shown)]
    assert whole == [f"on one: {COMMAND}", f"on lan: {COMMAND}"]
    assert [(g.network, g.whole) for g in gaps([far], homes, shown)] == [
        ("one", False),
        ("lan", True),
    ]
    assert list(gaps([far], homes, lambda link: "")) == []
