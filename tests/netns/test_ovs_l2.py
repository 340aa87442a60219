"""One subnet over several hosts, frame by frame: mode l2 of the ovs driver."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, GRE, Ether

from netkit.driver import Network
from netkit.errors import Forbidden, InvalidSpec
from netkit.kernel import netns
from netkit.network.access import AccessRule
from plugins.ovs import key_of
from plugins.ovs.flows import router_mac
from plugins.ovs.options import Options
from tests.netns.ovs_hosts import OvsHost, hosts, listening, reaches, run, send, transfer

WORD, CONTROL = b"this must be found, or must not", b"this always passes"

MESH = Network(id="0" * 64, name="mesh", driver="ovs", options=Options())
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OvsHost]]:
    with hosts(2, tmp_path_factory.mktemp("pair")) as two:
        h1, h2 = two
        h1.create("mesh", "192.168.1.0/24", peers=h2.ip)
        h2.create("mesh", "192.168.1.0/24", peers=h1.ip)
        h1.open("a", "mesh", "192.168.1.11")
        h2.open("b", "mesh", "192.168.1.12")
        assert reaches(h1.ns("a"), "192.168.1.12")  # OVS drops packets while it asks ARP
        yield two


def test_containers_of_two_hosts_are_neighbours(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    assert reaches(h1.ns("a"), "192.168.1.12")
    assert reaches(h2.ns("b"), "192.168.1.11")


def test_whole_packets_of_the_derived_mtu_pass(pair: list[OvsHost]) -> None:
    h1, _ = pair
    assert reaches(h1.ns("a"), "192.168.1.12", size=1458 - 28)


def test_tcp_passes_with_checksums(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    assert reaches(h1.ns("a"), "192.168.1.12")
    rate = transfer(h2.ns("b"), h1.ns("a"), "192.168.1.12", 8 << 20)
    print(f"{rate * 8 / 1e9:.2f} Gbit/s")


def test_the_host_is_the_gateway_of_its_own_containers(pair: list[OvsHost]) -> None:
    for h, box, mate in ((pair[0], "a", "192.168.1.11"), (pair[1], "b", "192.168.1.12")):
        assert reaches(h.ns(box), "192.168.1.1")
        assert reaches(h.home, mate)
        assert reaches(h.ns(box), pair[0].ip)
        assert reaches(h.ns(box), pair[1].ip)


def test_on_the_underlay_there_is_gre_with_the_networks_key(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    assert reaches(h1.ns("a"), "192.168.1.12")
    with listening(h1.wire, h1.port) as seen:
        send(h1.ns("a"), frame(h1, "a", "192.168.1.12", dst=h2.boxes["b"].mac))
    found = [p for p in map(Ether, seen.frames) if has_word(p) and p[IP].src == h1.ip]
    assert len(found) == 1
    (p,) = found
    assert (p[IP].src, p[IP].dst, p[IP].proto) == (h1.ip, h2.ip, 47)
    gre = p[GRE]
    assert (gre.proto, gre.key_present, gre.chksum_present, gre.seqnum_present) == (0x6558, 1, 0, 0)
    assert gre.key == key_of(MESH)
    inner = gre[Ether]
    assert (inner.src, inner.dst) == (h1.boxes["a"].mac, h2.boxes["b"].mac)
    assert (inner[IP].src, inner[IP].dst) == ("192.168.1.11", "192.168.1.12")


@pytest.mark.parametrize(
    "what",
    [
        {"src": "02:66:66:66:66:66"},
        {"ip": "192.168.1.12"},
        {"ip": "192.168.1.1"},
        {"src": "02:66:66:66:66:66", "ip": "192.168.1.99"},
    ],
    ids=str,
)
def test_what_a_container_sends_in_anothers_name_never_leaves_its_port(
    pair: list[OvsHost], what: dict[str, str]
) -> None:
    h1, h2 = pair
    bad = frame(h1, "a", "192.168.1.12", dst="ff:ff:ff:ff:ff:ff", **what)
    good = frame(h1, "a", "192.168.1.12", dst="ff:ff:ff:ff:ff:ff", word=CONTROL)
    with listening(h2.ns("b"), "eth0") as far, listening(h1.home, bridge(h1)) as host:
        send(h1.ns("a"), bad)
        send(h1.ns("a"), good)
    for place in (far, host):
        assert [has_word(Ether(f), CONTROL) for f in place.frames].count(True) == 1
        assert not any(has_word(Ether(f)) for f in place.frames)


@pytest.mark.parametrize(
    ("hwsrc", "psrc", "src"),
    [
        ("02:66:66:66:66:66", "192.168.1.11", ""),
        ("", "192.168.1.12", ""),
        ("", "192.168.1.1", ""),
        ("02:66:66:66:66:66", "192.168.1.11", "02:66:66:66:66:66"),
    ],
)
@pytest.mark.parametrize("op", [1, 2])
def test_arp_in_anothers_name_never_leaves_a_port(
    pair: list[OvsHost], hwsrc: str, psrc: str, src: str, op: int
) -> None:
    h1, h2 = pair
    own = h1.boxes["a"].mac
    bad = Ether(src=src or own, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=op, hwsrc=hwsrc or own, psrc=psrc, hwdst="02:00:00:00:00:99", pdst="192.168.1.250"
    )
    good = Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=op, hwsrc=own, psrc="192.168.1.11", hwdst="02:00:00:00:00:99", pdst="192.168.1.251"
    )
    with listening(h2.ns("b"), "eth0") as far, listening(h1.home, bridge(h1)) as host:
        send(h1.ns("a"), bytes(bad))
        send(h1.ns("a"), bytes(good))
    for place in (far, host):
        asked = [Ether(f)[ARP].pdst for f in place.frames if ARP in Ether(f)]
        assert "192.168.1.251" in asked
        assert "192.168.1.250" not in asked


def test_ipv6_and_other_protocols_do_not_pass(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    own = h1.boxes["a"].mac
    with listening(h2.ns("b"), "eth0") as far:
        send(h1.ns("a"), bytes(Ether(src=own, dst="33:33:00:00:00:01", type=0x86DD)) + bytes(60))
        send(h1.ns("a"), bytes(Ether(src=own, dst="ff:ff:ff:ff:ff:ff", type=0x88B5)) + bytes(60))
        send(h1.ns("a"), frame(h1, "a", "192.168.1.12", dst="ff:ff:ff:ff:ff:ff", word=CONTROL))
    assert {Ether(f).type for f in far.frames} <= {0x0800, 0x0806}
    assert any(has_word(Ether(f), CONTROL) for f in far.frames)


def test_other_hosts_receive_no_frame_of_the_gateway(pair: list[OvsHost]) -> None:
    """All hosts have a gateway of one address: seen on other hosts it would divert traffic."""
    h1, h2 = pair
    own = h1.boxes["a"].mac
    with listening(h1.wire, h1.port) as wire, listening(h2.home, bridge(h2)) as abroad:
        ask = ARP(op=1, hwsrc=own, psrc="192.168.1.11", pdst="192.168.1.1")
        send(h1.ns("a"), bytes(Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ask))
        run("busybox", "arping", "-c", "1", "-w", "1", "-I", bridge(h1), "-A", "192.168.1.1",
            at=h1.home)  # fmt: skip
    answers = [p for f in wire.frames if GRE in (p := Ether(f)) and ARP in p and p[ARP].op == 2]
    assert answers == []
    inside = [p for f in wire.frames if GRE in (p := Ether(f)) and ARP in p]
    assert [p[ARP].psrc for p in inside] == ["192.168.1.11"]
    assert not any(ARP in Ether(f) for f in abroad.frames)


def test_the_host_receives_from_a_container_through_the_bridge_only(pair: list[OvsHost]) -> None:
    """In user space OVS reads beside the host's own stack, which must not listen."""
    h1, _ = pair
    record = h1.boxes["a"]
    near = f"nkv{record.id}"[:15]
    words = run("ip", "-o", "link", "show", near, at=h1.home).split()
    mac = words[words.index("link/ether") + 1]
    gateway = router_mac(key_of(MESH), ip_network("192.168.1.0/24"))
    with netns.open_socket(h1.home, socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 5353))
        s.settimeout(0.5)
        for dst, source, received in (
            (mac, "192.168.1.11", False),
            (mac, "10.9.0.2", False),
            ("01:80:c2:00:00:0e", "10.9.0.2", False),
            (gateway, "10.9.0.2", False),
            (gateway, "192.168.1.11", True),
        ):
            p = Ether(src=record.mac, dst=dst) / IP(src=source, dst=h1.ip)
            send(h1.ns("a"), bytes(p / UDP(sport=9, dport=5353) / b"hello"))
            if received:
                assert s.recvfrom(99)[1][0] == source
            else:
                with pytest.raises(TimeoutError):
                    s.recv(99)
    with listening(h1.ns("a"), "eth0") as seen:
        for address in ("192.168.1.1", "10.9.0.1", "172.17.0.1"):
            ask = ARP(op=1, hwsrc=record.mac, psrc="192.168.1.11", pdst=address)
            send(h1.ns("a"), bytes(Ether(src=record.mac, dst="ff:ff:ff:ff:ff:ff") / ask))
    answers = {p[ARP].hwsrc for f in seen.frames if ARP in (p := Ether(f)) and p[ARP].op == 2}
    assert answers == {gateway}


@pytest.mark.parametrize(
    "what",
    ["key", "no key", "source", "none wrong"],
)
def test_a_tunnel_accepts_nothing_from_a_stranger(pair: list[OvsHost], what: str) -> None:
    """Send h2 a packet that differs from h1's own in one thing."""
    h1, h2 = pair
    key = {"key_present": 1, "key": key_of(MESH) + (what == "key")}
    if what == "no key":
        key = {}
    inner = Ether(frame(h1, "a", "192.168.1.12", dst=h2.boxes["b"].mac))
    p = (
        Ether(src="02:00:00:00:00:77", dst=netns_mac(h2))
        / IP(src="10.9.0.77" if what == "source" else h1.ip, dst=h2.ip, proto=47)
        / GRE(proto=0x6558, **key)
        / inner
    )
    with listening(h2.ns("b"), "eth0") as seen:
        send(h2.wire, bytes(p), dev=h2.port)
    assert any(has_word(Ether(f)) for f in seen.frames) == (what == "none wrong")


def test_no_other_host_may_send_as_a_container_of_ours_or_as_our_gateway(
    pair: list[OvsHost],
) -> None:
    """Send what a compromised peer could send through the tunnel."""
    h1, h2 = pair
    h2.open("c", "mesh", "192.168.1.13")
    gateway = router_mac(key_of(MESH), ip_network("192.168.1.0/24"))
    outer = Ether(src="02:00:00:00:00:77", dst=netns_mac(h2)) / IP(src=h1.ip, dst=h2.ip, proto=47)
    gre = GRE(proto=0x6558, key_present=1, key=key_of(MESH))
    wide = "ff:ff:ff:ff:ff:ff"
    bad = [
        Ether(src=h2.boxes["b"].mac, dst=wide) / IP(dst="192.168.1.255") / UDP() / WORD,
        Ether(src=gateway, dst=wide) / IP(dst="192.168.1.255") / UDP() / WORD,
        Ether(src="02:01:01:01:01:01", dst=gateway) / IP(dst="192.168.1.1") / UDP() / WORD,
        Ether(src="02:01:01:01:01:01", dst=wide)
        / ARP(op=2, hwsrc="02:01:01:01:01:01", psrc="192.168.1.1", pdst="192.168.1.250"),
        Ether(src="02:01:01:01:01:01", dst=wide)
        / ARP(op=2, hwsrc="02:01:01:01:01:01", psrc="192.168.1.12", pdst="192.168.1.250"),
    ]
    good = Ether(src="02:01:01:01:01:01", dst=wide) / IP(dst="192.168.1.255") / UDP() / CONTROL
    with listening(h2.ns("c"), "eth0") as seen, listening(h2.home, bridge(h2)) as host:
        for inner in [*bad, good]:
            send(h2.wire, bytes(outer / gre / inner), dev=h2.port)
    for place in (seen, host):
        packets = [Ether(f) for f in place.frames]
        assert not any(has_word(p) for p in packets)
        assert not any(ARP in p and p[ARP].pdst == "192.168.1.250" for p in packets)
    assert any(has_word(Ether(f), CONTROL) for f in seen.frames)
    assert not any(has_word(Ether(f), CONTROL) for f in host.frames)  # only containers reach it


def netns_mac(h: OvsHost) -> str:
    """Return the MAC address of eth0 of a host."""
    words = run("ip", "-o", "link", "show", "eth0", at=h.home).split()
    return words[words.index("link/ether") + 1]


def bridge(h: OvsHost) -> str:
    return f"nko{h.net.find('mesh').id}"[:15]


def frame(
    h: OvsHost, box: str, to: str, *, dst: str, src: str = "", ip: str = "", word: bytes = WORD
) -> bytes:
    record = h.boxes[box]
    own = record.address.split("/")[0]
    packet = Ether(src=src or record.mac, dst=dst) / IP(src=ip or own, dst=to) / UDP() / word
    return bytes(packet)


def has_word(p: Ether, word: bytes = WORD) -> bool:
    return bytes(p).count(word) > 0


def test_a_tunnel_that_there_is_already_is_named_to_who_asks_for_it(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    before = h1.vswitch.vsctl("list-br")
    words = f"gre tunnel to {h2.ip} with key {key_of(MESH)} belongs to network mesh: give this one"
    with pytest.raises(Forbidden, match=words):
        h1.create("twin", "192.168.9.0/24", peers=h2.ip, key=str(key_of(MESH)))
    assert h1.vswitch.vsctl("list-br") == before
    assert "twin" not in {n.spec.name for n in h1.net.all()}
    assert reaches(h1.ns("a"), "192.168.1.12")


def test_tunnels_report_whether_their_far_end_answers(pair: list[OvsHost]) -> None:
    """Detection by BFD; with probes every second, three lost ones are a loss."""
    h1, h2 = pair
    owner = f"netkit:0:{h1.net.find('mesh').id[:12]}"

    def state() -> str:
        (tunnel,) = h1.kernel.switches.tunnels(owner)
        assert tunnel.remote == h2.ip
        return tunnel.state

    def within(seconds: float, expected: str) -> None:
        deadline = time.monotonic() + seconds
        while state() != expected:
            assert time.monotonic() < deadline, f"{state()}, not {expected}"
            time.sleep(0.05)

    within(60, "up")
    run("ip", "link", "set", h2.port, "down", at=h2.wire)
    try:
        within(60, "down")
    finally:
        run("ip", "link", "set", h2.port, "up", at=h2.wire)
    within(60, "up")


def test_a_drop_rule_holds_only_for_the_neighbour_on_another_host(
    pair: list[OvsHost],
) -> None:
    h1, h2 = pair
    h1.open("other", "mesh", "192.168.1.14")
    target = next(e.sandbox for e in h2.net.endpoints() if e.address.startswith("192.168.1.12/"))
    for name in ("a", "other"):
        assert reaches(h1.ns(name), "192.168.1.12")
    rule = AccessRule(verdict="drop", target=target, sources=("192.168.1.11/32",))
    made = h2.net.add_access_rule(rule)
    assert not reaches(h1.ns("a"), "192.168.1.12", seconds=3)
    assert reaches(h1.ns("other"), "192.168.1.12")
    h2.net.remove_access_rule(made.id)
    assert reaches(h1.ns("a"), "192.168.1.12")


def test_a_tunnel_from_an_address_that_no_interface_has_is_refused(pair: list[OvsHost]) -> None:
    h1, h2 = pair
    with pytest.raises(
        InvalidSpec, match=f"no interface of this host has address 192.0.2.9.*{h1.ip}"
    ):
        h1.create("ends", "192.168.9.0/24", peers=h2.ip, local="192.0.2.9")
    h1.create("ends", "192.168.9.0/24", peers=h2.ip, local=h1.ip, key="99")
