"""Hosts joined by weave: what is on their wires, and what they do when these are cut."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from netkit.errors import KernelError
from netkit.lab.running import Machine, RunningLab
from tests.labs.order import eventually

FASTDP, SLEEVE = 6784, 6783  # UDP ports
VNI = int.from_bytes(hashlib.sha256(b"netkit weave weave").digest()[:3], "big")
PAGE = b"hello from a container"  # what every container's httpd serves
FILL = 0xA7  # what pings are filled with
PATTERN = bytes([FILL]) * 64

COURSE = pytest.mark.lab("labs/15.3-weave")
MESH = pytest.mark.lab("labs/weave-3-partial-mesh")
NAT = pytest.mark.lab("labs/weave-nat")
PARTITION = pytest.mark.lab("labs/weave-partition")


def status(host: Machine) -> dict[str, Any]:
    """As `weave status` has it (plugins/weave/status.py), without starting a process."""
    engine = host.daemon.engine()
    try:
        found: dict[str, Any] = engine.get("/netkit/weave")["Status"]
        return found
    finally:
        engine.close()


def ways(host: Machine) -> dict[str, str]:
    """By name of the peer, of connections that are established."""
    found = status(host)["connections"]
    return {c["name"]: c["way"] for c in found if c["state"] == "established"}


def ping(source: Machine, target: str, container: str = "") -> None:
    """Until there are answers.  `container`: one of the host `source` that is not of lab.yml."""
    argv = ("ping", "-A", "-c", "3", "-s", "200", "-p", f"{FILL:02x}", target)
    eventually(lambda: run(source, container, *argv) if container else source.run(*argv))


def page(source: Machine, address: str) -> str:
    return source.run("wget", "-qO-", f"http://{address}/")


def datagrams(frames: Collection[Packet], port: int) -> list[Packet]:
    return [f for f in frames if UDP in f and f[UDP].dport == port]


def inner(frame: Packet) -> Packet:
    """The frame in a datagram of VXLAN."""
    return VXLAN(bytes(frame[UDP].payload))[Ether]


def in_clear(frames: Collection[Packet], *secrets: bytes) -> list[Packet]:
    return [f for f in frames if any(secret in bytes(f) for secret in secrets)]


# 15.3-weave


@pytest.fixture
def course(lab: RunningLab) -> RunningLab:
    """Neither host is launched, and no container is there."""
    for host in (lab.host1, lab.host2):
        host.netkit("rm", "-f", "c1", "c2", check=False)
        host.netkit("weave", "stop", check=False)
    return lab


def launch(lab: RunningLab, *flags: str) -> None:
    """As in the course, with a container each that serves a page."""
    lab.host1.run("weave", "launch", *flags)
    lab.host2.run("weave", "launch", *flags, "192.168.59.103")
    serving = ("ubuntu", "httpd", "-f", "-h", "/www")
    lab.host1.run("weave", "run", "192.168.1.10/24", "--name", "c1", *serving)
    lab.host2.run("weave", "run", "192.168.1.2/24", "--name", "c2", *serving)


@COURSE
def test_without_a_password_frames_are_in_vxlan_with_the_number_of_the_network(
    course: RunningLab,
) -> None:
    launch(course)
    for host, other in ((course.host1, "host2"), (course.host2, "host1")):
        eventually(lambda host=host, other=other: ways(host) == {other: "fastdp"})
    with pytest.raises(KernelError, match=r"192\.168\.1\.2 is in use at host2"):
        course.host1.run("weave", "run", "192.168.1.2/24", "--name", "c3", "ubuntu", "true")
    with course.host1.tap("eth0") as wire:
        ping(course.host1, "192.168.1.2", "c1")
        ping(course.host2, "192.168.1.10", "c2")
        frames = wire.all()
    carried = datagrams(frames, FASTDP)
    assert {VXLAN(bytes(f[UDP].payload)).vni for f in carried} == {VNI}
    asked = [f for f in map(inner, carried) if ICMP in f and f[ICMP].type == 8]
    pairs = {(f[IP].src, f[IP].dst) for f in asked}
    assert pairs == {("192.168.1.10", "192.168.1.2"), ("192.168.1.2", "192.168.1.10")}
    assert not [f for f in frames if IP in f and f[IP].src.startswith("192.168.1.")]


@COURSE
def test_with_a_password_nothing_of_it_is_on_the_wire(course: RunningLab) -> None:
    launch(course, "--password=Uk7pX2fRmD9q")
    for host in (course.host1, course.host2):
        eventually(lambda host=host: [*ways(host).values()] == ["sleeve"])
    with course.host1.tap("eth0") as wire:
        ping(course.host1, "192.168.1.2", "c1")
        assert PAGE.decode() in run(course.host2, "c2", "wget", "-qO-", "http://192.168.1.10/")
        frames = wire.all()
    assert len(datagrams(frames, SLEEVE)) > 10
    assert not datagrams(frames, FASTDP)
    assert not in_clear(frames, PAGE, PATTERN)


def run(host: Machine, container: str, *argv: str) -> str:
    """In a container that is not of lab.yml."""
    return host.netkit("exec", container, *argv)


# weave-3-partial-mesh


@MESH
def test_two_that_do_not_reach_each_other_are_relayed(lab: RunningLab) -> None:
    eventually(lambda: ways(lab.h1) == {"h2": "sleeve", "h3": "relay"})
    eventually(lambda: ways(lab.h3) == {"h2": "sleeve", "h1": "relay"})
    with lab.h2.tap("eth0") as left, lab.h2.tap("eth1") as right:
        ping(lab.one, lab.three.ip)
        ping(lab.three, lab.one.ip)
        assert PAGE.decode() in page(lab.three, lab.one.ip)
        frames = [*left.all(), *right.all()]
    far = {"10.0.1.1", "10.0.2.3"}
    assert not [f for f in frames if IP in f and {f[IP].src, f[IP].dst} == far]
    assert {f[IP].src for f in datagrams(frames, SLEEVE)} >= far


@MESH
def test_who_relays_sees_nothing_of_it(lab: RunningLab) -> None:
    macs = [bytes.fromhex(c.mac().replace(":", "")) for c in (lab.one, lab.three)]
    with lab.h2.tap("eth0") as left, lab.h2.tap("eth1") as right, lab.three.tap() as there:
        ping(lab.one, lab.three.ip)
        assert PAGE.decode() in page(lab.three, lab.one.ip)
        assert in_clear(there.all(), PAGE)  # a control: it is found where it is
        assert in_clear(there.all(), PATTERN)
        frames = [*left.all(), *right.all()]
    assert len(datagrams(frames, SLEEVE)) > 20
    assert not in_clear(frames, PAGE, PATTERN, *macs)


@MESH
def test_a_long_transfer_goes_by_relay(lab: RunningLab) -> None:
    lab.one.run("dd", "if=/dev/urandom", "of=/www/long", "bs=1000000", "count=4")
    wanted = lab.one.run("md5sum", "/www/long").split()[0]
    lab.three.run("wget", "-qO", "/tmp/long", f"http://{lab.one.ip}/long")
    assert lab.three.run("md5sum", "/tmp/long").split()[0] == wanted


@MESH
def test_a_trace_says_who_relays(lab: RunningLab) -> None:
    for source, target, host in ((lab.one, lab.three, "h3"), (lab.three, lab.one, "h1")):
        eventually(lambda: page(source, target.ip))  # noqa: B023  called at once
        way = f"relay to {host}, by way of h2, sealed; no direct session"
        eventually(lambda: leaves_by(lab, source.name, target.name, way))  # noqa: B023
    direct = "sleeve to h2 (10.0.1.2), udp/6783, sealed; "
    eventually(lambda: leaves_by(lab, "one", "two", direct))


def leaves_by(lab: RunningLab, source: str, target: str, way: str) -> bool:
    """Whether a trace delivers, and its first host leaves this way; AssertionError if not.

    Hosts may have another way for a moment: they probe each other meanwhile.
    """
    found = lab.trace(source, target, "tcp/80")
    assert found.code == "delivered", found
    steps = [s.why for s in found.request if s.what == "overlay"]
    assert steps[0].startswith(way), steps
    return True


# weave-nat


@NAT
def test_both_ends_reach_each_other_after_the_router_has_forgotten_them(lab: RunningLab) -> None:
    assert lab.one.can_reach(lab.two)
    before = seen_at(lab)
    # The kernel drops what it masquerades behind an interface that goes down.
    lab.router.run("ip", "link", "set", "eth1", "down")
    lab.router.run("ip", "link", "set", "eth1", "up")
    eventually(lambda: seen_at(lab) not in {"", before}, what="another port of the router's")
    ping(lab.one, lab.two.ip)
    ping(lab.two, lab.one.ip)


def seen_at(lab: RunningLab) -> str:
    """Where h1 has h2, as host and port."""
    found = [c for c in status(lab.h1)["connections"] if c["state"] == "established"]
    return str(found[0]["address"]) if found else ""


@NAT
def test_a_trace_goes_through_the_router(lab: RunningLab) -> None:
    for source, target in ((lab.one, lab.two), (lab.two, lab.one)):
        eventually(lambda: page(source, target.ip))  # noqa: B023  called at once
        # Until the session is there again on both sides, pages may come by what is there of it.
        eventually(lambda: lab.trace(source.name, target.name, "tcp/80").code == "delivered")  # noqa: B023


@NAT
def test_only_sealed_datagrams_cross_the_router(lab: RunningLab) -> None:
    ping(lab.one, lab.two.ip)
    with lab.router.tap("eth1") as wire:
        ping(lab.one, lab.two.ip)
        assert PAGE.decode() in page(lab.one, lab.two.ip)
        frames = wire.all()
    assert len([f for f in frames if UDP in f and SLEEVE in (f.sport, f.dport)]) > 10
    assert not in_clear(frames, PAGE, PATTERN)


# weave-partition


@PARTITION
def test_what_is_known_is_not_flooded(lab: RunningLab) -> None:
    """h3 receives no packet between one of h1 and two of h2, not even ARP."""
    for host in (lab.h1, lab.h2, lab.h3):
        eventually(lambda host=host: [*ways(host).values()] == ["fastdp", "fastdp"])
    lab.one.run("ip", "neigh", "flush", "all")
    with lab.h3.tap() as wire, lab.three.tap() as inside, lab.h1.tap() as near:
        ping(lab.one, lab.two.ip)
        ping(lab.one, lab.three.ip)  # a control: the taps receive packets at all
        eventually(lambda: in_clear(inside.all(), PATTERN))
        seen, arrived, left = wire.all(), inside.all(), near.all()
    pinged = [f for f in map(inner, datagrams(seen, FASTDP)) if ICMP in f]
    assert not [f for f in pinged if lab.two.ip in (f[IP].src, f[IP].dst)]
    assert {f[IP].dst for f in arrived if ICMP in f} == {lab.three.ip, lab.one.ip}
    questions = [f[ARP].pdst for f in map(inner, datagrams(left, FASTDP)) if ARP in f]
    assert not {lab.two.ip, lab.three.ip} & {*questions}


@PARTITION
def test_both_sides_of_a_cut_allocate_and_know_their_own_and_agree_afterwards(
    lab: RunningLab,
) -> None:
    known = {"one", "two", "three"}
    hosts = (lab.h1, lab.h2, lab.h3)
    for host in hosts:
        eventually(lambda host=host: names(host) == known, what="all names at first")
    lab.switch.run("ip", "link", "set", "eth1", "down")
    try:
        eventually(lambda: names(lab.h1) == names(lab.h2) == {"one", "two"}, what="the left")
        eventually(lambda: names(lab.h3) == {"three"}, what="the right")
        new = [start(lab.h1, "four"), start(lab.h2, "five"), start(lab.h3, "six")]
        eventually(lambda: names(lab.h1) == {"one", "two", "four", "five"})
        assert names(lab.h3) == {"three", "six"}
        ping(lab.h2, new[0], "five")
    finally:
        lab.switch.run("ip", "link", "set", "eth1", "up")
    for host in hosts:
        eventually(lambda host=host: names(host) == known | {"four", "five", "six"}, what="all")
    addresses = [*new, lab.one.ip, lab.two.ip, lab.three.ip]
    assert len({*addresses}) == 6, addresses
    ping(lab.h3, new[0], "six")
    ping(lab.h1, new[2], "four")


def names(host: Machine) -> set[str]:
    """Names of containers that a host knows on network weave; their ids are names, too."""
    found = {each["name"].partition(".")[0] for each in status(host)["names"]}
    return {name for name in found if not re.fullmatch("[0-9a-f]{12}", name)}


def start(host: Machine, name: str) -> str:
    """A container with some address; return that."""
    host.run("weave", "run", "--name", name, "busybox", "sleep", "1000000")
    found = json.loads(host.netkit("inspect", name))[0]
    return str(found["NetworkSettings"]["Networks"]["weave"]["IPAddress"])
