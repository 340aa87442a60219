"""Weave networks of several hosts, by the kernel alone: what the wire and the containers see."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.netlink import tap as taps
from netkit.kernel.nftables.senders import SenderCheck
from netkit.overlay.fabric import Fabric, Member, NetworkTable, Reach, Table
from netkit.testing.packets import Tap, hardware_address, send
from netkit.testing.waiting import readable
from plugins.weave.driver import host_mac, vni_of
from tests.netns.weave_hosts import CIDR, Town, WeaveHost, town

pytestmark = pytest.mark.root
BROADCAST = "ff:ff:ff:ff:ff:ff"
UNKNOWN = "10.32.200.200"
VIRTIO_HEADER = 10  # bytes


@pytest.fixture(scope="module")
def three() -> Iterator[Town]:
    """Hosts h1, h2 and h3 with a container each on "lane"; h4 is on it without one."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with town(4) as made:
        for host in made.hosts:
            host.join("lane")
        for host in made.hosts[:3]:
            host.run("lane", "c1")
        made.tell()
        yield made


@pytest.fixture
def two() -> Iterator[Town]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with town(2) as made:
        for host in made.hosts:
            host.join("lane")
            host.run("lane", "c1")
        made.tell()
        yield made


def on_wire(tap: Tap) -> list[tuple[str, str, Packet]]:
    """(outer source, outer destination, inner frame) of the VXLAN frames seen."""
    seen = [f for f in tap.all() if UDP in f and f[UDP].dport == 6784]
    return [(f[IP].src, f[IP].dst, VXLAN(bytes(f[UDP].payload))) for f in seen]


def settled(seconds: float = 0.3) -> None:
    time.sleep(seconds)


# -- forwarding ------------------------------------------------------------------


def test_containers_reach_each_other_and_nobody_else_hears_it(three: Town) -> None:
    h1, h2, h3, _ = three.hosts
    wire = [Tap(h.home, "eth0") for h in three.hosts]
    with wire[0], wire[1], wire[2], wire[3]:
        assert h1.pings("c1", "10.32.2.1")
        assert h2.pings("c1", "10.32.1.1")
        assert h3.pings("c1", "10.32.1.1")
        settled()
        frames = on_wire(wire[0])
        assert {f[0] for f in frames} == {str(h.ip) for h in (h1, h2, h3)}
        assert not any(ARP in frame for *_, frame in frames)  # answered where it was asked
        assert {frame.vni for *_, frame in frames} == {vni_of(h1.networks["lane"])}
        assert {(a, b) for a, b, _ in on_wire(wire[2])} == {
            (str(h3.ip), str(h1.ip)), (str(h1.ip), str(h3.ip)),
        }  # fmt: skip
        assert on_wire(wire[3]) == []


def test_what_is_for_all_goes_once_to_each_peer_that_has_members(three: Town) -> None:
    h1, h2, h3, _ = three.hosts
    question = Ether(dst=BROADCAST, src="02:42:0a:20:01:01") / ARP(
        hwsrc="02:42:0a:20:01:01", psrc="10.32.1.1", pdst=UNKNOWN
    )
    with Tap(h1.home, "eth0") as wire, Tap(h2.ns("c1"), "eth0") as far:
        send(h1.ns("c1"), question, "eth0")
        assert far.saw(ARP(pdst=UNKNOWN))
        settled()
        assert sorted(dst for _, dst, _ in on_wire(wire)) == [str(h2.ip), str(h3.ip)]
        assert len(far.matching(ARP(pdst=UNKNOWN))) == 1


def test_frames_to_an_address_that_nobody_has_stay_here(three: Town) -> None:
    h1, _, _, _ = three.hosts
    lost = Ether(dst="02:42:0a:20:63:63", src="02:42:0a:20:01:01") / IP(
        src="10.32.1.1", dst=UNKNOWN
    ) / ICMP()  # fmt: skip
    with Tap(h1.home, "eth0") as wire:
        send(h1.ns("c1"), lost, "eth0")
        settled()
        assert on_wire(wire) == []


def test_multicast_reaches_all_members_or_stays_here(three: Town) -> None:
    h1, h2, _, _ = three.hosts
    group = Ether(dst="01:00:5e:01:02:03", src="02:42:0a:20:01:01") / IP(
        src="10.32.1.1", dst="239.1.2.3"
    ) / UDP(dport=5000) / b"all"  # fmt: skip
    with Tap(h2.ns("c1"), "eth0") as far:
        send(h1.ns("c1"), group, "eth0")
        assert far.saw(IP(dst="239.1.2.3"))


def test_a_megabyte_goes_through_at_once(three: Town) -> None:
    """Segments of 64 KiB at both ends, cut up by the kernel in between."""
    h1, h2, _, _ = three.hosts
    size = 32 << 20
    with netns.open_socket(h2.ns("c1"), socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("10.32.2.1", 0))
        listener.listen()
        with netns.open_socket(h1.ns("c1"), socket.AF_INET, socket.SOCK_STREAM) as sender:
            sender.connect(listener.getsockname())
            got, _ = listener.accept()
            with got:
                assert _poured(sender, got, size) < 20


def test_a_container_is_told_of_an_underlay_that_is_narrower_than_its_network(two: Town) -> None:
    """By ICMP (RFC 1191), which the kernel makes at the VXLAN device; nothing is cut up."""
    h1, h2 = two.hosts
    h1.did("ip", "link", "set", "eth0", "mtu", "1300")
    with (
        netns.open_socket(h2.ns("c1"), socket.AF_INET, socket.SOCK_STREAM) as listener,
        Tap(h1.ns("c1"), "eth0") as inside,
        Tap(h1.home, "eth0") as wire,
    ):
        listener.bind(("10.32.2.1", 0))
        listener.listen()
        with netns.open_socket(h1.ns("c1"), socket.AF_INET, socket.SOCK_STREAM) as sender:
            sender.connect(listener.getsockname())
            got, _ = listener.accept()
            with got:
                _poured(sender, got, 1 << 20)
        told = inside.matching(ICMP(type=3, code=4))
        assert {(f[IP].src, f[ICMP].nexthopmtu) for f in told} == {("10.32.2.1", 1250)}
        assert not [f for f in wire.all() if IP in f and (f[IP].frag or f[IP].flags.MF)]


def _poured(sender: socket.socket, receiver: socket.socket, size: int) -> float:
    """Seconds until all of it has come."""
    begin, left, data = time.monotonic(), size, bytes(1 << 18)
    sender.setblocking(False)
    unsent = size
    poll = select.poll()
    poll.register(receiver, select.POLLIN)
    poll.register(sender, select.POLLOUT)
    while left:
        ready = {fd for fd, _ in poll.poll(5000)}
        assert ready
        if sender.fileno() in ready:
            unsent -= sender.send(data[: min(len(data), unsent)])
            if not unsent:
                poll.unregister(sender)
        if receiver.fileno() in ready:
            left -= len(receiver.recv(1 << 18))
    return time.monotonic() - begin


def test_the_host_is_on_the_network_only_where_it_is_exposed() -> None:
    with town(2) as made:
        h1, h2 = made.hosts
        h1.join("lane", expose="true")
        h2.join("lane")
        h2.run("lane", "c1")
        made.tell()
        assert h1.sh("busybox", "ping", "-c", "1", "-W", "4", "10.32.2.1").returncode == 0
        assert h2.pings("c1", str(CIDR[1]))
        assert h2.sh("busybox", "ping", "-c", "1", "-W", "1", "10.32.2.1").returncode != 0


@pytest.mark.parametrize("expose", [False, True])
def test_the_host_s_other_addresses_are_not_reached_where_it_is_not_exposed(expose: bool) -> None:
    """Linux takes packets for any of its addresses by any interface, and answers ARP for them."""
    with town(1) as made:
        (h1,) = made.hosts
        net = h1.join("lane", expose=str(expose).lower())
        h1.run("lane", "c1")
        mine = "02:42:0a:20:01:01"
        question = ARP(hwsrc=mine, psrc="10.32.1.1", pdst=str(h1.ip))
        packet = IP(src="10.32.1.1", dst=str(h1.ip)) / UDP(dport=7777) / b"in"
        with (
            netns.open_socket(h1.home, socket.AF_INET, socket.SOCK_DGRAM) as service,
            Tap(h1.ns("c1"), "eth0") as inside,
        ):
            service.bind(("0.0.0.0", 7777))
            service.settimeout(0.3)
            send(h1.ns("c1"), Ether(src=mine, dst=BROADCAST) / question, "eth0")
            assert inside.saw(ARP(op=2, psrc=str(h1.ip)), 0.3) == expose
            send(h1.ns("c1"), Ether(src=mine, dst=host_mac(net)) / packet, "eth0")
            try:
                assert service.recv(10) == b"in"
                assert expose
            except TimeoutError:
                assert not expose


# -- isolation -------------------------------------------------------------------


def test_networks_do_not_see_each_other_whatever_addresses_are_used() -> None:
    with town(2) as made:
        h1, h2 = made.hosts
        for host in made.hosts:
            host.join("red")
            host.join("blue")
        h1.run("red", "c1")
        h2.run("red", "c1")
        h1.run("blue", "c2", address="10.32.1.1", mac="02:42:0a:20:01:01")  # as in red
        h2.run("blue", "c2", address="10.32.2.1", mac="02:42:0a:20:02:01")
        h2.run("blue", "c3")
        made.tell()
        with Tap(h2.ns("c2"), "eth0") as other, Tap(h2.ns("c3"), "eth0") as third:
            assert h1.pings("c1", "10.32.2.1")
            assert not h1.pings("c1", "10.32.2.3", seconds=1)  # it is in blue
            send(h1.ns("c1"), Ether(dst=BROADCAST, src="02:42:0a:20:01:01") / ARP(
                hwsrc="02:42:0a:20:01:01", psrc="10.32.1.1", pdst=UNKNOWN), "eth0")  # fmt: skip
            settled()
            # Blue's own ping, so that the taps are known to work.
            assert h1.pings("c2", "10.32.2.3")
            assert not other.matching(ICMP())
            assert not other.matching(ARP(pdst=UNKNOWN))
            assert not third.matching(ARP(pdst=UNKNOWN))


def crafted(to: WeaveHost, wire: str, **what: object) -> Packet:
    """What h2 might send for its container to that of `to`, with some of it different."""
    inner = what.get("inner") or Ether(
        src=str(what.get("mac", "02:42:0a:20:02:01")), dst="02:42:0a:20:01:01"
    ) / IP(src=str(what.get("ip", "10.32.2.1")), dst="10.32.1.1") / UDP(dport=7) / b"forged"
    vni = what.get("vni", vni_of(to.networks["lane"]))
    return (
        Ether(src="02:00:00:00:00:66", dst=wire)
        / IP(src=str(what.get("outer", "192.0.2.2")), dst=str(to.ip))
        / UDP(sport=40000, dport=6784)
        / VXLAN(vni=vni, flags="Instance")
        / inner
    )


def arp(sha: str = "02:42:0a:20:02:01", spa: str = "10.32.2.1", src: str = "") -> Packet:
    return Ether(src=src or sha, dst=BROADCAST) / ARP(op=2, hwsrc=sha, psrc=spa, pdst="10.32.1.1")


FORGED = {
    "another peer's outer source": {"outer": "192.0.2.3"},
    "a stranger": {"outer": "192.0.2.66"},
    "another container's MAC": {"mac": "02:42:0a:20:03:01"},
    "its neighbour's MAC": {"mac": "02:42:0a:20:01:01"},
    "another container's address": {"ip": "10.32.3.1"},
    "the receiver's address": {"ip": "10.32.1.1"},
    "another network": {"vni": 4711},
    "IPv6": {"inner": Ether(src="02:42:0a:20:02:01", dst="33:33:00:00:00:01") / IPv6() /
             ICMPv6ND_RA()},
    "ARP for another's address": {"inner": arp(spa="10.32.3.1")},
    "ARP with another's MAC": {"inner": arp(sha="02:42:0a:20:03:01")},
    "ARP with another's MAC inside": {"inner": arp("02:42:0a:20:03:01", src="02:42:0a:20:02:01")},
}  # fmt: skip


@pytest.mark.parametrize("what", [None, *FORGED])
def test_a_peer_speaks_for_its_own_containers_alone(three: Town, what: str | None) -> None:
    h1, _, h3, _ = three.hosts
    frame = crafted(h1, hardware_address(h1.home, "eth0"), **FORGED.get(what or "", {}))
    with Tap(h1.ns("c1"), "eth0") as inside, Tap(h1.home, h1.links("lane")[2]) as end:
        send(h3.home, frame, "eth0")
        send(h3.home, crafted(h1, hardware_address(h1.home, "eth0")), "eth0")  # it works
        assert inside.saw(UDP(dport=7))
        settled(0.1)
        came = [f for f in end.all() if f.src != "02:42:0a:20:01:01"]  # not its answers
        assert len(came) == (2 if what is None else 1)


def test_a_container_of_another_network_here_does_not_pass_for_a_peer(two: Town) -> None:
    """It may send with any source address: no rp_filter, and CAP_NET_RAW by default."""
    h1 = two.hosts[0]
    netns.create(h1.ns("c9"))
    h1.did("ip", "link", "add", "near", "type", "veth", "peer", "eth0", "netns", h1.ns("c9"))
    h1.did("ip", "addr", "add", "10.99.0.1/24", "dev", "near")
    h1.did("ip", "link", "set", "near", "up")
    h1.did("ip", "link", "set", "eth0", "up", at="c9")
    frame = crafted(h1, hardware_address(h1.home, "near"))
    assert not int(h1.did("sysctl", "-n", "net.ipv4.conf.all.rp_filter"))
    with Tap(h1.home, "near") as arrived, Tap(h1.ns("c1"), "eth0") as inside:
        send(h1.ns("c9"), frame, "eth0")
        assert arrived.saw(UDP(dport=6784))
        assert inside.never_saw(UDP(dport=7), 0.3)


def test_its_own_arp_is_let_in(three: Town) -> None:
    h1, _, h3, _ = three.hosts
    with Tap(h1.ns("c1"), "eth0") as inside:
        send(h3.home, crafted(h1, hardware_address(h1.home, "eth0"), inner=arp()), "eth0")
        assert inside.saw(ARP(psrc="10.32.2.1"))


def test_a_container_sends_from_its_own_addresses_alone(three: Town) -> None:
    h1, h2, _, _ = three.hosts
    mine, other = "02:42:0a:20:01:01", "02:42:0a:20:03:01"
    to = {"dst": "02:42:0a:20:02:01"}
    with Tap(h2.ns("c1"), "eth0") as far, Tap(h1.home, "eth0") as wire:
        for mac, ip in ((other, "10.32.1.1"), (mine, "10.32.3.1"), (other, "10.32.3.1")):
            frame = Ether(src=mac, **to) / IP(src=ip, dst="10.32.2.1") / UDP(dport=7)
            send(h1.ns("c1"), frame, "eth0")
        send(h1.ns("c1"), Ether(src=mine, **to) / IP(src="10.32.1.1", dst="10.32.2.1") /
             UDP(dport=9), "eth0")  # fmt: skip
        assert far.saw(UDP(dport=9))
        assert not far.matching(UDP(dport=7))
        assert len([src for src, *_ in on_wire(wire) if src == str(h1.ip)]) == 1


# -- both ends of the overlay ----------------------------------------------------


@pytest.fixture
def sleeve(two: Town) -> Iterator[tuple[Town, int]]:
    """h1 reaches a third host through user space: the descriptor of its TAP device."""
    h1 = two.hosts[0]
    h3 = replace(h1, number=3, local=[("lane", Member(
        mac="02:42:0a:20:03:01", addresses=(IPv4Address("10.32.3.1"),), peer="h3"))])  # fmt: skip
    two.hosts.append(h3)
    fd = taps.attach(h1.home, h1.links("lane")[1])
    try:
        outcome = h1.fabric.apply(two.table(h1, {"h3": "sleeve"}))
        assert outcome.problems == ()
        _until_forwarding(h1)
        yield two, fd
    finally:
        two.hosts.remove(h3)
        os.close(fd)


def _until_forwarding(host: WeaveHost) -> None:
    until = time.monotonic() + 5
    tap = host.links("lane")[1]
    while "state forwarding" not in host.did("bridge", "link", "show", "dev", tap):
        assert time.monotonic() < until
        time.sleep(0.05)


def frames_of(fd: int, seconds: float = 0.3) -> list[Packet]:
    out, until = [], time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if readable(fd, left):
            out.append(Ether(os.read(fd, 1 << 16)[VIRTIO_HEADER:]))
    return out


def test_frames_for_a_peer_without_fastdp_go_to_the_tap_alone(
    sleeve: tuple[Town, int],
) -> None:
    made, fd = sleeve
    h1 = made.hosts[0]
    with Tap(h1.home, "eth0") as wire:
        assert not h1.pings("c1", "10.32.3.1", seconds=1)  # nobody answers: there is no worker
        frames = [f for f in frames_of(fd) if ICMP in f]
        assert {(f.dst, f[IP].dst) for f in frames} == {("02:42:0a:20:03:01", "10.32.3.1")}
        assert not any(ICMP in frame for *_, frame in on_wire(wire))
        assert h1.pings("c1", "10.32.2.1")
        assert not [f for f in frames_of(fd) if ICMP in f]


def test_nothing_goes_from_one_end_of_the_overlay_to_the_other(
    sleeve: tuple[Town, int],
) -> None:
    made, fd = sleeve
    h1, h2, _ = made.hosts
    ask = {"op": 1, "pdst": UNKNOWN}
    with Tap(h1.ns("c1"), "eth0") as inside, Tap(h1.home, "eth0") as wire:
        # By VXLAN, from h2: the container hears it, the TAP device does not.
        send(h2.ns("c1"), Ether(src="02:42:0a:20:02:01", dst=BROADCAST) / ARP(
            hwsrc="02:42:0a:20:02:01", psrc="10.32.2.1", **ask), "eth0")  # fmt: skip
        assert inside.saw(ARP(psrc="10.32.2.1"))
        assert not [f for f in frames_of(fd) if ARP in f]
        # By the TAP device, from h3: likewise, and none of it is on the wire.
        before = len(on_wire(wire))
        frame = Ether(src="02:42:0a:20:03:01", dst=BROADCAST) / ARP(
            hwsrc="02:42:0a:20:03:01", psrc="10.32.3.1", **ask
        )
        os.write(fd, bytes(VIRTIO_HEADER) + bytes(frame))
        assert inside.saw(ARP(psrc="10.32.3.1"))
        settled()
        assert len(on_wire(wire)) == before
        # From the container itself, it leaves by both, once.
        send(h1.ns("c1"), Ether(src="02:42:0a:20:01:01", dst=BROADCAST) / ARP(
            hwsrc="02:42:0a:20:01:01", psrc="10.32.1.1", **ask), "eth0")  # fmt: skip
        assert len([f for f in frames_of(fd) if ARP in f]) == 1
        assert [dst for _, dst, _ in on_wire(wire)[before:]] == [str(h2.ip)]


def test_a_container_changes_its_way_without_a_lost_entry(sleeve: tuple[Town, int]) -> None:
    made, fd = sleeve
    h1 = made.hosts[0]
    for way in ("sleeve", "fastdp", "sleeve"):
        assert h1.fabric.apply(made.table(h1, {"h2": way, "h3": "sleeve"})).problems == ()
        assert h1.fabric.repair().changed == 0
        assert h1.pings("c1", "10.32.2.1") == (way == "fastdp")
        seen = [f for f in frames_of(fd) if IP in f and f[IP].dst == "10.32.2.1"]
        assert bool(seen) == (way == "sleeve")


# -- what others change ------------------------------------------------------------


def damage(h1: WeaveHost) -> dict[str, tuple[str, ...]]:
    bridge, tap, vxlan = h1.links("lane")
    mac, other = "02:42:0a:20:02:01", "02:42:0a:20:63:01"
    return {
        "place deleted": ("bridge", "fdb", "del", mac, "dev", vxlan, "master"),
        "place moved": ("bridge", "fdb", "replace", mac, "dev", tap, "master", "static"),
        "place added": ("bridge", "fdb", "add", other, "dev", vxlan, "master", "static"),
        "tunnel deleted": ("bridge", "fdb", "del", mac, "dev", vxlan, "self"),
        "tunnel moved": ("bridge", "fdb", "replace", mac, "dev", vxlan, "dst", "192.0.2.66",
                         "self"),
        "all deleted": ("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", vxlan, "dst",
                        "192.0.2.2", "self"),
        "all added": ("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", vxlan, "dst",
                      "192.0.2.66", "self"),
        "neighbour deleted": ("ip", "neigh", "del", "10.32.2.1", "dev", bridge),
        "neighbour changed": ("ip", "neigh", "replace", "10.32.2.1", "lladdr", other, "dev",
                              bridge),
        "device down": ("ip", "link", "set", vxlan, "down"),
        "rules flushed": ("nft", "flush", "ruleset"),
        "rule added": ("nft", "insert", "rule", "ip", "netkit-weave", "vxlan", "accept"),
        "policy changed": ("nft", "add", "chain", "ip", "netkit-weave", "input",
                           "{ policy drop; }"),
        "element added": ("nft", "add", "element", "ip", "netkit-weave", "senders",
                          "{ 192.0.2.66 . 5 . 0x020000000001 }"),
        "set flushed": ("nft", "flush", "set", "ip", "netkit-weave", "addresses"),
    }  # fmt: skip


def test_what_another_tool_changes_is_noticed_and_put_right(two: Town) -> None:
    h1 = two.hosts[0]
    assert any(not h1.fabric.wait(0.1) for _ in range(50))  # late events of what was made
    assert not h1.fabric.wait(0.1)  # what it did itself is no hint
    assert h1.fabric.repair().changed == 0
    for what, argv in damage(h1).items():
        h1.did(*argv)
        assert h1.fabric.wait(2), what
        outcome = h1.fabric.repair()
        assert outcome.changed, what
        assert outcome.problems == (), what
        assert h1.fabric.repair().changed == 0, what
        h1.fabric.wait(0)  # events of the repair itself
        assert h1.pings("c1", "10.32.2.1"), what
        assert not h1.fabric.wait(0.05), what


def test_links_that_were_made_anew_get_their_entries_again(two: Town) -> None:
    h1 = two.hosts[0]
    h1.did("ip", "link", "del", h1.links("lane")[2])
    assert h1.fabric.wait(2)
    assert any("there is no link wx-" in p for p in h1.fabric.repair().problems)
    h1.fabric.wait(0)
    from plugins.weave.driver import Weave

    h1.make(*Weave().network(h1.networks["lane"]))  # as netkitd does
    assert h1.fabric.wait(2)
    assert h1.fabric.repair().problems == ()
    assert h1.pings("c1", "10.32.2.1")


def test_a_port_that_was_out_of_its_bridge_gets_its_entries_again(two: Town) -> None:
    h1 = two.hosts[0]
    bridge, tap, vxlan = h1.links("lane")
    for port in (vxlan, tap):
        h1.did("ip", "link", "set", port, "nomaster")
        h1.fabric.wait(0.3)
        h1.fabric.repair()
        h1.fabric.wait(0)
        h1.did("ip", "link", "set", port, "master", bridge)
        assert h1.fabric.wait(2), port
        assert h1.fabric.repair().problems == ()
        assert h1.pings("c1", "10.32.2.1")


def test_a_new_process_finds_what_the_last_one_left(two: Town) -> None:
    h1 = two.hosts[0]
    with Fabric(h1.home) as second:
        assert second.apply(two.table(h1)).changed == 0
        gone = replace(two.table(h1), peers={})
        assert second.apply(gone).changed == 6  # place, two tunnels, neighbour, two senders
        assert second.apply(gone).changed == 0
        assert not h1.pings("c1", "10.32.2.1", seconds=1)


def test_a_network_comes_and_goes_beside_another(two: Town) -> None:
    h1, h2 = two.hosts
    lane = two.table(h1)
    for host in two.hosts:
        host.join("other")
        host.run("other", "c5")
    h1.fabric.wait(0)
    assert h1.fabric.apply(two.table(h1)).changed == 7  # and its VXLAN device was set up
    h2.fabric.apply(two.table(h2))
    assert h1.pings("c5", "10.32.2.5")
    assert h1.fabric.apply(lane).changed == 6
    assert "02:42:0a:20:02:05" not in h1.did("bridge", "fdb", "show")
    assert h1.pings("c1", "10.32.2.1")
    assert h1.fabric.repair().changed == 0


def test_all_of_it_is_taken_back(two: Town) -> None:
    h1 = two.hosts[0]
    h1.fabric.remove()
    bridge, _, vxlan = h1.links("lane")
    assert "192.0.2.2" not in h1.did("bridge", "fdb", "show")
    assert "proto 110" not in h1.did("ip", "neigh", "show", "dev", bridge)
    assert "netkit-weave" not in h1.did("nft", "list", "tables")
    assert "state DOWN" in h1.did("ip", "link", "show", vxlan)
    assert not h1.pings("c1", "10.32.2.1", seconds=1)
    h1.fabric.apply(two.table(h1))
    assert h1.pings("c1", "10.32.2.1")


def test_what_a_peer_claims_of_this_host_s_containers_is_not_believed(two: Town) -> None:
    h1, h2 = two.hosts
    h1.run("lane", "c2")
    mine, his = h1.local[0][1], h1.local[1][1]
    h2.local += [("lane", replace(mine, peer="h2")), ("lane", replace(his, mac=his.mac[:-2] + "63",
                                                                     peer="h2"))]  # fmt: skip
    outcome = h1.fabric.apply(two.table(h1))
    assert len(outcome.problems) == 3, outcome  # a MAC address, and the addresses of both
    assert any("10.32.1.1 is in use on this host and on another" in p for p in outcome.problems)
    assert h1.pings("c1", "10.32.1.2")
    assert h1.pings("c1", "10.32.2.1")


def test_where_senders_cannot_be_checked_nothing_comes_by_vxlan(
    two: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    h1 = two.hosts[0]
    _, tap, vxlan = h1.links("lane")

    def refused(*_: object) -> None:
        raise KernelError("nft is not installed")

    monkeypatch.setattr(SenderCheck, "make", refused)
    h1.did("nft", "delete", "table", "ip", "netkit-weave")
    outcome = h1.fabric.repair()
    assert outcome.no_fastdp == "senders of VXLAN frames cannot be checked: nft is not installed"
    assert "state DOWN" in h1.did("ip", "link", "show", vxlan)
    assert f"02:42:0a:20:02:01 dev {tap} " in h1.did("bridge", "fdb", "show")
    monkeypatch.undo()
    assert h1.fabric.repair().no_fastdp == ""
    assert h1.pings("c1", "10.32.2.1")


def test_a_kernel_without_nf_tables_has_no_fastdp(
    two: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netkit.overlay.fabric.fabric.NETLINK_NETFILTER", 30)  # of nobody
    monkeypatch.setattr("netkit.overlay.fabric.watch.NETLINK_NETFILTER", 30)
    h1 = two.hosts[0]
    with Fabric(h1.home) as fabric:
        outcome = fabric.apply(two.table(h1))
        assert outcome.no_fastdp.endswith("there is no nf_tables")
        assert outcome.problems == ()
        assert f"02:42:0a:20:02:01 dev {h1.links('lane')[1]} " in h1.did("bridge", "fdb", "show")
        assert not fabric.wait(0.05)
        fabric.remove()


def test_a_tap_that_is_not_there_is_not_made_by_whoever_opens_it(two: Town) -> None:
    h1 = two.hosts[0]
    with pytest.raises(OSError, match="No such device"):
        taps.attach(h1.home, "wt-none")
    assert "wt-none" not in h1.did("ip", "link")


# -- many --------------------------------------------------------------------------


def crowd(host: WeaveHost, size: int, peers: int = 100) -> Table:
    bridge, tap, vxlan = host.links("lane")
    members = tuple(
        Member(
            mac=f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}",
            addresses=(IPv4Address("10.40.0.0") + n,),
            peer=f"p{n % peers}",
        )
        for n in range(size)
    )
    net = NetworkTable(
        vni=vni_of(host.networks["lane"]), bridge=bridge, tap=tap, vxlan=vxlan, members=members
    )
    reach = {f"p{n}": IPv4Address("198.51.100.1") + n for n in range(peers)}
    return Table(networks=(net,), peers={
        peer: Reach(path="fastdp", address=a, sources=frozenset({a})) for peer, a in reach.items()
    })  # fmt: skip


@pytest.mark.slow
def test_a_thousand_endpoints_are_known_within_a_second() -> None:
    with town(1) as made:
        (h1,) = made.hosts
        h1.join("lane")
        h1.fabric.apply(crowd(h1, 0))
        begin = time.monotonic()
        outcome = h1.fabric.apply(crowd(h1, 1000))
        took = time.monotonic() - begin
        assert outcome.problems == ()
        assert outcome.changed == 1000 * 5 + 100  # for all: once a peer
        assert took < 1
        begin = time.monotonic()
        assert h1.fabric.apply(crowd(h1, 1001)).changed == 5
        one = time.monotonic() - begin
        begin = time.monotonic()
        assert h1.fabric.repair().changed == 0
        whole = time.monotonic() - begin
        assert h1.fabric.apply(crowd(h1, 0)).changed == 1001 * 5 + 100
        print(f"1,000: {took:.3f} s; one more: {one:.4f} s; read again: {whole:.3f} s")


def test_hosts_that_are_gone_leave_no_file_open() -> None:
    """Neither does netkit's kernel, which each has one of, nor the fabric."""
    with town(1):
        before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with town(2) as made:
            for host in made.hosts:
                host.join("lane")
                host.run("lane", "c1")
            made.tell()
    with town(1):
        assert len(os.listdir("/proc/self/fd")) == before
