"""A subnet for each host and routes between them: mode routed of the ovs driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, GRE, Ether

from tests.netns.ovs_hosts import OvsHost, hosts, listening, reaches, run, send, transfer

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OvsHost]]:
    """Host n has 192.168.n.0/24, and one container with .9 in it."""
    with hosts(3, tmp_path_factory.mktemp("routed")) as found:
        for h in found:
            routes = ",".join(f"192.168.{o.number}.0/24={o.ip}" for o in found if o is not h)
            h.create("wide", f"192.168.{h.number}.0/24", mode="routed", routes=routes)
            h.open("c", "wide", f"192.168.{h.number}.9")
        yield found


def test_containers_of_different_subnets_reach_each_other(three: list[OvsHost]) -> None:
    for h in three:
        for other in three:
            assert reaches(h.ns("c"), f"192.168.{other.number}.9")


def test_a_host_reaches_containers_of_other_hosts(three: list[OvsHost]) -> None:
    assert reaches(three[0].home, "192.168.2.9")
    assert reaches(three[2].home, "192.168.1.9")


def test_tcp_passes_and_shows_the_containers_own_address(three: list[OvsHost]) -> None:
    h1, h2, _ = three
    assert reaches(h1.ns("c"), "192.168.2.9")
    with listening(h2.ns("c"), "eth0") as seen:
        transfer(h2.ns("c"), h1.ns("c"), "192.168.2.9", 1 << 20)
    sources = {p[IP].src for f in seen.frames if TCP in (p := Ether(f))}
    assert sources == {"192.168.1.9", "192.168.2.9"}


def test_no_broadcast_and_no_arp_is_ever_in_a_tunnel(three: list[OvsHost]) -> None:
    h1 = three[0]
    own = h1.boxes["c"].mac
    with listening(h1.wire, h1.port) as wire:
        run("ip", "neigh", "flush", "all", at=h1.home)
        packet = Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / IP(
            src="192.168.1.9", dst="192.168.1.255"
        )
        send(h1.ns("c"), bytes(packet / UDP() / b"sent"))
        ask = ARP(op=1, hwsrc=own, psrc="192.168.1.9", pdst="192.168.1.77")
        send(h1.ns("c"), bytes(Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ask))
        assert reaches(h1.ns("c"), "192.168.2.9")
    inside = [p[GRE][Ether] for f in wire.frames if GRE in (p := Ether(f))]
    inside = [p for p in inside if p.dst != "00:23:20:00:00:01"]  # BFD
    assert inside
    assert {p.type for p in inside} == {0x0800}
    assert {p[IP].dst for p in inside} == {"192.168.1.9", "192.168.2.9"}


@pytest.mark.parametrize(
    ("src", "dst"),
    [("192.168.3.9", "192.168.2.9"), ("192.168.1.9", "10.9.0.2"), ("203.0.113.5", "192.168.2.9")],
    ids=["another peer's subnet", "the host itself", "an unused subnet"],
)
def test_a_peer_speaks_for_its_own_subnets_only(three: list[OvsHost], src: str, dst: str) -> None:
    """What h1 would send h2 if an attacker controlled h1."""
    h1, h2, _ = three
    with listening(h1.wire, h1.port) as wire:
        assert reaches(h1.ns("c"), "192.168.2.9")
    outer = next(
        p
        for f in wire.frames
        if GRE in (p := Ether(f)) and IP in p[GRE] and p[GRE][IP].dst == "192.168.2.9"
    )
    head = Ether(src=outer.src, dst=outer.dst) / IP(src=h1.ip, dst=h2.ip, proto=47)
    gre = GRE(proto=0x6558, key_present=1, key=outer[GRE].key)
    mac = outer[GRE][Ether].dst
    with listening(h2.home, f"nko{h2.net.find('wide').id}"[:15]) as seen:
        for source, target, word in ((src, dst, b"bad"), ("192.168.1.9", "192.168.2.9", b"good")):
            inner = Ether(src="02:01:01:01:01:01", dst=mac) / IP(src=source, dst=target) / UDP()
            send(h2.wire, bytes(head / gre / inner / (b"sent " + word)), dev=h2.port)
    assert any(b"sent good" in f for f in seen.frames)
    assert not any(b"sent bad" in f for f in seen.frames)
