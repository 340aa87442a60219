"""Frames with forged addresses from containers never arrive, those with their own do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from netkit.kernel.segment.prober import HostSegments
from netkit.model import Resource
from plugins.lan import Lan
from tests.netns.lanbox import HOST, OTHER, ROUTER, LanBox, container, endpoint, lan0, lan_box

pytestmark = pytest.mark.root

SNIFF = """
import json, re, sys
from scapy.all import AsyncSniffer
from threading import Event
armed = Event()
s = AsyncSniffer(iface="eth0", started_callback=armed.set)
s.start()
armed.wait()
print("armed", flush=True)
sys.stdin.readline()
found = (re.search(rb"nk<([a-z ]+)>", bytes(p)) for p in s.stop())
print(json.dumps([f[1].decode() for f in found if f]), flush=True)
"""
SEND = """
import json, sys
from scapy.all import ARP, BOOTP, DHCP, IP, IPv6, TCP, UDP, ICMP, Dot1Q, Ether, LLC, Raw, STP
from scapy.all import ICMPv6ND_RA, conf, fragment, sendp
me, mac, host_mac = json.loads(sys.argv[1])
all_ = "ff:ff:ff:ff:ff:ff"
E = lambda **k: Ether(**{"src": mac, "dst": all_, **k})
pdst = "10.211.55.50"
frames = {
    "own broadcast": E() / IP(src=me, dst="10.211.55.255") / UDP(sport=9, dport=9),
    "own arp": E() / ARP(op=1, hwsrc=mac, psrc=me, pdst=pdst),
    "own probe": E() / ARP(op=1, hwsrc=mac, psrc="0.0.0.0", pdst=me),
    "own fragment": E() / IP(src=me, dst=pdst, flags="MF", frag=9),
    "own tcp": E() / IP(src=me, dst=pdst) / TCP(sport=9, dport=9),
    "tcp other ip": E() / IP(src="10.211.55.50", dst=pdst) / TCP(sport=9, dport=9),
    "tcp other mac": E(src="02:00:00:00:00:99") / IP(src=me, dst=pdst) / TCP(sport=9, dport=9),
    "vlan tcp": E() / Dot1Q(vlan=7) / IP(src=me, dst=pdst) / TCP(sport=9, dport=9),
    "vlan zero tcp": E() / Dot1Q(vlan=0) / IP(src=me, dst=pdst) / TCP(sport=9, dport=9),
    "other mac": E(src="02:00:00:00:00:99") / IP(src=me, dst=pdst) / ICMP(),
    "host mac": E(src=host_mac) / IP(src=me, dst=pdst) / ICMP(),
    "other ip": E() / IP(src="10.211.55.50", dst="10.211.55.1") / ICMP(),
    "no ip": E() / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=9, dport=9),
    "arp for router": E() / ARP(op=2, hwsrc=mac, psrc="10.211.55.1", pdst=pdst),
    "arp other mac": E() / ARP(op=2, hwsrc="02:00:00:00:00:99", psrc=me, pdst=pdst),
    "arp ether differs": E(src="02:00:00:00:00:99") / ARP(op=1, hwsrc=mac, psrc=me, pdst=pdst),
    "probe of other": E() / ARP(op=1, hwsrc=mac, psrc="0.0.0.0", pdst="10.211.55.77"),
    "dhcp offer": E() / IP(src=me, dst="255.255.255.255") / UDP(sport=67, dport=68)
        / BOOTP(op=2, yiaddr="10.0.0.9") / DHCP(options=[("message-type", "offer"), "end"]),
    "dhcp other port": E() / IP(src=me, dst="255.255.255.255") / UDP(sport=6767, dport=68),
    "router advertisement": E(dst="33:33:00:00:00:01") / IPv6(src="fe80::1", dst="ff02::1")
        / ICMPv6ND_RA(),
    "vlan": E() / Dot1Q(vlan=7) / IP(src=me, dst="10.211.55.255") / UDP(sport=9, dport=9),
    "vlan zero": E() / Dot1Q(vlan=0) / ARP(op=1, hwsrc=mac, psrc=me, pdst=pdst),
    "spanning tree": E(dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(),
    "homemade type": E(type=0x88B5),
}
conf.verb = 0
for name, frame in frames.items():
    sendp(frame / Raw(b"nk<" + name.encode() + b">"), iface="eth0")
print(json.dumps(list(frames)))
"""
OWN = ["own arp", "own broadcast", "own fragment", "own probe", "own tcp"]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanBox]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with lan_box(tmp_path_factory.mktemp("lan") / "handovers") as box:
        box.make(*resources(box))
        yield box


@contextmanager
def sniffer(at: str) -> Iterator[subprocess.Popen[str]]:
    argv = ["nsenter", f"--net={at}", sys.executable, "-c", SNIFF]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "armed\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def received(child: subprocess.Popen[str]) -> list[str]:
    time.sleep(0.5)
    out, _ = child.communicate("stop\n", timeout=30)
    return sorted(set(json.loads(out)))


def send(box: LanBox) -> list[str]:
    """Send everything that container 1 might try; return the names of the frames."""
    ep = endpoint(box, lan0(), 1)
    host_mac = json.loads(box.run("ip -j link show br-eth0"))[0]["address"]
    arguments = json.dumps([str(ep.addresses[0].ip), ep.mac, host_mac])
    done = box.tried(sys.executable, "-c", SEND, arguments, at=ep.ns)
    assert done.returncode == 0, done.stderr
    return sorted(json.loads(done.stdout))


def resources(box: LanBox) -> list[Resource]:
    net = lan0()
    return [*Lan().network(net), *container(box, net, 1), *container(box, net, 2)]


def test_only_what_is_its_own_leaves_a_container(box: LanBox) -> None:
    with sniffer(box.at("other")) as far, sniffer(f"{box.folder}/c2") as near:
        assert len(send(box)) == 24
        assert (received(far), received(near)) == (OWN, OWN)


def test_the_same_frames_pass_where_nothing_guards_the_port(box: LanBox) -> None:
    """A control: without the guard the same frames do arrive."""
    port = f"veth{endpoint(box, lan0(), 1).id}"[:15]
    box.run(f"nft delete element bridge netkit-aaaaaaaaaaaa ports {{ {port} }}")
    try:
        with sniffer(box.at("other")) as far:
            sent = send(box)
            # The host's own MAC address is where the bridge keeps the frame, guard or no guard.
            assert set(sent) - set(received(far)) <= {"host mac"}
    finally:
        assert box.make(*resources(box))


def test_most_frames_are_admitted_by_one_lookup(box: LanBox) -> None:
    """Without the sets of single addresses all but UDP still passes, by that of both."""
    ep = endpoint(box, lan0(), 1)
    port = f"veth{ep.id}"[:15]
    for name, value in (("macs", ep.mac), ("sources", ep.addresses[0].ip)):
        box.run(f"nft delete element bridge netkit-aaaaaaaaaaaa {name} {{ {port} . {value} }}")
    try:
        with sniffer(box.at("other")) as far:
            send(box)
            assert received(far) == ["own fragment", "own tcp"]
    finally:
        assert box.make(*resources(box))


def test_a_flushed_guard_is_put_back(box: LanBox) -> None:
    box.run("nft flush ruleset")
    assert box.make(*resources(box))
    assert box.make(*resources(box)) == ()
    with sniffer(box.at("other")) as far:
        send(box)
        assert received(far) == OWN


def test_addresses_in_use_are_found_on_any_host(box: LanBox) -> None:
    segment = Lan().segment(lan0())
    candidates = [IPv4Address(a) for a in (ROUTER, OTHER, HOST, "10.211.55.129", "10.211.55.222")]
    found = HostSegments(box.home).occupied(segment, candidates)
    assert sorted(map(str, found)) == sorted([ROUTER, OTHER, HOST, "10.211.55.129"])
    started = time.monotonic()
    assert HostSegments(box.home).occupied(segment, candidates[:2])
    assert time.monotonic() - started < segment.probe / 2
