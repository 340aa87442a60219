"""Probes distinguish open, closed, filtered and unrouted; taps receive all that comes."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.netlink import neighbours
from netkit.lab.probe import Responder, Verdict, listeners, probe
from netkit.testing.packets import Tap, hardware_address, matches, send
from tests.netns.conftest import Lab

pytestmark = pytest.mark.root
HERE, THERE, UNUSED = "10.88.0.1", "10.88.0.2", "10.88.0.9"


@dataclass
class Pair:
    """Two hosts on a cable."""

    here: str
    there: str
    lab: Lab

    def firewall(self, *words: str) -> None:
        self.lab.run("iptables", *words, at=self.there)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    far = f"/run/netns/nk-{secrets.token_hex(3)}-far"
    netns.create(far)
    try:
        lab.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                far.rpartition("/")[2])  # fmt: skip
        for ns, address in ((lab.home, HERE), (far, THERE)):
            lab.run("ip", "addr", "add", str(ip_interface(f"{address}/24")), "dev", "eth0", at=ns)
            lab.run("ip", "link", "set", "eth0", "up", at=ns)
        for ns in (lab.home, far):
            _connected(lab, ns)
        yield Pair(lab.home, far, lab)
    finally:
        netns.remove(far)


def _connected(lab: Lab, ns: str) -> None:
    """What is sent before the kernel has noticed the carrier is lost."""
    deadline = time.monotonic() + 60
    while "state UP" not in lab.run("ip", "-o", "link", "show", "eth0", at=ns):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listen(ns: str, port: int, address: str = THERE) -> socket.socket:
    sock = netns.open_socket(ns, socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((address, port))
    sock.listen()
    return sock


def test_an_open_port_a_closed_one_and_a_host_that_answers(pair: Pair) -> None:
    with listen(pair.there, 80), Responder(pair.there, THERE, 53):
        assert probe(pair.here, "tcp", THERE, 80).verdict == "open"
        assert probe(pair.here, "tcp", THERE, 81).verdict == "closed"
        assert probe(pair.here, "udp", THERE, 53).verdict == "open"
        assert probe(pair.here, "udp", THERE, 54).verdict == "closed"
        assert probe(pair.here, "icmp", THERE).verdict == "open"
    assert probe(pair.here, "tcp", THERE, 80).verdict == "closed"
    assert probe(pair.here, "udp", THERE, 53).verdict == "closed"


@pytest.mark.parametrize(
    ("target", "verdict", "why"),
    [
        (("DROP",), "filtered", "no answer"),
        (("REJECT",), "filtered", "port unreachable"),
        (("REJECT", "--reject-with", "icmp-admin-prohibited"), "filtered", "prohibited"),
        (("REJECT", "--reject-with", "icmp-net-unreachable"), "unrouted", "net unreachable"),
        (("REJECT", "--reject-with", "tcp-reset"), "closed", "RST"),
    ],
)
def test_a_firewall_is_distinguished_from_a_port_without_a_listener(
    pair: Pair, target: tuple[str, ...], verdict: Verdict, why: str
) -> None:
    pair.firewall("-A", "INPUT", "-p", "tcp", "-j", *target)
    with listen(pair.there, 80):
        seen = probe(pair.here, "tcp", THERE, 80, 0.4)
    assert seen.verdict == verdict
    assert why in seen.why


@pytest.mark.parametrize("proto", ["icmp", "udp"])
def test_silence_is_filtered_whatever_the_protocol(pair: Pair, proto: str) -> None:
    pair.firewall("-A", "INPUT", "-p", proto, "-j", "DROP")
    with Responder(pair.there, THERE, 53):
        assert probe(pair.here, proto, THERE, 53, 0.4).verdict == "filtered"


@pytest.mark.parametrize("proto", ["tcp", "udp", "icmp"])
def test_no_route_a_router_that_refuses_and_an_unused_address_are_unrouted(
    pair: Pair, proto: str
) -> None:
    assert probe(pair.here, proto, "203.0.113.1", 80).why == "no route here"
    pair.lab.run("ip", "route", "add", "203.0.113.0/24", "via", THERE)
    pair.lab.run("sysctl", "-qw", "net.ipv4.ip_forward=1", at=pair.there)
    seen = probe(pair.here, proto, "203.0.113.1", 80)
    assert (seen.verdict, seen.why) == ("unrouted", f"ICMP net unreachable from {THERE}")
    assert probe(pair.here, proto, UNUSED, 80, 4.0).verdict == "unrouted"


def test_listeners_are_those_that_other_hosts_can_reach(pair: Pair) -> None:
    with listen(pair.there, 80), listen(pair.there, 81, "127.0.0.1"), listen(pair.there, 82, ""):
        assert listeners(pair.there) == [80, 82]


def test_a_responder_leaves_a_port_in_use_to_its_holder(pair: Pair) -> None:
    with netns.open_socket(pair.there, socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((THERE, 53))
        with Responder(pair.there, THERE, 53):
            assert probe(pair.here, "udp", THERE, 53, 0.4).verdict == "filtered"
        assert other.recv(100)


# taps


def test_a_tap_receives_what_is_sent_as_soon_as_it_is_entered(pair: Pair) -> None:
    for n in range(50):
        with Tap(pair.there, "eth0") as tap:
            send(pair.here, IP(dst=THERE) / UDP(sport=7, dport=5000 + n) / b"x", "eth0")
            assert tap.saw(UDP(dport=5000 + n)), "lost"
            assert tap.count(UDP(dport=5000 + n), 2, within=0.01) == 1


def test_ip_packets_take_the_kernels_route_and_source(pair: Pair) -> None:
    pair.lab.run("ip", "route", "add", "203.0.113.0/24", "via", THERE)
    with Tap(pair.there, "eth0") as tap:
        send(pair.here, IP(dst="203.0.113.7", ttl=9) / TCP(dport=80, flags="S"), "eth0")
        assert tap.saw(IP(src=HERE, dst="203.0.113.7", ttl=9) / TCP(dport=80))
    (frame,) = tap.matching(TCP(dport=80))
    assert frame[Ether].dst == hardware_address(pair.there, "eth0")
    checksum = frame[TCP].chksum
    del frame[TCP].chksum
    assert Ether(bytes(frame))[TCP].chksum == checksum, "computed with the source that was used"


def test_frames_go_out_as_they_are_and_forged_ones_uncorrected(pair: Pair) -> None:
    lie = Ether(src="02:00:00:00:00:66", dst=hardware_address(pair.there, "eth0"))
    with Tap(pair.there, "eth0") as tap:
        send(pair.here, lie / IP(src="192.0.2.66", dst=THERE) / ICMP(), "eth0")
        send(pair.here, Ether(dst=lie.dst) / IP(dst=THERE) / UDP(dport=9), "eth0")
        assert tap.saw(Ether(src="02:00:00:00:00:66") / IP(src="192.0.2.66") / ICMP())
        own = hardware_address(pair.here, "eth0")
        assert tap.saw(Ether(src=own) / IP(src=HERE) / UDP(dport=9))
        assert tap.never_saw(UDP(dport=10), within=0.1)
    with pytest.raises(ValueError, match="lacks its destination"):
        send(pair.here, Ether() / ARP(), "eth0")


def test_a_tap_that_lost_frames_says_so_and_claims_no_silence(pair: Pair) -> None:
    with Tap(pair.there, "eth0", buffer=4096) as tap:
        frame = Ether(dst="02:00:00:00:00:01") / IP(src=HERE, dst=UNUSED) / UDP() / (b"x" * 1000)
        send(pair.here, [frame] * 200, "eth0")
        time.sleep(0.1)
        with pytest.raises(KernelError, match="frames were lost"):
            tap.never_saw(ARP())


def test_a_tap_on_an_interface_that_is_not_there_says_which(pair: Pair) -> None:
    with pytest.raises(KernelError, match="cannot tap eth7"), Tap(pair.there, "eth7"):
        pass


def test_a_template_matches_by_what_was_set_and_by_order() -> None:
    frame = Ether(bytes(Ether(dst="02:00:00:00:00:01") / IP(dst="1.2.3.4") / UDP(dport=53) / b"x"))
    assert matches(frame, UDP())
    assert matches(frame, IP(dst="1.2.3.4") / UDP(dport=53) / b"x")
    assert matches(frame, lambda f: f[IP].ttl == 64)
    assert not matches(frame, UDP(dport=54))
    assert not matches(frame, UDP() / IP())
    assert not matches(frame, UDP() / b"y")


def test_what_was_learned_of_neighbours_is_forgotten_and_what_was_put_there_stays(
    pair: Pair,
) -> None:
    assert probe(pair.here, "icmp", THERE).verdict == "open"
    put = "10.88.0.7"
    pair.lab.run("ip", "neigh", "add", put, "lladdr", "02:00:00:00:00:07", "dev", "eth0",
                 at=pair.here)  # fmt: skip
    assert THERE in pair.lab.run("ip", "neigh", "show", at=pair.here)
    assert neighbours.forget([pair.here, "/run/netns/nk-nowhere"]) == 1
    left = pair.lab.run("ip", "neigh", "show", at=pair.here)
    assert THERE not in left
    assert f"{put} dev eth0 lladdr 02:00:00:00:00:07 PERMANENT" in left
    assert probe(pair.here, "icmp", THERE).verdict == "open"
