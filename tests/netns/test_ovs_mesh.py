"""Full meshes and tenants of the ovs driver: no loops, no copies, nothing across."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netkit.lab.openvswitch import DATABASE, SWITCH
from tests.netns.ovs_hosts import OvsHost, hosts, listening, reaches, send

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]
WIDE = "ff:ff:ff:ff:ff:ff"
MESH = "192.168.1.0/24"


@pytest.fixture(scope="module", params=["gre", "vxlan", "geneve"])
def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[OvsHost]]:
    """Each host has a tunnel to every other: four with gre, three with other tunnels."""
    count = 4 if request.param == "gre" else 3
    with hosts(count, tmp_path_factory.mktemp("mesh")) as found:
        for h in found:
            h.create("mesh", MESH, peers=peers_of(h, found), tunnel=request.param)
            h.open(f"c{h.number}", "mesh", f"192.168.1.{10 + h.number}")
        yield found


def peers_of(h: OvsHost, found: list[OvsHost]) -> str:
    return ",".join(o.ip for o in found if o is not h)


def test_everybody_reaches_everybody(mesh: list[OvsHost]) -> None:
    for h in mesh:
        for other in mesh:
            assert reaches(h.ns(f"c{h.number}"), f"192.168.1.{10 + other.number}")


@pytest.mark.parametrize("to", [WIDE, "01:00:5e:00:00:fb", "02:99:99:99:99:99"])
def test_a_broadcast_reaches_every_other_host_exactly_once(mesh: list[OvsHost], to: str) -> None:
    """So do a multicast and a frame to a MAC address that was not learned."""
    first, *rest = mesh
    head = Ether(src=first.boxes["c1"].mac, dst=to) / IP(src="192.168.1.11", dst="192.168.1.255")
    assert all(reaches(first.ns("c1"), f"192.168.1.{10 + h.number}") for h in rest)
    with ExitStack() as stack:
        places = [stack.enter_context(listening(h.ns(f"c{h.number}"), "eth0")) for h in rest]
        wire = stack.enter_context(listening(first.wire, first.port))
        for i in range(20):
            send(first.ns("c1"), bytes(head / UDP(sport=9, dport=9) / f"sent {i:04d}".encode()))
    for place in places:
        assert sorted(counted(place.frames).values()) == [1] * 20
    assert sorted(counted(wire.frames).values()) == [len(rest)] * 20  # nothing came back


@pytest.mark.parametrize("program", [SWITCH, DATABASE])
def test_a_broadcast_is_never_there_twice_while_a_switch_is_killed_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, program: str
) -> None:
    """After a kill and repair, each frame again arrives once."""
    with hosts(3, tmp_path_factory.mktemp("restarts")) as found:
        for h in found:
            h.create("mesh", MESH, peers=peers_of(h, found))
            h.open(f"c{h.number}", "mesh", f"192.168.1.{10 + h.number}")
            h.guard.start()
        first, second, third = found
        assert all(reaches(first.ns("c1"), f"192.168.1.{10 + h.number}") for h in found[1:])
        head = Ether(src=first.boxes["c1"].mac, dst=WIDE)
        head /= IP(src="192.168.1.11", dst="192.168.1.255") / UDP(sport=9, dport=9)
        sent: list[int] = []

        def send_for(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                sent.append(len(sent))
                send(first.ns("c1"), bytes(head / f"sent {sent[-1]:04d}".encode()))
                time.sleep(0.01)

        for victim in (second, first, third):
            places = [h.ns(f"c{h.number}") for h in found[1:]]
            with ExitStack() as stack:
                seen = [stack.enter_context(listening(ns, "eth0")) for ns in places]
                with ThreadPoolExecutor(1) as pool:
                    sending = pool.submit(send_for, 3.0)
                    time.sleep(0.3)
                    victim.vswitch.kill(program)
                    time.sleep(0.3)
                    victim.vswitch.start()
                    sending.result()
            for place in seen:
                counts = counted(place.frames)
                assert counts
                assert set(counts.values()) == {1}
            assert all(reaches(first.ns("c1"), f"192.168.1.{10 + h.number}", seconds=60)
                       for h in found[1:])  # fmt: skip
            with ExitStack() as stack:
                seen = [stack.enter_context(listening(ns, "eth0")) for ns in places]
                begin = len(sent)
                send_for(0.2)
            for place in seen:
                words = [f"sent {n:04d}".encode() for n in sent[begin:]]
                assert counted(place.frames) == Counter(words)


def counted(frames: list[bytes]) -> Counter[bytes]:
    return Counter(f[f.index(b"sent") :][:9] for f in frames if b"sent" in f and f[23:24] != b"\1")


def test_tenants_with_equal_subnets_addresses_and_macs_have_nothing_in_common(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Red is on two hosts, blue on two more; every host has tunnels to all, for its tenant."""
    mac = "02:11:11:11:11:11"
    with hosts(4, tmp_path_factory.mktemp("tenants")) as found:
        for tenant, pair in (("red", found[:2]), ("blue", found[2:])):
            for h in pair:
                h.create(tenant, MESH, peers=peers_of(h, found))  # all hosts, not only its own
                n = "11" if h is pair[0] else "12"
                h.open("box", tenant, f"192.168.1.{n}", mac=mac if h is pair[0] else "")
        red1, red2, blue1, blue2 = found
        for h in (red1, blue1):
            assert reaches(h.ns("box"), "192.168.1.12")
        packet = Ether(src=mac, dst=WIDE) / IP(src="192.168.1.11", dst="192.168.1.255") / UDP()
        with ExitStack() as stack:
            own, *alien = [
                stack.enter_context(listening(h.ns("box"), "eth0")) for h in (red2, blue1, blue2)
            ]
            wire = stack.enter_context(listening(blue2.wire, blue2.port))
            send(red1.ns("box"), bytes(packet / b"sent 0001"))
        assert counted(own.frames).total() == 1
        assert counted(wire.frames).total() == 1  # it was sent one, and did not accept it
        assert [counted(place.frames).total() for place in alien] == [0, 0]


def test_networks_of_one_host_share_its_tunnels_way_but_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with hosts(2, tmp_path_factory.mktemp("two")) as found:
        for h in found:
            h.create("red", "192.168.1.0/24", peers=peers_of(h, found))
            h.create("blue", "192.168.2.0/24", peers=peers_of(h, found), internal=True)
            h.open("r", "red", f"192.168.1.{10 + h.number}")
            h.open("b", "blue", f"192.168.2.{10 + h.number}")
        h1, h2 = found
        assert reaches(h1.ns("r"), "192.168.1.12")
        assert reaches(h1.ns("b"), "192.168.2.12")
        assert not reaches(h1.ns("b"), "192.168.1.11", seconds=0)
        h1.net.close(h1.boxes["r"].sandbox)
        h1.net.remove("red")
        assert reaches(h1.ns("b"), "192.168.2.12")  # with the same peer, and still there
        h2.close_all()
        for h in found:
            for name in ("red", "blue") if h is h2 else ("blue",):
                for e in h.net.endpoints():
                    h.net.close(e.sandbox)
                h.net.remove(name)
            assert h.vswitch.vsctl("list-br").split() == ["nku0"]
