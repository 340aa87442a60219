"""Tunnels by a VXLAN device of the kernel's as a port of the network's bridge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from netkit.errors import InvalidSpec, KernelError
from runtime.daemon.ovs_resync import OvsRepairs
from tests.netns.ovs_hosts import OvsHost, hosts, listening, reaches, run, send
from tests.netns.test_ovs_segments import PROGRAMS, SENT, carried, datagrams, pytestmark

__all__ = ["pytestmark"]
PORT = 8472


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OvsHost]]:
    """Three hosts, each with a container in 192.168.5.0/24."""
    with hosts(3, tmp_path_factory.mktemp("vxlan"), programs=PROGRAMS) as found:
        for h in found:
            create(h, found)
            h.open("c", "wide", f"192.168.5.1{h.number}")
        yield found


def create(
    h: OvsHost, found: list[OvsHost], name: str = "wide", net: int = 5, **options: str
) -> None:
    peers = ",".join(o.ip for o in found if o is not h)
    how = {"tunnel": "vxlan", "vxlan-device": "kernel", "peers": peers, **options}
    h.create(name, f"192.168.{net}.0/24", **how)


def device(h: OvsHost) -> str:
    return f"nkvx{h.net.find('wide').id}"[:15]


def test_containers_of_all_hosts_reach_each_other(three: list[OvsHost]) -> None:
    for h in three:
        for other in three:
            assert reaches(h.ns("c"), f"192.168.5.1{other.number}")


def test_what_is_sent_arrives_as_it_was(three: list[OvsHost]) -> None:
    h1, h2, _ = three
    assert reaches(h1.ns("c"), "192.168.5.12")
    carried(h2.ns("c"), h1.ns("c"), "192.168.5.12", 8 << 20)
    assert datagrams(h2.ns("c"), h1.ns("c"), "192.168.5.12") == SENT


def test_frames_to_a_container_go_to_its_host_alone(three: list[OvsHost]) -> None:
    h1, h2, h3 = three
    assert reaches(h1.ns("c"), "192.168.5.12")
    with listening(h3.wire, h3.port) as third, listening(h2.wire, h2.port) as second:
        carried(h2.ns("c"), h1.ns("c"), "192.168.5.12", 1 << 20)
    there, elsewhere = (sum(map(len, seen.frames)) for seen in (second, third))
    assert there > 1 << 18  # the capture may lose some
    assert elsewhere < 1 << 17


def test_packets_of_the_key_from_anybody_else_are_dropped(three: list[OvsHost]) -> None:
    h1, h2, _ = three
    mac = h1.boxes["c"].mac
    shown = run("ip", "-d", "link", "show", device(h1), at=h1.home)
    key = int(shown.partition("vxlan id ")[2].split()[0])
    host = run("ip", "-br", "link", "show", "eth0", at=h1.home).split()[2]
    with listening(h1.ns("c"), "eth0") as seen:
        for source in ("10.9.0.77", h2.ip):
            ends = IP(src="192.168.5.99", dst="192.168.5.11")
            inner = Ether(src="02:01:01:01:01:01", dst=mac) / ends
            inner /= UDP(dport=9) / source.encode()
            outer = Ether(src="02:01:01:01:01:02", dst=host) / IP(src=source, dst=h1.ip)
            outer /= UDP(sport=5000, dport=PORT)
            send(h1.wire, bytes(outer / VXLAN(vni=key, flags="Instance") / inner), dev=h1.port)
    seen_from = [p[UDP].load for f in seen.frames if UDP in (p := Ether(f)) and p[UDP].dport == 9]
    assert seen_from == [h2.ip.encode()]


@pytest.mark.parametrize("harm", ["bridge fdb", "device", "mtu", "port"])
def test_what_another_tool_changes_is_repaired(three: list[OvsHost], harm: str) -> None:
    h1, h2, _ = three
    dev = device(h1)
    if harm == "bridge fdb":
        run("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", dev, "dst", h2.ip, at=h1.home)
    elif harm == "device":
        run("ip", "link", "del", dev, at=h1.home)
    elif harm == "mtu":
        run("ip", "link", "set", dev, "mtu", "1400", at=h1.home)
    else:
        h1.vswitch.vsctl("del-port", dev)
    assert OvsRepairs(h1.net, h1.kernel, h1.database).repair().plan
    assert OvsRepairs(h1.net, h1.kernel, h1.database).repair().plan == ()
    run("ip", "neigh", "flush", "all", at=h1.ns("c"))
    assert reaches(h1.ns("c"), "192.168.5.12")


def test_a_switch_that_does_not_segment_is_refused(three: list[OvsHost]) -> None:
    h3 = three[2]
    h3.vswitch.segmenting = False
    h3.vswitch.kill("ovs-vswitchd")
    h3.vswitch.start_switch()
    with pytest.raises(KernelError, match="userspace-tso-enable"):
        OvsRepairs(h3.net, h3.kernel, h3.database).repair()
    with pytest.raises(KernelError, match="userspace-tso-enable"):
        create(h3, three, "other", 6, key="77")
    assert "vxlan id 77 " not in run("ip", "-d", "link", "show", at=h3.home)
    h3.vswitch.segmenting = True
    h3.vswitch.kill("ovs-vswitchd")
    h3.vswitch.start_switch()
    OvsRepairs(h3.net, h3.kernel, h3.database).repair()
    assert reaches(h3.ns("c"), "192.168.5.11")


def test_it_goes_with_its_network(three: list[OvsHost]) -> None:
    for h in three:
        h.close_all()
        h.net.remove("wide")
        assert "vxlan" not in run("ip", "-d", "link", "show", at=h.home)
        assert "u32" not in run("iptables-nft-save", at=h.home)


def test_two_networks_of_one_key_are_refused(three: list[OvsHost]) -> None:
    h1 = three[0]
    create(h1, three, "one", key="9")
    with pytest.raises(Exception, match="VXLAN device with key 9"):
        create(h1, three, "two", 6, key="9")
    h1.net.remove("one")


def test_where_it_is_not_right_it_is_refused(three: list[OvsHost]) -> None:
    for wrong in ({"tunnel": "gre"}, {"mode": "routed"}, {"bfd": "true"}, {"local": "10.9.0.1"}):
        with pytest.raises(InvalidSpec, match=r"vxlan-device|VXLAN device"):
            create(three[0], three, "wrong", **wrong)
