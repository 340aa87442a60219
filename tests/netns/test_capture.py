"""Packets of several namespaces, recorded from outside."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import PcapNgReader

from netkit.capture.points import Point
from netkit.capture.recording import Recording, listening
from netkit.capture.sinks import Lines, Pcapng
from netkit.errors import InvalidSpec, KernelError
from netkit.kernel import netns
from netkit.kernel.packet_socket import PacketSocket
from netkit.testing.waiting import eventually
from tests.netns.conftest import Lab, fresh_lab

A, B = "10.199.0.1", "10.199.0.2"


@dataclass
class Wire:
    """a --(ap, bridge br0 in the middle, bp)-- b"""

    lab: Lab
    said: list[str] = field(default_factory=list)

    def point(self, where: str, interface: str = "eth0") -> Point:
        return Point(name=f"{where}@{interface}", description=f"of {where}",
                     ns=self.lab.ns(where), interface=interface)  # fmt: skip

    def send(self, count: int, port: int = 9, size: int = 8) -> None:
        with netns.open_socket(self.lab.ns("a"), socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for n in range(count):
                sock.sendto(n.to_bytes(4, "big") + bytes(size - 4), (B, port))

    def record(
        self, points: list[Point], filter: str, do: Callable[[], object], *, seconds: float = 5.0,
        most: int | None = None, buffer: int = 8 << 20, snaplen: int = 1 << 16,
        size: int | None = None,
    ) -> tuple[bytes, Recording]:  # fmt: skip
        """The file; ends when `do` has and nothing came for a while."""
        out = io.BytesIO()
        over = threading.Event()

        def doing() -> None:
            do()
            over.set()

        with listening(points, filter, snaplen, buffer=buffer) as sources:
            recording = Recording(
                sources, Pcapng(out, snaplen, size), self.said.append, most=most, seconds=seconds
            )
            thread = threading.Thread(target=doing)
            thread.start()
            recording.run(over.is_set)
            thread.join()
        return out.getvalue(), recording


@pytest.fixture(scope="module")
def shared() -> Iterator[Wire]:
    """The kernel takes a second to find that a bridge's ports have a carrier."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with fresh_lab() as lab:
        yield build(lab)


@pytest.fixture
def wire(shared: Wire) -> Wire:
    shared.said.clear()
    return shared


def build(lab: Lab) -> Wire:
    for name in ("a", "b", "m"):
        netns.create(lab.ns(name))
    for name, address in (("a", A), ("b", B)):
        ns = lab.ns(name)
        lab.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"{name}p",
                "netns", lab.ns("m"), at=ns)  # fmt: skip
        lab.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", at=ns)
        lab.run("ip", "addr", "add", f"{address}/24", "dev", "eth0", at=ns)
        lab.run("ip", "link", "set", "eth0", "up", at=ns)
    middle = lab.ns("m")
    lab.run("ip", "link", "add", "br0", "type", "bridge", at=middle)
    for port in ("ap", "bp"):
        lab.run("ip", "link", "set", port, "master", "br0", "up", at=middle)
    lab.run("ip", "link", "set", "br0", "up", at=middle)
    lab.run("ip", "neigh", "replace", B, "lladdr", _mac(lab, "b"), "dev", "eth0", at=lab.ns("a"))
    lab.run("ip", "neigh", "replace", A, "lladdr", _mac(lab, "a"), "dev", "eth0", at=lab.ns("b"))
    eventually(lambda: lab.run("bridge", "link", at=middle).count("state forwarding") == 2, 5)
    return Wire(lab)


def _mac(lab: Lab, name: str) -> str:
    shown = lab.run("ip", "-o", "link", "show", "eth0", at=lab.ns(name))
    return shown.partition("link/ether ")[2].split()[0]


def read(data: bytes) -> list[Ether]:
    with PcapNgReader(io.BytesIO(data)) as reader:
        return list(reader)


def names(frames: list[Ether]) -> list[str]:
    return [frame.sniffed_on.decode() if isinstance(frame.sniffed_on, bytes) else frame.sniffed_on
            for frame in frames]  # fmt: skip


def test_a_packet_on_its_way_passes_all_points_in_order(wire: Wire) -> None:
    path = [wire.point("a"), wire.point("m", "ap"), wire.point("m", "bp"), wire.point("b")]
    data, recording = wire.record(
        [path[2], path[0], path[3], path[1]], "udp port 9", lambda: wire.send(200)
    )
    frames = read(data)
    assert recording.dropped == 0
    assert len(frames) == recording.written == 800
    stamps = [frame.time for frame in frames]
    assert stamps == sorted(stamps)
    by_packet: dict[bytes, list[str]] = {}
    for frame, name in zip(frames, names(frames), strict=True):
        by_packet.setdefault(bytes(frame)[42:46], []).append(name)
    assert set(map(tuple, by_packet.values())) == {tuple(p.name for p in path)}
    assert [f.direction for f in frames[:4]] == [2, 1, 2, 1]  # out of a, into ap, out of bp, into b


def test_the_filter_is_the_kernels(wire: Wire) -> None:
    def send() -> None:
        wire.send(50, 9)
        wire.send(3, 10)

    with PacketSocket(wire.lab.ns("b"), "eth0") as every:
        every.start()
        data, recording = wire.record([wire.point("b")], "udp port 10", send)
        every.count()
    assert len(read(data)) == 3
    assert every.received >= 53
    assert recording._all[0].packets.received == 3


def test_a_filter_that_is_wrong_is_refused_with_libpcaps_reason(wire: Wire) -> None:
    with pytest.raises(InvalidSpec, match="syntax error"):
        wire.record([wire.point("a")], "udp prt 9", lambda: None)


def test_a_name_in_a_filter_asks_no_dns_server(wire: Wire) -> None:
    with pytest.raises(InvalidSpec, match="unknown host"):
        wire.record([wire.point("a")], "host no-such.example", lambda: None)


def test_what_the_kernel_drops_is_counted_and_written(wire: Wire, tmp_path: Path) -> None:
    sink = io.BytesIO()
    with listening([wire.point("b")], "udp port 9", buffer=4096) as sources:
        recording = Recording(sources, Pcapng(sink, 1 << 16), wire.said.append)
        wire.send(500, size=1000)
        recording.run(lambda: True)
    assert recording.written + recording.dropped == 500
    assert recording.dropped > 400
    statistics = sink.getvalue()[-76:]
    assert statistics[:4] == (5).to_bytes(4, sys.byteorder)
    assert recording.dropped.to_bytes(8, sys.byteorder) in statistics


def test_packets_are_cut_and_their_length_is_kept(wire: Wire) -> None:
    data, _ = wire.record([wire.point("b")], "udp", lambda: wire.send(1, size=900), snaplen=64)
    (frame,) = read(data)
    assert (len(bytes(frame)), frame.wirelen) == (64, 942)


def test_a_vlan_tag_is_where_it_was_and_can_be_filtered(wire: Wire) -> None:
    """At b the kernel has put it beside the frame."""
    sent = Ether(src=_mac(wire.lab, "a"), dst=_mac(wire.lab, "b")) / Dot1Q(vlan=5) / IP(dst=B)
    tagged = bytes(sent / UDP(dport=9) / b"tagged")

    def send() -> None:
        wire.send(2)
        with netns.open_socket(wire.lab.ns("a"), socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            sock.send(tagged)

    data, _ = wire.record([wire.point("b"), wire.point("a")], "vlan 5 and udp port 9", send)
    frames = read(data)
    assert names(frames) == ["a@eth0", "b@eth0"]
    assert [bytes(frame) for frame in frames] == [tagged, tagged]
    assert {frame.wirelen for frame in frames} == {len(tagged)}


def test_a_capture_ends_after_so_many_packets_or_bytes(wire: Wire) -> None:
    data, recording = wire.record([wire.point("b")], "udp", lambda: wire.send(50), most=7)
    assert len(read(data)) == recording.written == 7
    small, bounded = wire.record([wire.point("b")], "udp", lambda: wire.send(500), size=4000)
    assert 0 < len(read(small)) == bounded.written < 100
    assert len(small) <= 4000


def test_a_container_that_ends_ends_its_point_and_its_namespace(wire: Wire) -> None:
    lab = wire.lab
    process = subprocess.Popen(["nsenter", f"--net={lab.ns('b')}", "sleep", "60"])
    try:
        eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net")
                   != os.readlink("/proc/self/ns/net"), 5)  # fmt: skip
        point = Point(name="c@eth0", description="", ns=f"/proc/{process.pid}/ns/net",
                      interface="eth0", pid=process.pid)  # fmt: skip
        data, _ = wire.record([point], "udp", lambda: (wire.send(3), time.sleep(0.2),
                              process.kill(), time.sleep(0.4)))  # fmt: skip
    finally:
        process.kill()
        process.wait()
    assert len(read(data)) == 3
    assert wire.said == ["c@eth0 has ended, its container has ended: there is no other point"]


def test_a_capture_that_is_killed_leaves_nothing(wire: Wire) -> None:
    lab, ns = wire.lab, wire.lab.ns("a")
    program = (
        "import sys, time; from netkit.kernel.packet_socket import PacketSocket\n"
        f"s = PacketSocket({ns!r}, 'eth0'); s.start(); print('on', flush=True); time.sleep(60)"
    )

    def promiscuity() -> str:
        shown = lab.run("ip", "-d", "link", "show", "eth0", at=ns)
        return shown.partition("promiscuity ")[2].split()[0]

    assert promiscuity() == "0"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        assert promiscuity() == "1"
        process.send_signal(signal.SIGKILL)
        process.wait()
    eventually(lambda: promiscuity() == "0", 5)
    assert "sk" not in lab.run("cat", "/proc/net/packet", at=ns).partition("\n")[2]


def test_an_interface_that_is_not_there_is_named(wire: Wire) -> None:
    with pytest.raises(KernelError, match="eth7"):
        wire.record([wire.point("a", "eth7")], "", lambda: None)


def test_a_line_has_time_point_direction_and_contents(wire: Wire) -> None:
    written: list[str] = []
    with listening([wire.point("a"), wire.point("b")], "udp port 9") as sources:
        sink = Lines(written.append, lambda data, ethernet: f"{len(data)} {ethernet}")
        wire.send(1)
        Recording(sources, sink, wire.said.append).run(lambda: True)
    lines = [line.split()[1:] for text in written for line in text.splitlines()]
    assert lines == [["a@eth0", "out", "50", "True"], ["b@eth0", "in", "50", "True"]]


def test_an_interface_that_goes_is_said_once_and_the_rest_goes_on(wire: Wire) -> None:
    """The last: it takes the wire apart."""
    lab = wire.lab

    def remove() -> None:
        wire.send(5)
        time.sleep(0.2)
        lab.run("ip", "link", "set", "br0", "down", at=lab.ns("m"))
        time.sleep(0.3)
        lab.run("ip", "link", "set", "br0", "up", at=lab.ns("m"))
        lab.run("ip", "link", "del", "bp", at=lab.ns("m"))
        time.sleep(0.3)
        wire.send(5)

    data, _ = wire.record(
        [wire.point("a"), wire.point("b"), wire.point("m", "br0")], "udp port 9", remove
    )
    assert names(read(data)).count("a@eth0") == 10
    assert wire.said == [
        "m@br0 is down: packets come again once it is up",
        "b@eth0 has ended, the interface is gone: 2 other points go on",
    ]
