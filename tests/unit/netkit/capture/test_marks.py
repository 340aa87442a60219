"""Which packets begin a flow, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Frame

from netkit.capture.flows import Flow, request
from netkit.capture.marks import MOST_FLOWS, Marks
from netkit.capture.merging import Packet
from netkit.diagnose.trace.join import Trace, question
from netkit.errors import NotFound
from netkit.kernel.packet_socket import ETHERNET, RAW

# With addresses: scapy would ask for them by ARP.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SENT = IP(src="10.0.0.1", dst="10.0.0.2")
WEB = Flow(source="10.0.0.1", target="10.0.0.2", proto="tcp", port=80)
SYN = ETHER / SENT / TCP(sport=4000, dport=80, flags="S")


@pytest.mark.parametrize(
    ("frame", "flow"),
    [
        (SYN, WEB),
        (ETHER / Dot1Q(vlan=5) / SENT / TCP(dport=80, flags="S"), WEB),
        (ETHER / SENT / ICMP(type=8), replace(WEB, proto="icmp", port=0)),
        (ETHER / SENT / UDP(dport=53), replace(WEB, proto="udp", port=53)),
        (ETHER / SENT / TCP(dport=80, flags="SA"), None),
        (ETHER / SENT / TCP(dport=80, flags="A"), None),
        (ETHER / SENT / ICMP(type=0), None),
        (ETHER / IP(frag=3, src="10.0.0.1", dst="10.0.0.2") / UDP(dport=53), None),
        (ETHER / ARP(psrc="10.0.0.1", hwsrc="02:00:00:00:00:01"), None),
        (ETHER / IPv6(src="fd00::1", dst="fd00::2") / TCP(flags="S"), None),
    ],
)
def test_a_request_is_the_first_packet_of_a_flow(frame: Frame, flow: Flow | None) -> None:
    assert request(bytes(frame), ETHERNET) == flow


def test_cut_packets_and_packets_without_a_frame_are_read_too() -> None:
    assert request(bytes(SYN[IP]), RAW) == WEB
    for size in range(len(bytes(SYN))):
        request(bytes(SYN)[:size], ETHERNET)
        request(bytes(SYN)[:size], RAW)


def packet(frame: Frame, point: int = 0) -> Packet:
    return Packet(point=point, stamp=0, data=bytes(frame), length=0, flags=0)


def test_a_flow_is_traced_once_a_host_and_every_packet_of_it_marked() -> None:
    asked: list[tuple[str, str]] = []

    def trace(flow: Flow, host: str) -> Trace:
        asked.append((flow.service, host))
        return Trace(question=question("a", "b"), packet="", verdict="DROPPED", code="x",
                     words="at h1, by rule 3")  # fmt: skip

    marks = Marks(trace, ["h1", "h1", "h2"])
    said = [marks.comments(packet(SYN, point), ETHERNET) for point in (0, 1, 2, 0)]
    assert said == [["net trace: DROPPED: at h1, by rule 3"]] * 4
    assert asked == [("80/tcp", "h1"), ("80/tcp", "h2")]


def test_an_answer_of_udp_is_not_traced_and_a_failing_trace_is_said() -> None:
    def trace(flow: Flow, host: str) -> Trace:
        raise NotFound("no such address")

    marks = Marks(trace, [""])
    there = ETHER / SENT / UDP(sport=4000, dport=53)
    back = ETHER / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=53, dport=4000)
    said = ["net trace: UNDETERMINED: no such address"]
    assert marks.comments(packet(there), ETHERNET) == said
    assert marks.comments(packet(back), ETHERNET) == []
    assert marks.comments(packet(there), ETHERNET) == said


def test_flows_that_are_traced_are_bounded() -> None:
    def trace(flow: Flow, host: str) -> Trace:
        raise NotFound(flow.service)

    marks = Marks(trace, [""])
    for port in range(1, MOST_FLOWS + 4):
        marks.comments(packet(ETHER / SENT / TCP(dport=port, flags="S")), ETHERNET)
    assert marks.untraced == 3
