"""Access rules as flows of an Open vSwitch bridge."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.driver import Access
from plugins.ovs import flows
from plugins.ovs.access import enforced, masks

WEB, MAC = IPv4Address("10.1.0.2"), "02:42:0a:01:00:02"


def rule(verdict: str, *sources: str, rank: int = 0, **more: object) -> Access:
    nets = tuple(ip_network(s) for s in sources)
    return Access(id=f"{rank:012x}", verdict=verdict, sources=nets, priority=rank, **more)  # type: ignore[arg-type]


def flow_texts(*access: Access, translates: bool = True) -> list[str]:
    return [*enforced(WEB, MAC, access, translates=translates)]


def test_rules_are_asked_in_their_order_whatever_order_they_are_given_in() -> None:
    rules = [
        rule("drop", "0.0.0.0/0", rank=3),
        rule("accept", "10.1.0.7/32", rank=-1, proto="tcp", first=80, last=80),
        rule("drop", "10.1.0.4/32", "10.1.0.5/32", rank=2, proto="udp"),
    ]
    assert flow_texts(*rules) == [
        f"table=1,priority=60000,tcp,nw_src=10.1.0.7/32,nw_dst={WEB},tp_dst=0x50/0xffff,"
        f"dl_dst={MAC},actions=NORMAL",
        f"table=1,priority=59999,udp,nw_src=10.1.0.4/31,nw_dst={WEB},actions=drop",
        f"table=1,priority=59998,ip,nw_dst={WEB},actions=drop",
    ]


def test_links_are_left_out_and_published_ports_too_unless_they_are_the_containers() -> None:
    link = rule("accept", "10.1.0.7/32", link=True, proto="tcp", first=80, last=80)
    port = rule("drop", "0.0.0.0/0", proto="tcp", first=8080, last=8080, published=True)
    assert flow_texts(link, port) == []
    (flow,) = flow_texts(link, port, translates=False)
    assert "tp_dst=0x1f90/0xffff" in flow


def test_what_comes_by_a_tunnel_is_asked_about_as_well() -> None:
    *_, last = flows.stretched("g1", "02:00:00:00:00:01", ())
    assert last == "priority=100,in_port=g1,actions=resubmit(,1)"


@pytest.mark.slow
@given(st.integers(1, 65535), st.integers(0, 65535))
def test_masks_fit_exactly_the_ports_of_a_range(first: int, more: int) -> None:
    last = min(first + more, 65535)
    found = [*masks(first, last)]
    assert len(found) <= 30
    covered = [(value, value | (0xFFFF & ~mask)) for value, mask in found]
    assert all(value & ~mask == 0 for value, mask in found)
    assert covered[0][0] == first
    assert covered[-1][1] == last
    assert all(a[1] + 1 == b[0] for a, b in pairwise(covered))
