"""The sleeve between real TAP devices: what goes through it, and what of it is on the wire."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.overlay.sleeve import framing
from netkit.overlay.sleeve.shortening import Shortening
from netkit.overlay.sleeve.vectors import UDP_GRO, UDP_SEGMENT
from netkit.testing.waiting import readable
from tests.netns.sleeve_hosts import NETWORK, PORT, SleeveHost, hosts, introduced, transfer

pytestmark = pytest.mark.root
MARK = b"neither a word of this nor its repetition may be read by others. "


@contextmanager
def wire(host: SleeveHost) -> Iterator[socket.socket]:
    """What the host sends and receives on the underlay."""
    with netns.open_socket(host.home, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
        sock.bind(("u", 3))
        sock.setblocking(False)
        yield sock


def captured(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 17))
        except BlockingIOError:
            return found


def dropped(host: SleeveHost) -> dict[str, int]:
    """By the receiving worker."""
    _, got = host.plane.counts()
    found = dict(got.dropped)
    for counts in got.peers.values():
        for why, n in counts.dropped.items():
            found[why] = found.get(why, 0) + n
    return found


def runs(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
def test_all_kinds_of_frames_pass(mtu: int) -> None:
    with hosts(3, mtu) as made:
        for sealed, whole in product([True, False], repeat=2):
            introduced(made, sealed=sealed, mtu=mtu, whole=whole)
            # A frame of the kernel's own (MLD, router solicitation) that is sent while one side is
            # introduced and the other is not, is dropped, rightly.
            time.sleep(0.05)
            before = [dropped(host) for host in made]
            _all_kinds(*made, mtu)
            assert [dropped(host) for host in made] == before


def _all_kinds(one: SleeveHost, two: SleeveHost, three: SleeveHost, mtu: int) -> None:
    assert one.pings(two)
    assert two.pings(three, mtu - 128)
    assert mtu < 1380 or three.pings(one, target="fd00::1")
    assert transfer(one, two, 20, os.urandom(1 << 18))
    assert transfer(three, two, 5, os.urandom(1 << 18))
    _datagrams(one, three, [b"x", b"y" * 1000, b"z" * 20_000])
    _broadcast(one, [two, three])


def _datagrams(sender: SleeveHost, receiver: SleeveHost, sent: list[bytes]) -> None:
    with sender.socket(socket.SOCK_DGRAM) as out, receiver.socket(socket.SOCK_DGRAM) as end:
        for data in sent:
            out.sendto(data, end.getsockname())
            assert end.recv(65_536) == data


def _broadcast(sender: SleeveHost, receivers: list[SleeveHost]) -> None:
    """Once each."""
    with sender.socket(socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        ends = [r.socket(socket.SOCK_DGRAM, "10.32.0.255") for r in receivers]
        for end in ends:
            port = end.getsockname()[1]
            out.sendto(b"all", ("10.32.0.255", port))
            assert end.recv(100) == b"all"
            end.settimeout(0.2)
            with pytest.raises(TimeoutError):
                end.recv(100)
            end.close()


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_sealed_is_not_read_on_the_wire(sealed: bool) -> None:
    from scapy.layers.inet import UDP, Ether

    with hosts(2) as made, wire(made[0]) as sock:
        introduced(made, sealed=sealed)
        assert made[0].pings(made[1])
        assert transfer(made[0], made[1], 30, MARK * 1000)
        frames = captured(sock)
        payloads = [bytes(p[UDP].payload) for f in frames if (p := Ether(f)).haslayer(UDP)]
        assert sum(map(len, payloads)) > 30 * 1000 * len(MARK)
        assert {data[0] for data in payloads} == {framing.DATA}
        assert any(MARK in data for data in payloads) != sealed
        assert any(made[1].mac in data for data in payloads) != sealed


def test_what_others_send_is_dropped() -> None:
    """Recorded datagrams: once more, back to their sender, from elsewhere, changed, cut."""
    with hosts(2) as made, wire(made[1]) as sock:
        introduced(made, sealed=True)
        one, two = made
        assert one.pings(two)
        sent = [f[42:] for f in captured(sock) if f[23:24] == b"\x11" and f[26:30][3] == 1]
        good = max((d for d in sent if d[0] == framing.DATA), key=len)
        before = dropped(two).get("forged or replayed", 0)
        back = good[:4] + struct.pack("!I", one.index(two)) + good[8:]
        with one.socket(socket.SOCK_DGRAM, one.outer) as out:
            changed = good[:-1] + bytes([good[-1] ^ 1])
            for data in (good, good, changed, good[:20], good[:3]):
                out.sendto(data, (two.outer, PORT))
        with two.socket(socket.SOCK_DGRAM, two.outer) as out:
            out.sendto(back, (one.outer, PORT))
        assert one.pings(two)
        assert dropped(two).get("forged or replayed", 0) - before == 4
        assert dropped(one) == {"forged or replayed": 1}


def test_in_clear_another_host_is_not_believed() -> None:
    with hosts(3) as made, wire(made[1]) as sock:
        introduced(made, sealed=False)
        one, two, three = made
        assert one.pings(two)
        sent = [f[42:] for f in captured(sock) if f[26:30] == socket.inet_aton(one.outer)]
        good = next(d for d in sent if d[0] == framing.DATA and len(d) > 100)
        with three.socket(socket.SOCK_DGRAM, three.outer) as out:
            out.sendto(good, (two.outer, PORT))
        assert one.pings(two)
        assert dropped(two) == {"other sender": 1}


def test_a_container_cannot_be_another() -> None:
    """Whatever it takes for its address: the peer that has it sees to that."""
    with hosts(2) as made:
        introduced(made, sealed=True)
        one, two = made
        assert one.pings(two)
        argv = ["ip", "-n", one.name, "addr", "add", "10.32.0.77/24", "dev", "t"]
        subprocess.run(argv, check=True)
        with one.socket(socket.SOCK_DGRAM, "10.32.0.77") as out:
            for _ in range(5):
                out.sendto(b"lie", (two.inner, 9))
        assert one.pings(two)
        assert dropped(two)["source"] >= 5


# workers


def test_a_worker_that_is_killed_is_noticed_and_replaced() -> None:
    with hosts(2) as made:
        keys = introduced(made, sealed=True)
        one, two = made
        assert one.pings(two)
        for role in ("transmit", "receive"):
            os.kill(one.plane.pids[role], signal.SIGKILL)
            assert any(readable(fd, 2.5) for fd in one.plane.files)
            lost = one.plane.revive()
            assert lost.peers == ((2,) if role == "transmit" else ())
            assert lost.indexes == ((one.index(two),) if role == "receive" else ())
            assert not one.pings(two, seconds=1)  # nor in clear
            with pytest.raises(ValueError, match="in use before"):
                one.knows(two, keys, 1472) if role == "transmit" else one.plane.put_session(
                    one.session(two, keys)
                )
            keys |= {(1, 2): os.urandom(32), (2, 1): os.urandom(32)}
            one.knows(two, keys, 1472)
            two.knows(one, keys, 1472)
            assert one.pings(two)


def test_workers_preempt_no_other_process_and_who_receives_has_the_larger_share() -> None:
    with hosts(1) as (one,):
        nice = {}
        for role, pid in one.plane.pids.items():
            threads = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]
            assert {os.sched_getscheduler(each) for each in threads} == {os.SCHED_BATCH}
            nice[role] = {os.getpriority(os.PRIO_PROCESS, each) for each in threads}
        assert nice["transmit"] == {(usual := os.getpriority(os.PRIO_PROCESS, 0))}
        assert nice["receive"] == {max(usual - 5, -20)}


def test_what_is_told_while_a_worker_is_dead_is_told_the_next_one() -> None:
    with hosts(2) as made:
        one, two = made
        for pid in one.plane.pids.values():
            os.kill(pid, signal.SIGKILL)
        introduced(made, sealed=False)
        assert one.plane.revive().peers == ()
        assert one.pings(two)
        assert two.pings(one)


def test_keys_may_take_turns_and_no_counter_comes_twice() -> None:
    with hosts(2) as made, wire(made[0]) as sock:
        keys = introduced(made, sealed=True)
        one, two = made
        fresh = {(1, 2): os.urandom(32), (2, 1): os.urandom(32)}
        for each in (keys, fresh, keys, fresh):
            one.knows(two, each, 1472)
            two.knows(one, each, 1472)
            before = dropped(one), dropped(two)  # a frame of the kernel's own between the two
            assert one.pings(two)
            assert (dropped(one), dropped(two)) == before
        sent = [f[42:] for f in captured(sock) if f[26:30] == socket.inet_aton(one.outer)]
        data = [d for d in sent if d[0] == framing.DATA]
        assert len({d[16:] for d in data}) == len(data)


def test_nothing_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with hosts(2) as made:
        introduced(made, sealed=True)
        pids = [pid for host in made for pid in host.plane.pids.values()]
        assert made[0].pings(made[1])
        made[0].plane.drop_network(NETWORK)
        assert not made[0].pings(made[1], seconds=1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_workers_end_with_the_process_that_began_them() -> None:
    code = """
import os, socket, sys
from netkit.overlay.sleeve.plane import Plane
from netkit.overlay.sleeve.sockets import Pair
plane = Plane(Pair("127.0.0.1", 0))
print(*plane.pids.values(), flush=True)
os.kill(os.getpid(), 9)
"""
    with hosts(1) as made:
        argv = ["nsenter", f"--net={made[0].home}", sys.executable, "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    pids = done.stdout.split()
    assert len(pids) == 2
    end = time.monotonic() + 5
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


# strangers, and loss


def test_a_flood_of_a_stranger_costs_the_others_next_to_nothing() -> None:
    """A thousandth of the 50,000 a second of bench/weave.py is enough to see that none gets in."""
    with hosts(3) as made:
        introduced(made[:2], sealed=True)
        one, two, stranger = made
        garbage = [framing.header(0, 0, 1, n, n) + os.urandom(100) for n in range(2, 500)]
        with stranger.socket(socket.SOCK_DGRAM, stranger.outer) as out:
            for each in garbage * 20:
                out.sendto(each, (two.outer, PORT))
            for each in garbage:
                out.sendto(b"\x01" + each[1:], (two.outer, PORT))
        assert one.pings(two)
        assert dropped(two) == {}  # not even looked at
        two.pair.control.setblocking(False)
        control = [got for _ in garbage for got in two.pair.read()]
        assert [got[0][1:] for got in control] == [each[1:] for each in garbage]
        assert {got[1][0] for got in control} == {stranger.outer}
        assert two.pair.read() == []


def test_the_kernel_joins_datagrams_whichever_socket_it_asks() -> None:
    """By a hash of the addresses: else half of all peers would be slow on wires that cut."""
    with hosts(1) as made:
        for sock in (made[0].pair.control, made[0].pair.data):
            assert sock.getsockopt(socket.SOL_UDP, UDP_GRO) == 1


def test_control_messages_that_were_joined_are_read_one_by_one() -> None:
    with hosts(2) as made:
        one, two = made
        two.pair.control.setblocking(False)
        messages = [b"\x05" + bytes([n]) * 99 for n in range(10)]
        mixed = b"".join(messages[:5]) + b"\x06" * 100 + b"".join(messages[5:])
        with one.socket(socket.SOCK_DGRAM, one.outer) as out:
            segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("@H", 100))]
            out.sendmsg([mixed], segment, 0, (two.outer, PORT))
        found = []
        while got := two.pair.read():
            found += got
        assert [data for data, _ in found] == messages
        assert {host for _, (host, _) in found} == {one.outer}


@contextmanager
def lossy(host: SleeveHost, target: SleeveHost, share: float) -> Iterator[int]:
    """A port of the host's that passes datagrams on to another, all but a share of them."""
    argv = [sys.executable, "-c", RELAY, host.outer, target.outer, str(PORT), str(share)]
    relay = subprocess.Popen(
        ["nsenter", f"--net={host.home}", *argv], stdout=subprocess.PIPE, text=True
    )
    try:
        assert relay.stdout is not None
        yield int(relay.stdout.readline())
    finally:
        relay.kill()
        relay.communicate()


RELAY = """
import random, socket, sys
here, there, port, share = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
sock.bind((here, 0))
print(sock.getsockname()[1], flush=True)
chance = random.Random(1).random
buffer = bytearray(65536)
view = memoryview(buffer)
while True:
    size = sock.recv_into(buffer)
    if chance() >= share:
        sock.sendto(view[:size], (there, port))
"""


def seconds_of(sender: SleeveHost, receiver: SleeveHost, megabytes: int) -> float:
    begin = time.monotonic()
    assert transfer(sender, receiver, megabytes, os.urandom(1 << 20))
    return time.monotonic() - begin


def test_one_datagram_in_a_hundred_does_not_ruin_a_transfer() -> None:
    """Segments are sealed one by one once the loss is known; what that is worth is in the ratio."""
    took: dict[bool, float] = {}
    with hosts(2) as made, lossy(made[0], made[1], 0.01) as port:
        one, two = made
        keys = introduced(made, sealed=True)
        path = Shortening()
        for whole in (True, False):
            one.knows(two, keys, 1472, whole=whole, address=one.outer, port=port)
            took[whole] = seconds_of(one, two, 4)
            _, received = two.plane.counts()
            path.look(received.peers[1], time.monotonic())
            assert not path.whole
        assert path.loss == pytest.approx(0.01, rel=0.4)
    assert took[False] < took[True] * 1.1
