"""A packet as a line."""

from __future__ import annotations

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from netkit.testing.packets import summary

# With addresses: scapy would ask for them by ARP.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
INNER = ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP()
OUTER = ETHER / IP(src="192.0.2.1", dst="192.0.2.2")
INSIDE = "Ether / IP / ICMP 10.0.0.1 > 10.0.0.2 echo-request 0"


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (OUTER / TCP(sport=80, dport=8080), "IP / TCP 192.0.2.1:80 > 192.0.2.2:8080 S"),
        (OUTER / GRE(proto=0x6558) / INNER, f"IP / GRE / {INSIDE}"),
        (OUTER / UDP(dport=4789) / VXLAN(vni=7) / INNER, f"IP / UDP / VXLAN / {INSIDE}"),
        (OUTER / UDP(dport=6081) / GENEVE(proto=0x6558) / INNER, f"IP / UDP / GENEVE / {INSIDE}"),
    ],
)
def test_a_line_has_layers_addresses_and_ports_inside_of_tunnels_too(
    frame: Packet, line: str
) -> None:
    assert summary(bytes(frame), True).startswith(line)


def test_a_packet_without_a_frame_is_of_either_version() -> None:
    assert summary(bytes(INNER[IP]), False).startswith("IP / ICMP 10.0.0.1 > 10.0.0.2")
    six = IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest()
    assert summary(bytes(six), False).startswith("IPv6 / ICMPv6 Echo Request")
