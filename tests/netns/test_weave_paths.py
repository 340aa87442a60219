"""The overlay's process where the underlay is no flat network: NAT, firewalls, lost datagrams."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import AF_INET, SHUT_WR, SOCK_DGRAM, SOCK_STREAM
from threading import Event, Thread
from typing import Any

import pytest

from netkit.kernel.netns import open_socket
from netkit.overlay import verbs
from netkit.testing.waiting import eventually
from tests.netns.weave_process import Peer, Peers, peers, stream
from tests.netns.weave_routers import Router, inside, router

pytestmark = pytest.mark.root
Behind = tuple[Peers, list[Router]]


def address(peer: Peer) -> str:
    return peer.endpoints[0].addresses[0]


def reach(one: Peer, other: Peer, *more: str) -> None:
    """Wait until a container of one gets answers of the other's."""
    container = f"c{one.host.number}"
    eventually(lambda: one.host.pings(container, address(other), *more), 60)


def all_reach(many: list[Peer]) -> None:
    for one in many:
        for other in many:
            if one is not other:
                reach(one, other)


def joined(many: Peers) -> None:
    for peer in many:
        peer.join("lane")
        peer.run("lane", f"c{peer.host.number}")


def connection(peer: Peer, other: Peer) -> dict[str, Any]:
    found = peer.status()["overlay"]["connections"]
    return next(c for c in found if c["name"] == other.host.peer and c["state"] == "established")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """h1 and h2, each behind a router of its own, and h3 that both can reach; no password."""
    with ExitStack() as stack:
        three = stack.enter_context(peers(3, tmp_path_factory.mktemp("behind")))
        a, b, c = three
        routers = [stack.enter_context(router(three.town, p.host)) for p in (a, b)]
        c.launch()
        a.launch(c)
        b.launch(c)
        joined(three)
        yield three, routers


def test_two_behind_routers_reach_each_other_by_a_third(behind: Behind) -> None:
    (a, b, c), _ = behind
    all_reach([a, b, c])
    eventually(lambda: a.ways() == {"h2": "relay", "h3": "fastdp"})
    eventually(lambda: b.ways() == {"h1": "relay", "h3": "fastdp"})
    reach(a, b, "-s", "1372")
    # VXLAN gets out through the routers, and not in.
    eventually(lambda: c.ways() == {"h1": "sleeve", "h2": "sleeve"})
    assert connection(c, a)["reason"] == "sleeve: no answer to VXLAN probes"


def test_who_passes_data_on_does_not_see_it(behind: Behind) -> None:
    """Not in what it keeps in memory, though nobody has set a password."""
    (a, b, c), _ = behind
    reach(a, b)
    assert connection(a, b)["encrypted"]
    pattern = b"for h2 and nobody else"
    before = _received(b)
    with (
        open_socket(a.host.ns("c1"), AF_INET, SOCK_DGRAM) as out,
        open_socket(b.host.ns("c2"), AF_INET, SOCK_DGRAM) as sink,
    ):
        sink.bind((address(b), 7002))
        sink.settimeout(30)
        for _ in range(50):
            out.sendto(pattern * 20, (address(b), 7002))
            assert sink.recv(1000) == pattern * 20
    assert _received(b) >= before + 50
    assert _has(b, pattern)
    assert not _has(c, pattern)


def _received(peer: Peer) -> int:
    found = peer.call(verbs.Report())["process"]["received"]["peers"]
    return sum(each["frames"] for each in found.values())


def _has(peer: Peer, pattern: bytes) -> bool:
    """Whether it is in the memory of a process of its overlay."""
    with peer.service.channel() as channel:
        pids = [channel.pid, *peer.status()["process"]["workers"].values()]
    return any(_in_memory(pid, pattern) for pid in pids)


def _in_memory(pid: int, pattern: bytes) -> bool:
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(each, 16) for each in re.split("[- ]", line)[:2])
            if "rw" not in line.split()[1]:
                continue
            memory.seek(begin)
            if pattern in memory.read(end - begin):
                return True
    return False


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """h1, which everybody reaches, and h2 behind a router; with a password."""
    with ExitStack() as stack:
        two = stack.enter_context(peers(2, tmp_path_factory.mktemp("moving")))
        a, b = two
        found = stack.enter_context(router(two.town, b.host))
        a.launch(password="correct horse")
        b.launch(a, password="correct horse")
        joined(two)
        yield two, [found]


ONLY_DATA = """
table bridge control {{
  chain forward {{
    type filter hook forward priority 0;
    ip saddr {} udp dport 6783 @th,64,8 != 6 drop
  }}
}}
"""


def test_data_from_a_new_port_is_followed_without_waiting_for_anything_else(
    moving: Behind,
) -> None:
    (a, b), (found,) = moving
    all_reach([a, b])
    before = connection(a, b)["address"]
    wire = moving[0].town.wire
    inside(wire, "nft", "-f", "-", text=ONLY_DATA.format(found.public))
    try:
        with stream(b, "c2", a, "c1", address(a)):
            found.forget()
            eventually(lambda: connection(a, b)["address"] != before)
    finally:
        inside(wire, "nft", "delete", "table", "bridge", "control")
    all_reach([a, b])


@pytest.mark.parametrize("which", [0, 1])
def test_either_side_may_be_started_again(moving: Behind, which: int) -> None:
    two, _ = moving
    all_reach(two)
    two[which].kill()
    assert two[which].service.ensure()
    all_reach(two)


FIREWALL = """
table inet fw {
  chain in { type filter hook input priority 0; udp dport { 6783, 6784 } ct state new drop; }
}
"""


def test_a_firewall_that_lets_in_answers_only_is_passed_both_ways(tmp_path: Path) -> None:
    with peers(2, tmp_path) as two:
        a, b = two
        inside(b.host.home, "nft", "-f", "-", text=FIREWALL)
        a.launch(b)
        a.call(verbs.Prime())
        b.launch(a)
        joined(two)
        all_reach(two)
        eventually(lambda: (a.ways(), b.ways()) == ({"h2": "sleeve"}, {"h1": "fastdp"}))
        assert connection(a, b)["reason"] == "sleeve: no answer to VXLAN probes"
        for peer in two:
            peer.kill()
            assert peer.service.ensure()
            all_reach(two)


LOSSY = """
table bridge loss {
  chain forward {
    type filter hook forward priority 0;
    udp dport 6783 @th,64,8 6 numgen random mod 100 < 1 drop
  }
}
"""


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """Two with a password, between which one datagram in a hundred gets lost."""
    with peers(2, tmp_path_factory.mktemp("lossy")) as two:
        for peer in two:  # else a veth passes 44 datagrams as one packet, which is lost as a whole
            peer.host.did("ip", "link", "set", "eth0", "gso_max_segs", "1")
        a, b = two
        a.launch(password="correct horse")
        b.launch(a, password="correct horse")
        joined(two)
        all_reach(two)
        inside(two.town.wire, "nft", "-f", "-", text=LOSSY)
        yield two


@contextmanager
def transfer(sender: Peer, receiver: Peer) -> Iterator[None]:
    """A stream of TCP, of some 50 Mbit/s."""
    stop = Event()
    with ExitStack() as stack:
        ends = (receiver, sender)
        listener, out = (
            stack.enter_context(
                open_socket(p.host.ns(f"c{p.host.number}"), AF_INET, SOCK_STREAM)
            )
            for p in ends
        )
        listener.bind((address(receiver), 0))
        listener.listen()
        out.connect(listener.getsockname())
        sink = stack.enter_context(listener.accept()[0])

        def send() -> None:
            while not stop.wait(0.01):
                out.sendall(bytes(1 << 16))
            out.shutdown(SHUT_WR)

        def receive() -> None:
            while sink.recv(1 << 20):
                pass

        threads = [Thread(target=each) for each in (send, receive)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def sealed_together(peer: Peer) -> float:
    """Datagrams of a payload that is sealed, of what is sent in a second."""

    def sent() -> tuple[int, int]:
        (counts,) = peer.call(verbs.Report())["process"]["sent"]["peers"].values()
        return counts["datagrams"], counts["payloads"]

    before = sent()
    time.sleep(1)
    datagrams, payloads = (now - then for now, then in zip(sent(), before, strict=True))
    return datagrams / max(payloads, 1)


def is_lossy(one: Peer, other: Peer) -> bool:
    return bool(connection(one, other)["reason"].endswith("; datagrams get lost"))


@pytest.mark.parametrize(("sender", "receiver"), [(0, 1), (1, 0)])
def test_where_datagrams_get_lost_segments_are_sealed_one_by_one(
    lossy: Peers, sender: int, receiver: int
) -> None:
    one, other = lossy[sender], lossy[receiver]
    with transfer(one, other):
        eventually(lambda: is_lossy(one, other))
        assert sealed_together(one) < 1.5


@pytest.mark.slow
def test_frames_are_sealed_whole_again_once_no_datagram_gets_lost_any_more(lossy: Peers) -> None:
    a, b = lossy
    with transfer(a, b):
        eventually(lambda: is_lossy(a, b))
        inside(lossy.town.wire, "nft", "delete", "table", "bridge", "loss")
        eventually(lambda: not is_lossy(a, b), 120)
        assert sealed_together(a) > 5


@pytest.fixture(scope="module")
def sixes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """h1 has an IPv6 address, h2 one of each kind, h3 an IPv4 address; no password."""
    with peers(3, tmp_path_factory.mktemp("sixes")) as three:
        a, b, c = three
        for n, peer in enumerate(three[:2], 1):
            peer.host.did("ip", "addr", "add", f"2001:db8::{n}/64", "dev", "eth0", "nodad")
        a.host.did("ip", "addr", "flush", "dev", "eth0", "scope", "global")
        a.host.did("ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
        a.underlay = "2001:db8::1"
        a.launch(host="::")
        b.launch(a, host="::")
        c.launch(b)
        joined(three)
        yield three


def test_hosts_reach_each_other_over_ipv6_and_ipv4(sixes: Peers) -> None:
    a, b, c = sixes
    all_reach([a, b, c])
    assert a.ways() == {"h2": "sleeve", "h3": "relay"}
    assert connection(a, b)["address"] == "[2001:db8::2]:6783"
    assert connection(a, b)["reason"] == "sleeve: no IPv4 address, which VXLAN needs here"
    assert connection(a, b)["size"] == 1500 - 40 - 8
    eventually(lambda: b.ways() == {"h1": "sleeve", "h3": "fastdp"} and c.ways()["h2"] == "fastdp")
    reach(a, b, "-s", "1372")
    reach(a, c, "-s", "1372")
