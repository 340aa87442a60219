"""Which ports a rule publishes, for deleting tracked flows."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netkit.kernel.conntrack import Published, published
from netkit.model import Chain, Rule

OWNER = "netkit:0:aaaaaaaaaaaa"


def _of(args: str) -> list[Published]:
    rule = Rule(table="nat", chain="DOCKER", args=tuple(args.split()), owner=OWNER)
    return list(published(rule))


def _udp(at: str | None, ports: tuple[int, int], to: tuple[int, int]) -> Published:
    where = IPv4Address(at) if at else None
    address = IPv4Address("10.1.0.2")
    return Published(proto="udp", at=where, ports=ports, address=address, to=to)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("-p udp -m udp --dport 53 -j DNAT --to-destination 10.1.0.2:5353",
         [_udp(None, (53, 53), (5353, 5353))]),
        ("-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.1.0.2",
         [_udp("192.0.2.1", (53, 53), (53, 53))]),
        ("-p udp -m udp --dport 80:90 -j DNAT --to-destination 10.1.0.2:180-190/80",
         [_udp(None, (80, 90), (180, 190))]),
        ("-p udp -m multiport --dports 1,5:9 -j DNAT --to-destination 10.1.0.2",
         [_udp(None, (1, 1), (1, 1)), _udp(None, (5, 9), (5, 9))]),
        ("! -d 127.0.0.0/8 -p udp -j DNAT --to-destination 10.1.0.2",
         [_udp(None, (0, 65535), (0, 65535))]),
        ("-p tcp -m tcp --dport 53 -j DNAT --to-destination 10.1.0.2:5353", []),
        ("! -p udp -j DNAT --to-destination 10.1.0.2", []),
        ("-p udp -m udp --dport 53 -j ACCEPT", []),
        ("-p udp -f -j DNAT", []),
    ],
)  # fmt: skip
def test_a_rule_says_which_ports_lead_where(args, expected):
    assert _of(args) == expected


def test_sctp_has_flows_too_and_other_things_have_none():
    (one,) = _of("-p sctp -m sctp --dport 7 -j DNAT --to-destination 10.1.0.2:8")
    assert (one.proto, one.ports, one.to) == ("sctp", (7, 7), (8, 8))
    assert list(published(Chain(table="nat", name="DOCKER"))) == []
    assert list(published(None)) == []
