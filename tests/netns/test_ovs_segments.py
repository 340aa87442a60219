"""TCP segmentation by ovs-vswitchd (userspace TSO): what containers leave to it, and what not.

The ovs-vswitchd is of a later Debian, `script/openvswitch`: that of Debian 12 does not do it right.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.spec import PortSpec
from runtime.daemon.ovs_resync import OvsRepairs
from tests.netns.ovs_hosts import OvsHost, hosts, reaches, run

CLONE = Path(__file__).resolve().parents[2]
ABSENT = os.environ.get("NETKIT_TEST_OPENVSWITCH_ABSENT", "")
PROGRAMS = os.environ.get("NETKIT_TEST_OPENVSWITCH", f"{CLONE}/.openvswitch-trixie/bin")
NEWER = Path(PROGRAMS, "ovs-vswitchd").exists()

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not NEWER,
        reason=f"needs a later Open vSwitch (run: script/openvswitch){ABSENT and ': '}{ABSENT}",
    ),
    pytest.mark.skipif(not shutil.which("ethtool"), reason="needs ethtool"),
]

UDP_SEGMENT = 103  # linux/udp.h
PIECE, COUNT = 1200, 10  # bytes of a datagram, and datagrams of one send
TSO = "other_config:userspace-tso-enable"
REPAIRED = 30.0  # seconds, on a loaded machine


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OvsHost]]:
    """Two hosts with a tunnel; containers a and b on the first, c on the second."""
    with hosts(2, tmp_path_factory.mktemp("segments"), programs=PROGRAMS) as two:
        h1, h2 = two
        h1.create("mesh", "192.168.1.0/24", peers=h2.ip)
        h2.create("mesh", "192.168.1.0/24", peers=h1.ip)
        h1.open("a", "mesh", "192.168.1.11")
        h1.open("b", "mesh", "192.168.1.12")
        h2.open("c", "mesh", "192.168.1.13")
        for h in two:
            h.guard.start()
        yield two


def features(h: OvsHost, box: str) -> dict[str, str]:
    lines = run("ethtool", "-k", "eth0", at=h.ns(box)).splitlines()
    return {k.strip(): v.split()[0] for k, _, v in (line.partition(":") for line in lines) if v}


def offloads(h: OvsHost, box: str) -> set[str]:
    """What the container leaves to its port, of checksums and segments."""
    found = features(h, box)
    names = {n for n in found if n.startswith("tx-") and ("checksum-" in n or "segm" in n)}
    return {n for n in names if found[n] == "on"}


TCP = {"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"}


def settled(h: OvsHost, box: str, *, leaves: bool) -> None:
    deadline = time.monotonic() + REPAIRED
    while (offloads(h, box) == TCP) != leaves:
        assert time.monotonic() < deadline, offloads(h, box)
        time.sleep(0.1)


def carried(server: str, client: str, ip: str, amount: int, *, at: str = "") -> None:
    """Send random bytes, which have to arrive as they were.  `at`: the server's own address."""
    with netns.inside(server):
        listener = socket.create_server((at or ip, 7001))
    listener.settimeout(30)
    got: list[str] = []

    def receive() -> None:
        peer, _ = listener.accept()
        digest = hashlib.sha256()
        with peer:
            peer.settimeout(30)
            while chunk := peer.recv(1 << 16):
                digest.update(chunk)
        got.append(digest.hexdigest())

    thread = threading.Thread(target=receive)
    thread.start()
    content = os.urandom(amount)
    with netns.inside(client), socket.create_connection((ip, 7001), 10) as s:
        s.settimeout(30)
        s.sendall(content)
    thread.join(40)
    listener.close()
    assert got == [hashlib.sha256(content).hexdigest()]


def datagrams(server: str, client: str, ip: str, *, at: str = "") -> list[bytes]:
    """Those that arrive of 20 sends of COUNT datagrams each, in one piece to the kernel."""
    with (
        netns.open_socket(server, socket.AF_INET, socket.SOCK_DGRAM) as into,
        netns.open_socket(client, socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        into.bind((at or ip, 7002))
        into.settimeout(5)
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PIECE)
        got = []
        for n in range(20):
            pieces = [bytes([n, k]) * (PIECE // 2) for k in range(COUNT)]
            out.sendto(b"".join(pieces), (ip, 7002))
            for _ in pieces:
                got.append(into.recv(1 << 16))
        return got


SENT = [bytes([n, k]) * (PIECE // 2) for n in range(20) for k in range(COUNT)]


def test_a_container_leaves_checksums_and_tcp_segments_to_the_switch(pair: list[OvsHost]) -> None:
    h1, _ = pair
    port = f"nkv{h1.boxes['a'].id}"[:15]
    status = h1.vswitch.vsctl("get", "interface", port, "status")
    assert 'tx_tcp_seg_offload="true"' in status
    assert offloads(h1, "a") == TCP


@pytest.mark.parametrize("to", ["b", "c"], ids=["of this host", "behind a tunnel"])
def test_a_transfer_arrives_as_it_was_sent(pair: list[OvsHost], to: str) -> None:
    h1, h2 = pair
    there = {"b": h1, "c": h2}[to]
    ip = str(there.boxes[to].addresses[0]).split("/")[0]
    assert reaches(h1.ns("a"), ip)
    carried(there.ns(to), h1.ns("a"), ip, 8 << 20)


@pytest.mark.parametrize("to", ["b", "c"], ids=["of this host", "behind a tunnel"])
def test_datagrams_sent_in_one_piece_arrive_one_by_one(pair: list[OvsHost], to: str) -> None:
    h1, h2 = pair
    there = {"b": h1, "c": h2}[to]
    ip = str(there.boxes[to].addresses[0]).split("/")[0]
    assert reaches(h1.ns("a"), ip)
    assert datagrams(there.ns(to), h1.ns("a"), ip) == SENT


def test_a_tunnel_inside_of_containers_carries_tcp_and_datagrams(pair: list[OvsHost]) -> None:
    """Such packets have two headers of IP, of which the port's header describes one."""
    h1, _ = pair
    # What has CAP_NET_ADMIN: its desired offloads are others.
    h1.net.links.scopes.desired_state.administered = lambda _: True
    inner = {"x": ("192.168.77.1", "192.168.1.15"), "y": ("192.168.77.2", "192.168.1.14")}
    try:
        for (box, (own, far)), ip in zip(inner.items(), (14, 15), strict=True):
            h1.open(box, "mesh", f"192.168.1.{ip}")
            kind = ("type", "vxlan", "id", "7", "dstport", "4789", "remote", far, "dev", "eth0")
            run("ip", "link", "add", "vx", *kind, at=h1.ns(box))
            run("ip", "addr", "add", f"{own}/24", "dev", "vx", at=h1.ns(box))
            run("ip", "link", "set", "vx", "up", at=h1.ns(box))
        assert reaches(h1.ns("x"), "192.168.77.2")
        carried(h1.ns("y"), h1.ns("x"), "192.168.77.2", 4 << 20)
        assert datagrams(h1.ns("y"), h1.ns("x"), "192.168.77.2") == SENT
        carried(h1.ns("b"), h1.ns("x"), "192.168.1.12", 4 << 20)
        carried(h1.ns("x"), h1.ns("b"), "192.168.1.14", 4 << 20)
    finally:
        h1.net.links.scopes.desired_state.administered = lambda _: False
        for box in inner.keys() & h1.boxes.keys():
            h1.net.close(h1.boxes.pop(box).sandbox)


@pytest.fixture(scope="module")
def outside(pair: list[OvsHost]) -> Iterator[str]:
    """A host behind a link of h1 that carries 1400 bytes, its address 10.8.0.2."""
    h1, _ = pair
    path = f"{h1.home}o"
    netns.create(path)
    try:
        far = ("type", "veth", "peer", "name", "eth0", "netns", path)
        run("ip", "link", "add", "out", "mtu", "1400", *far, at=h1.home)
        run("ip", "link", "set", "eth0", "mtu", "1400", "up", at=path)
        run("ip", "addr", "add", "10.8.0.1/24", "dev", "out", at=h1.home)
        run("ip", "link", "set", "out", "up", at=h1.home)
        run("ip", "addr", "add", "10.8.0.2/24", "dev", "eth0", at=path)
        yield path
    finally:
        netns.remove(path)


def test_a_smaller_path_beyond_translation_carries_tcp_and_datagrams(
    pair: list[OvsHost], outside: str
) -> None:
    h1, _ = pair
    assert reaches(h1.ns("a"), "10.8.0.2")
    carried(outside, h1.ns("a"), "10.8.0.2", 2 << 20)
    assert datagrams(outside, h1.ns("a"), "10.8.0.2") == SENT


def test_what_comes_from_the_host_and_from_outside_arrives_as_it_was_sent(
    pair: list[OvsHost], outside: str
) -> None:
    h1, _ = pair
    ports = (
        PortSpec(proto="tcp", container_port=7001, host_first=7001, host_last=7001),
        PortSpec(proto="udp", container_port=7002, host_first=7002, host_last=7002),
    )
    h1.open("web", "mesh", "192.168.1.20", ports=ports)
    for source, ip in ((h1.home, "192.168.1.20"), (outside, "10.8.0.1")):
        carried(h1.ns("web"), source, ip, 4 << 20, at="192.168.1.20")
        assert datagrams(h1.ns("web"), source, ip, at="192.168.1.20") == SENT


def restarted(h: OvsHost, *, segmenting: bool) -> None:
    h.vswitch.segmenting = segmenting
    h.vswitch.kill("ovs-vswitchd")
    h.vswitch.start_switch()


def test_a_switch_started_again_with_another_setting_is_followed(pair: list[OvsHost]) -> None:
    h1, _ = pair
    for segmenting in (False, True):
        restarted(h1, segmenting=segmenting)
        settled(h1, "a", leaves=segmenting)
        settled(h1, "b", leaves=segmenting)
        assert reaches(h1.ns("a"), "192.168.1.12")
        carried(h1.ns("b"), h1.ns("a"), "192.168.1.12", 1 << 20)


@pytest.mark.parametrize(
    ("box", "change"), [("a", ("tx", "off")), ("b", ("tx-udp-segmentation", "on"))]
)
def test_offloads_changed_by_another_tool_are_set_again(
    pair: list[OvsHost], box: str, change: tuple[str, str]
) -> None:
    h1, _ = pair
    settled(h1, box, leaves=True)
    run("ethtool", "-K", "eth0", *change, at=h1.ns(box))
    assert offloads(h1, box) != TCP
    OvsRepairs(h1.net, h1.kernel, h1.database).repair()
    settled(h1, box, leaves=True)
