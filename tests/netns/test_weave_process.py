"""The overlay's process, whole, on hosts in namespaces: containers reach each other by it."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from socket import AF_INET, AF_PACKET, SO_BROADCAST, SOCK_DGRAM, SOCK_RAW, SOL_SOCKET

import pytest

from netkit.errors import Busy, Conflict, KernelError, NotFound, StoreError
from netkit.kernel.netns import open_socket
from netkit.overlay import client, membership, service, verbs
from netkit.overlay.running import Running
from netkit.testing.waiting import eventually
from runtime.network.weave.warning_log import WarningLog
from tests.netns.weave_process import Peer, Peers, peers, stream
from tests.unit.runtime.network.weave.host_bench import HostBench

pytestmark = pytest.mark.root
ETH_P_ALL = 0x0003
Town = tuple[Peer, Peer, str, str]
"""Two hosts, and the addresses of c1 on the first and c2 on the second, on network lane."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """By the kernel.  Tests use it one after the other, and leave it running."""
    with peers(2, tmp_path_factory.mktemp("pair")) as two:
        a, b = two
        a.launch()
        b.launch(a)
        for peer in two:
            peer.join("lane")
        here, there = a.run("lane", "c1"), b.run("lane", "c2")
        eventually(lambda: a.ways().get("h2") == "fastdp" == b.ways().get("h1"))
        yield a, b, here, there


def test_containers_reach_each_other_by_the_kernel_and_by_name(pair: Town) -> None:
    a, b, here, there = pair
    assert a.host.pings("c1", there)
    assert b.host.pings("c2", here)
    assert b.call(verbs.DnsLookup(name="c1.lane.weave.local")) == [here]
    assert a.call(verbs.DnsLookup(name=there)) == ["c2.lane.weave.local"]
    before = a.call(verbs.Report())["process"]["sent"]["peers"]
    assert a.host.pings("c1", there)
    assert a.call(verbs.Report())["process"]["sent"]["peers"] == before


def test_names_that_were_added_are_there_until_they_are_removed(pair: Town) -> None:
    a, b, _, _ = pair
    network = a.networks[0].id
    a.call(verbs.DnsAdd(name="db", addresses=("10.32.9.9", "10.32.9.8"), network=network))
    look = verbs.DnsLookup(name="DB.lane.weave.local")
    eventually(lambda: sorted(b.call(look)) == ["10.32.9.8", "10.32.9.9"])
    a.call(verbs.DnsRemove(name="db", addresses=("10.32.9.9",)))
    eventually(lambda: b.call(look) == ["10.32.9.8"])
    a.call(verbs.DnsRemove(name="db"))
    eventually(lambda: b.call(look) == [])
    with pytest.raises(NotFound, match="no such name"):
        a.call(verbs.DnsRemove(name="db"))


def test_members_are_notified_of_and_read(pair: Town) -> None:
    a, b, _, there = pair
    network = a.networks[0].id
    with a.service.channel() as events, a.service.channel() as channel:
        events.call(verbs.Subscribe())
        coming = events.events(20)
        assert [(m.names, m.addresses) for m in membership.read(channel).members] == [
            (("c2",), (there,))
        ]
        b.call(verbs.DnsAdd(name="site", addresses=("10.32.9.7",), network=b.networks[0].id))

        def named() -> bool:
            assert next(event for event in coming if event["event"] == "members")
            found = membership.read(channel).names
            return [(n.network, n.name) for n in found] == [(network, "site")]

        eventually(named)
        b.call(verbs.DnsRemove(name="site"))
        eventually(lambda: membership.read(channel).names == ())


def test_addresses_are_given_once_and_kept_by_who_has_them(pair: Town) -> None:
    a, b, here, there = pair
    ask = verbs.Allocate(ident="once", subnet="10.32.0.0/16")
    first = a.call(ask)
    assert a.call(ask) == first
    assert b.call(ask) != first
    with pytest.raises(Conflict, match="in use"):
        b.call(verbs.Claim(ident="thief", address=f"{here}/16", seconds=5))
    for peer in (a, b):
        peer.call(verbs.Release(ident="once"))
    assert here != there


def test_a_crash_costs_no_packet_and_the_next_process_knows_everything(pair: Town) -> None:
    a, b, here, there = pair
    chance = random.Random(7)
    given = {here, there}
    with stream(a, "c1", b, "c2", there) as one, stream(b, "c2", a, "c1", here) as two:
        for n in range(3):
            victim = (a, b)[n % 2]
            for k in range(3):
                address = victim.call(verbs.Allocate(ident=f"{n}.{k}", subnet="10.32.0.0/16"))
                assert address not in given
                given.add(address)
            time.sleep(chance.random() * 0.3)
            victim.kill()
            assert not victim.service.running
            time.sleep(0.3)
            assert victim.service.ensure()
            for k in range(3):
                ask = verbs.Allocate(ident=f"{n}.{k}", subnet="10.32.0.0/16")
                assert victim.call(ask) in given
        eventually(lambda: a.ways().get("h2") == "fastdp" == b.ways().get("h1"))
        time.sleep(0.5)
    assert (one.lost, two.lost) == (0, 0)
    assert one.sent > 100
    assert b.call(verbs.DnsLookup(name="c2.lane.weave.local")) == [there]


def test_the_host_is_on_a_network_while_it_is_exposed(pair: Town) -> None:
    a, b, _, _ = pair
    network, mac = a.networks[0].id, "02:42:0a:20:ff:01"
    a.call(verbs.Expose(network=network, mac=mac, addresses=()))
    _, _, vxlan = b.host.links("lane")
    eventually(lambda: mac in b.host.did("bridge", "fdb", "show", "dev", vxlan))
    a.call(verbs.Hide(network=network))
    eventually(lambda: mac not in b.host.did("bridge", "fdb", "show", "dev", vxlan))
    with pytest.raises(NotFound):
        a.call(verbs.Hide(network="nonsense"))


def test_a_full_disk_ends_the_process_before_anything_is_acknowledged(pair: Town) -> None:
    a, _, _, _ = pair
    with a.service.channel() as channel:
        resource.prlimit(channel.pid, resource.RLIMIT_FSIZE, (0, 0))
        with pytest.raises(StoreError, match="cannot be used"):
            channel.call(verbs.Allocate(ident="full", subnet="10.32.0.0/16"))
    eventually(lambda: not a.service.running)
    eventually(a.service.ensure)
    assert a.call(verbs.Allocate(ident="full", subnet="10.32.0.0/16"))
    a.call(verbs.Release(ident="full"))


def test_another_process_of_the_same_host_is_refused(pair: Town) -> None:
    a, _, _, _ = pair
    with pytest.raises(Conflict, match="runs on this host already"):
        a.launch()
    assert a.service.launched
    assert not a.service.ensure()


def test_who_subscribes_hears_of_peers_and_ways(pair: Town) -> None:
    a, b, _, _ = pair
    with a.service.channel() as channel:
        events = channel.events(20)
        b.kill()
        assert next(e for e in events if e["event"] == "peer" and e["name"] == "h2")
    b.service.ensure()
    eventually(lambda: a.ways().get("h2") == "fastdp" == b.ways().get("h1"))


def test_the_kernel_s_way_is_mended_when_another_tool_breaks_it(pair: Town) -> None:
    a, _, _, there = pair
    bridge, _, vxlan = a.host.links("lane")
    a.host.did("nft", "delete", "table", "ip", "netkit-weave")
    fdb = a.host.did("bridge", "fdb", "show", "dev", vxlan)
    line = next(e for e in fdb.splitlines() if "dst" in e and not e.startswith("00:00"))
    a.host.did("bridge", "fdb", "del", line.split()[0], "dev", vxlan, "dst", "192.0.2.2", "self")
    eventually(lambda: "192.0.2.2" in a.host.did("bridge", "fdb", "show", "dev", vxlan), 5)
    eventually(lambda: "netkit-weave" in a.host.did("nft", "list", "tables"), 5)
    eventually(lambda: a.host.pings("c1", there), 5)
    assert bridge


def test_stop_leaves_networks_of_the_host_and_nothing_else(pair: Town) -> None:
    a, b, _, _ = pair
    second = a.run("lane", "c3")
    eventually(lambda: a.host.pings("c1", second))
    a.service.stop()
    assert a.host.pings("c1", second)
    _clean(a)
    assert not a.service.launched
    with pytest.raises(NotFound, match="netkit weave launch"):
        a.status()
    eventually(lambda: "h1" not in b.ways(), 70)
    a.launch(b)
    a.service.sync(a.networks, a.endpoints)
    eventually(lambda: a.ways().get("h2") == "fastdp" == b.ways().get("h1"))


def test_reset_makes_a_new_peer_and_leaves_nothing(pair: Town) -> None:
    a, _, _, _ = pair
    before = a.status()["overlay"]["id"]
    a.service.reset()
    _clean(a)
    assert [f.name for f in a.service.folders.state.iterdir()] == []
    a.launch()
    assert a.status()["overlay"]["id"] != before


def test_stop_of_a_process_that_hangs_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peers(1, tmp_path) as (a,):
        for end in (a.service.stop, partial(a.service.reset, 0.0)):
            a.launch()
            if not a.networks:
                a.host.join("lane")
            a.service.sync(a.networks, a.endpoints)
            with a.service.channel() as channel:
                os.kill(channel.pid, signal.SIGSTOP)
            with monkeypatch.context() as quick:
                quick.setattr(client, "ANSWER", 0.5)
                quick.setattr(service, "END", 0.5)
                end(networks=a.networks)
            _clean(a)


def test_a_process_that_hangs_is_killed_with_its_workers_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread of netkitd's that follows it; more connections wait than it takes."""
    monkeypatch.setattr(client, "ANSWER", 0.5)
    with ExitStack() as stack:
        (a,) = stack.enter_context(peers(1, tmp_path))
        a.launch()
        following = HostBench(tmp_path, a.service).following
        following.on_sync.append(WarningLog().on_sync)
        following.start()
        stack.callback(following.stop)
        assert following.settle()
        with Running.find(a.service.folders.pid) as hung:
            pids = {hung.pid, *a.status()["process"]["workers"].values()}
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            while _connects(a.service.folders.control):
                pass
            assert following.settle(60)
            assert hung.wait(0)
        fresh = {a.status()["process"]["workers"][role] for role in ("transmit", "receive")}
        assert not fresh & pids
        assert not [pid for pid in pids if _runs(pid)]


def _connects(control: Path) -> bool:
    """Whether one more connection waits to be taken."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(control))
        except BlockingIOError:
            return False
    return True


def _runs(pid: int) -> bool:
    """Whether the worker that had this pid goes on."""
    try:
        return b"netkit.overlay" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _clean(peer: Peer) -> None:
    bridge, tap, vxlan = peer.host.links("lane")
    assert "netkit-weave" not in peer.host.did("nft", "list", "tables")
    assert "dst" not in peer.host.did("bridge", "fdb", "show", "dev", vxlan)
    assert "proto" not in peer.host.did("ip", "neigh", "show", "dev", bridge)
    assert "static" not in peer.host.did("bridge", "fdb", "show", "dev", tap)
    assert "UP" not in peer.host.did("ip", "link", "show", vxlan).split(">")[0]
    name = peer.host.home.rpartition("/")[2]
    argv = ["ip", "netns", "pids", name]
    # Workers of one that was killed end by themselves.
    eventually(lambda: not subprocess.run(argv, capture_output=True, check=True).stdout)
    assert sorted(f.name for f in peer.service.folders.run.iterdir()) == ["errors", "log"]


def test_who_has_met_nobody_has_no_addresses_until_it_is_the_first(tmp_path: Path) -> None:
    with peers(2, tmp_path) as (a, b):
        a.launch(b)
        with pytest.raises(Busy, match="no peer was reached yet"):
            a.call(verbs.Allocate(ident="x", seconds=0.5))
        (target,) = a.status()["overlay"]["targets"]
        assert target["name"] == str(b.host.ip)
        a.call(verbs.Prime())
        assert a.call(verbs.Allocate(ident="x")).endswith("/12")
        a.call(verbs.Forget(peers=(str(b.host.ip),)))
        a.kill()
        assert a.service.ensure()
        assert a.status()["overlay"]["targets"] == []
        with pytest.raises(NotFound, match="is no target"):
            a.call(verbs.Forget(peers=("h9",)))


def test_a_damaged_database_is_one_clear_line_and_reset_helps(tmp_path: Path) -> None:
    with peers(1, tmp_path) as (a,):
        a.launch()
        a.kill()
        path = a.service.folders.database
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(b"nonsense" * 600)
        with pytest.raises(KernelError, match=r"damaged .*netkit weave reset"):
            a.service.ensure()
        a.service.reset()
        a.launch()
        assert a.status()["overlay"]["name"] == "h1"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """Two with a password, and a third host with another one that tries to join them."""
    with peers(3, tmp_path_factory.mktemp("sealed")) as three:
        a, b, c = three
        a.launch(password="correct horse")
        b.launch(a, password="correct horse")
        c.launch(a, b, password="battery staple")
        for peer in (a, b):
            peer.join("lane")
        a.run("lane", "c1")
        b.run("lane", "c2")
        yield three


def _address(peer: Peer) -> str:
    return peer.endpoints[0].addresses[0]


def test_with_a_password_containers_reach_each_other_by_user_space(sealed: Peers) -> None:
    a, b, _ = sealed
    eventually(lambda: a.host.pings("c1", _address(b)))
    assert a.ways()["h2"] == "sleeve" == b.ways()["h1"]
    sent = a.call(verbs.Report())["process"]["sent"]["peers"]
    assert sum(each["frames"] for each in sent.values()) > 0
    (connection,) = (c for c in a.status()["overlay"]["connections"] if c["name"] == "h2")
    assert connection["encrypted"]


def test_nothing_on_the_wire_is_in_clear(sealed: Peers) -> None:
    a, b, _ = sealed
    eventually(lambda: a.host.pings("c1", _address(b)))
    with open_socket(sealed.town.wire, AF_PACKET, SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.settimeout(0.3)
        pattern = b"a word that is secret"
        with open_socket(a.host.ns("c1"), AF_INET, SOCK_DGRAM) as out:
            for _ in range(5):
                out.sendto(pattern * 10, (_address(b), 7002))
        seen = []
        with suppress(TimeoutError):
            while len(seen) < 1000:
                seen.append(wire.recv(2000))
    to_port = [frame for frame in seen if frame[36:38] == (6783).to_bytes(2, "big")]
    assert max(len(frame) for frame in to_port) > len(pattern) * 10
    assert not [frame for frame in seen if pattern in frame]


def test_who_has_another_password_hears_nothing(sealed: Peers) -> None:
    a, b, c = sealed
    eventually(lambda: a.ways().get("h2") and b.ways().get("h1"))
    assert c.ways() == {}
    assert "h3" not in a.ways()
    assert {p["name"] for p in a.status()["overlay"]["peers"]} == {"h1", "h2"}


def test_a_worker_that_dies_is_replaced_under_new_keys(sealed: Peers) -> None:
    a, b, _ = sealed
    eventually(lambda: a.host.pings("c1", _address(b)))
    for role in ("transmit", "receive"):
        pid = a.status()["process"]["workers"][role]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid, role=role: a.status()["process"]["workers"][role] != pid, 10)
        eventually(lambda: a.host.pings("c1", _address(b)), 15)


def test_after_a_crash_the_sleeve_goes_on_under_new_keys(sealed: Peers) -> None:
    a, b, _ = sealed
    eventually(lambda: a.host.pings("c1", _address(b)))
    a.kill()
    a.service.ensure()
    eventually(lambda: a.host.pings("c1", _address(b)), 15)


FLOOD = """
import random, socket, sys, time
chance = random.Random(1)
sizes = (16, 56, 320, 1200)
garbage = [bytes([k]) + chance.randbytes(n - 1) for k in range(9) for n in sizes]
s, sent, begin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0, time.monotonic()
while (past := time.monotonic() - begin) < 3:
    while sent < past * 50_000:
        s.sendto(garbage[sent % len(garbage)], (sys.argv[1], 6783))
        sent += 1
    time.sleep(0.002)
print(sent)
"""


def test_garbage_costs_established_peers_nothing(sealed: Peers) -> None:
    """50,000 datagrams a second from a host that is no peer."""
    a, b, c = sealed
    eventually(lambda: a.host.pings("c1", _address(b)))
    argv = ["nsenter", f"--net={c.host.home}", sys.executable, "-c", FLOOD, str(a.host.ip)]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as flood,
        stream(b, "c2", a, "c1", _address(a)) as found,
    ):
        time.sleep(1)
        assert a.ways()["h2"] == "sleeve"  # which is answered all the same
        sent, _ = flood.communicate(timeout=20)
    assert int(sent) > 10_000
    assert found.lost <= found.sent // 50
    assert a.ways()["h2"] == "sleeve"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """Three with a password; h1 and h3 do not reach each other, h2 reaches both."""
    with peers(3, tmp_path_factory.mktemp("chain")) as three:
        a, b, c = three
        for one, other in ((a, c), (c, a)):
            one.host.did("ip", "route", "add", "blackhole", f"{other.host.ip}/32")
        b.launch(password="correct horse")
        a.launch(b, password="correct horse")
        c.launch(b, password="correct horse")
        for peer in three:
            peer.join("lane")
            peer.run("lane", f"c{peer.host.number}")
        yield three


def test_two_that_cannot_reach_each_other_do_by_a_third(chain: Peers) -> None:
    a, b, c = chain
    eventually(lambda: a.host.pings("c1", _address(b)))
    eventually(lambda: a.host.pings("c1", _address(c)), 60)
    assert a.ways() == {"h2": "sleeve", "h3": "relay"}
    assert c.host.pings("c3", _address(a), "-s", "900")


def test_a_broadcast_comes_once_to_each(chain: Peers) -> None:
    a, b, c = chain
    eventually(lambda: a.host.pings("c1", _address(c)), 60)
    with ExitStack() as stack:
        sinks = []
        for peer in (b, c):
            sink = stack.enter_context(
                open_socket(peer.host.ns(f"c{peer.host.number}"), AF_INET, SOCK_DGRAM)
            )
            sink.bind(("10.32.255.255", 7001))
            sink.settimeout(5)
            sinks.append(sink)
        out = stack.enter_context(open_socket(a.host.ns("c1"), AF_INET, SOCK_DGRAM))
        out.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        for n in range(3):
            out.sendto(bytes([n]), ("10.32.255.255", 7001))
        for sink in sinks:
            assert [sink.recv(10) for _ in range(3)] == [b"\0", b"\1", b"\2"]
            sink.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sink.recv(10)


def test_what_a_lost_peer_owned_passes_to_another(chain: Peers) -> None:
    a, _, c = chain
    with pytest.raises(Conflict, match="can be reached"):
        a.call(verbs.RmPeer(peer="h3"))
    c.kill()
    c.service.folders.forget_launch()

    def removed() -> bool:
        try:
            return bool(a.call(verbs.RmPeer(peer="h3", seconds=5)))
        except Conflict:
            return False

    eventually(removed)
    assert {p["name"] for p in a.status()["overlay"]["peers"]} == {"h1", "h2"}

    former = c.service.former()  # it was only cut off, say, and comes back
    assert former is not None
    c.service.folders.write(former)
    assert c.service.ensure()
    text = "removed from the overlay by h1"
    eventually(lambda: text in " ".join(c.status()["overlay"]["warnings"]))
    with pytest.raises(Busy, match=text):
        c.call(verbs.Allocate(ident="x"))
    assert {p["name"] for p in a.status()["overlay"]["peers"]} == {"h1", "h2"}
