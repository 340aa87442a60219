"""Links, addresses, routes: what only a real Linux kernel can show."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from ipaddress import ip_interface
from itertools import islice
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns, session
from netkit.kernel.netlink import apply, observe, removal, rtnl
from netkit.kernel.netlink.codec import TIMEVAL, Netlink, Reply, Tally
from netkit.kernel.netlink.counters import counted_links
from netkit.kernel.session import Session
from netkit.model import HOST, Addr, BridgeRedirect, Fdb, Link, Netns, Peer, state
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op

pytestmark = pytest.mark.root

NET = "netkit:0:aaaaaaaaaaaa"


def _ip(lab, *args, at=""):
    return json.loads(lab.run("ip", "-d", "-j", *args, at=at) or "[]")


def _ping(lab, start, target):
    """Ping for two seconds: after a failure, ARP pauses for one."""
    argv = ["busybox", "ping", "-c", "2", "-W", "1", target]
    return lab.tried(*argv, at=start).returncode == 0


def test_the_peer_is_born_in_its_namespace_with_name_mac_and_mtu(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1, mtu=1400))
    (eth0,) = _ip(lab, "link", "show", "eth0", at=lab.ns("c1"))
    assert (eth0["address"], eth0["mtu"], eth0["operstate"]) == ("02:42:0a:4d:00:01", 1400, "UP")
    (near,) = _ip(lab, "link", "show", "veth1")
    mark = "netkit:0:aaaaaaaaaaaa:000000000001"
    assert (near["master"], near["mtu"], near["ifalias"]) == ("br0", 1400, mark)
    (lo,) = _ip(lab, "link", "show", "lo", at=lab.ns("c1"))
    assert "UP" in lo["flags"]
    (route,) = _ip(lab, "route", "show", "default", at=lab.ns("c1"))
    assert (route["gateway"], route["dev"]) == ("10.77.0.1", "eth0")
    assert int(route["protocol"]) == rtnl.RTPROT_NETKIT
    address = _ip(lab, "addr", "show", "eth0", at=lab.ns("c1"))[0]["addr_info"][0]
    assert (address["local"], address["broadcast"]) == ("10.77.0.3", "10.77.255.255")


def test_the_far_end_is_seen_where_the_scope_names_its_namespace(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    link = lab.container(1)[2]
    alone = host.observe([link.key])[link.key]
    assert alone.peer is None
    both = host.observe([link.key, ("netns", lab.ns("c1"))])[link.key]
    assert both.peer == Peer(ns=lab.ns("c1"), name="eth0")
    lab.run("ip", "link", "set", "eth0", "name", "eth7", at=lab.ns("c1"))
    assert host.observe([link.key, ("netns", lab.ns("c1"))])[link.key].peer.name == "eth7"


def test_a_vxlan_device_that_was_moved_away_is_made_again(lab):
    """The kernel keeps its number for it, whatever it is called where it is."""
    host, away = lab.host(), f"{lab.folder}/away"
    device, theirs = (
        Link(
            name=f"wx{n}", kind="vxlan", owner=f"netkit:0:{n}", up=None, mtu=1400,
            options=(("df", "set"), ("dstport", "6784"), ("id", str(4711 + n)),
                     ("learning", "off"), ("ttl", "64"), ("udpcsum", "on")),
        ) for n in range(2)
    )  # fmt: skip
    lab.make(host, Netns(path=away, owner="netkit:0:1"), device, theirs)
    for name in ("wx0", "wx1"):
        lab.run("ip", "link", "set", name, "netns", away, "name", f"{name}moved")
    lab.make(host, device)
    assert [link["ifname"] for link in _ip(lab, "link", "show", "type", "vxlan")] == ["wx0"]
    there = _ip(lab, "link", "show", "type", "vxlan", at=away)
    assert [link["ifname"] for link in there] == ["wx1moved"]
    lab.run("ip", "link", "set", "wx1moved", "alias", "another tool's", at=away)
    with pytest.raises(KernelError):
        lab.make(host, theirs)


def test_both_ends_keep_the_mtu(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1, mtu=1400))
    lab.run("ip", "link", "set", "eth0", "mtu", "1200", at=lab.ns("c1"))
    assert [str(op) for op in lab.make(host, *lab.container(1, mtu=1400))] == ["~ veth veth1"]
    assert _ip(lab, "link", "show", "eth0", at=lab.ns("c1"))[0]["mtu"] == 1400
    lab.make(host, *lab.container(1, mtu=1300))
    assert _ip(lab, "link", "show", "eth0", at=lab.ns("c1"))[0]["mtu"] == 1300


def test_both_ends_keep_the_length_of_their_longest_frames(lab):
    def lengths():
        ends = (("eth0", lab.ns("c1")), ("veth1", ""))
        return tuple(_ip(lab, "link", "show", dev, at=at)[0]["gso_max_size"] for dev, at in ends)

    def container(length):
        return [replace(r, gso_max_size=length) if isinstance(r, Link) else r
                for r in lab.container(1)]  # fmt: skip

    host = lab.host()
    lab.make(host, *lab.bridge(), *container(62000))
    assert lengths() == (62000, 62000)
    lab.run("ip", "link", "set", "eth0", "gso_max_size", "65536", at=lab.ns("c1"))
    plan = lab.make(host, *container(62000))
    assert [str(op) for op in plan] == ["~ veth veth1"]
    assert lengths() == (62000, 62000)
    assert lab.make(host, *container(62000)) == ()
    lab.make(host, *container(50000))
    assert lengths() == (50000, 50000)


def test_isolated_ports_reach_the_host_and_not_each_other(lab):
    host = lab.host()
    apart = [lab.container(n, isolated=True) for n in (1, 2)]
    lab.make(host, *lab.bridge(), *apart[0], *apart[1], *lab.container(3), *lab.container(4))
    first, third = lab.ns("c1"), lab.ns("c3")
    assert not _ping(lab, first, "10.77.0.4")
    assert _ping(lab, first, "10.77.0.1")
    assert _ping(lab, first, "10.77.0.5")  # one that is not isolated
    assert _ping(lab, third, "10.77.0.6")
    lab.make(host, replace(apart[0][2], isolated=False))
    assert _ping(lab, first, "10.77.0.4")


def _mac(lab, n, mac):
    lab.run("ip", "link", "set", "eth0", "address", mac, at=lab.ns(f"c{n}"))


def _locked(lab, n):
    """A container behind a locked port, and the MAC address that it may send from."""
    made = lab.container(n, locked=True)
    return [*made, Fdb(dev=made[2].name, mac=made[2].peer.mac, owner=made[2].owner)]


def test_a_locked_port_lets_in_only_the_address_that_is_its_own(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_locked(lab, 1), *lab.container(2))
    first, own, other = lab.ns("c1"), "02:42:0a:4d:00:01", "02:42:0a:4d:00:02"
    assert _ping(lab, first, "10.77.0.1")
    _mac(lab, 2, "02:42:0a:4d:00:99")
    for borrowed in ("02:42:0a:4d:00:77", other):
        _mac(lab, 1, borrowed)
        assert not _ping(lab, first, "10.77.0.1")
    _mac(lab, 1, own)
    assert _ping(lab, first, "10.77.0.1")


def test_a_redirect_is_drift_when_its_filter_or_its_bridge_is_another(lab):
    host, made = lab.host(), _locked(lab, 1)
    port = made[2]
    redirect = BridgeRedirect(dev=port.name, bridge="br0", mac=port.peer.mac, owner=port.owner)
    lab.make(host, *lab.bridge(), *made, redirect)
    assert lab.make(host, redirect) == ()
    lab.run("tc", "filter", "del", "dev", port.name, "ingress")
    assert [op.subject.key for op in lab.make(host, redirect)] == [redirect.key]
    lab.run("ip", "link", "set", "br0", "address", "02:42:0a:4d:00:88")
    assert [op.subject.key for op in lab.make(host, redirect)] == [redirect.key]
    assert lab.make(host, redirect) == ()
    assert _ping(lab, lab.ns("c1"), "10.77.0.1")


def test_what_a_port_learned_before_it_was_locked_is_forgotten(lab):
    """An upgrade finds containers that were free to send from any address."""
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    _mac(lab, 1, "02:42:0a:4d:00:77")
    assert _ping(lab, lab.ns("c1"), "10.77.0.1")
    plan = lab.make(host, *lab.bridge(), *_locked(lab, 1))
    assert [str(op) for op in plan] == [
        "~ veth veth1", "+ MAC address 02:42:0a:4d:00:01 behind port veth1"
    ]  # fmt: skip
    assert not _ping(lab, lab.ns("c1"), "10.77.0.1")
    _mac(lab, 1, "02:42:0a:4d:00:01")
    assert _ping(lab, lab.ns("c1"), "10.77.0.1")


def test_where_the_kernel_knows_no_locks_a_port_is_made_without(lab, monkeypatch):
    monkeypatch.setitem(rtnl.BRPORT, "locked", 250)  # as for a kernel before 5.18
    host = lab.host()
    made = [*lab.bridge(), *_locked(lab, 1)]
    lab.make(host, *made)
    assert lab.make(host, *made) == ()
    assert _ping(lab, lab.ns("c1"), "10.77.0.1")
    lab.drop(host, *_locked(lab, 1))
    assert host.observe([r.key for r in _locked(lab, 1)]) == {}


def test_no_other_port_takes_over_an_address_that_has_its_place(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_locked(lab, 1), *lab.container(2), *lab.container(3))
    placed, learned = "02:42:0a:4d:00:01", "02:42:0a:4d:00:02"
    for n in (1, 2):
        assert _ping(lab, lab.ns(f"c{n}"), "10.77.0.1")
    assert (_places(lab, placed), _places(lab, learned)) == (["veth1"], ["veth2"])
    for borrowed in (placed, learned):
        _mac(lab, 3, borrowed)
        _ping(lab, lab.ns("c3"), "10.77.0.1")
    assert (_places(lab, placed), _places(lab, learned)) == (["veth1"], ["veth3"])


def _places(lab, mac):
    """Return the ports at which the bridge has an entry for a MAC address."""
    table = json.loads(lab.run("bridge", "-j", "fdb", "show", "br", "br0"))
    return [e["ifname"] for e in table if e["mac"] == mac and e.get("master") == "br0"]


def test_hairpin_is_set_on_the_port(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1, hairpin=True))
    (near,) = _ip(lab, "link", "show", "veth1")
    assert near["linkinfo"]["info_slave_data"]["hairpin"] is True


def test_a_link_is_made_anew_when_its_index_is_taken(lab, monkeypatch):
    host = lab.host()
    lab.make(host, *lab.bridge())
    indexes = iter([70000, 70000, 70002])
    monkeypatch.setattr(
        "netkit.kernel.netlink.apply._draw", lambda n, used: list(islice(indexes, n))
    )
    lab.make(host, Link(name="one0", kind="bridge", owner="netkit:0:one"))
    lab.make(host, Link(name="two0", kind="bridge", owner="netkit:0:two"))
    assert _ip(lab, "link", "show", "two0")[0]["ifindex"] == 70002
    (one,) = _ip(lab, "link", "show", "one0")
    assert (one["ifindex"], one["ifalias"]) == (70000, "netkit:0:one")


@pytest.mark.parametrize("room", [300, 301, 800])
def test_links_of_one_batch_never_share_an_index(lab, monkeypatch, room):
    """300 links in a range of `room` indexes: drawn one by one, dozens of a batch meet."""
    monkeypatch.setattr(
        "netkit.kernel.netlink.apply.INDEXES", range(1 << 16, (1 << 16) + 2 * room, 2)
    )
    host = lab.host()
    with monkeypatch.context() as patched:  # the bridge is no part of the count
        patched.setattr("netkit.kernel.netlink.apply.INDEXES", range(1 << 17, 1 << 18, 2))
        lab.make(host, *lab.bridge())
    for start in (0, 100, 200):
        lab.make(host, *(r for n in range(start, start + 100) for r in lab.container(n)))
    links = {x["ifname"]: x for x in _ip(lab, "link")}
    assert len([name for name in links if name.startswith("veth")]) == 300
    assert all(links[f"veth{n}"]["ifalias"].endswith(f"{n:012x}") for n in range(300))
    if room == 300:
        with pytest.raises(KernelError, match="no free interface index"):
            lab.make(host, *lab.container(300))
        assert len(_ip(lab, "link")) == len(links)


def test_taking_back_removes_no_link_that_came_with_the_same_index(lab):
    host = lab.host()
    lab.run("ip", "link", "add", "theirs0", "index", "70000", "type", "bridge")
    ours = Link(name="ours0", kind="bridge", owner="netkit:0:x")
    with Session(lab.home, Tally()) as session:
        assert not _born(ours, 70000, made=False).touched
        apply._take_back(session, _born(ours, 70000, made=True), KernelError("first"))
    assert [x["ifname"] for x in _ip(lab, "link")] == ["lo", "theirs0"]
    lab.make(host, ours)
    seen = _ip(lab, "link", "show", "ours0")[0]["ifindex"]
    with Session(lab.home, Tally()) as session:
        apply._take_back(session, _born(ours, seen, made=True), KernelError("first"))
    assert [x["ifname"] for x in _ip(lab, "link")] == ["lo", "theirs0"]


def _born(link, index, *, made):
    """The job of a link whose birth the kernel has answered; what followed it succeeded."""
    birth = Reply() if made else Reply(errno.EEXIST)
    return apply.Job(Op(None, link), link.ns, born=index, replies=[birth, Reply()])


def test_a_link_that_changed_hands_is_not_changed(lab):
    host = lab.host()
    ours = Link(name="br5", kind="bridge", mtu=1500, owner="netkit:0:x")
    lab.make(host, ours)
    lab.run("ip", "link", "set", "br5", "alias", "mine now")
    with pytest.raises(KernelError, match="mine now"):
        host.apply([Op(ours, replace(ours, mtu=1400))])
    assert _ip(lab, "link", "show", "br5")[0]["mtu"] == 1500


def test_a_foreign_address_on_our_bridge_stays(lab):
    host = lab.host()
    lab.make(host, *lab.bridge())
    lab.run("ip", "addr", "add", "10.88.0.1/24", "dev", "br0")
    theirs = Addr(dev="br0", address=ip_interface("10.88.0.1/24"), owner="netkit:0:aaaaaaaaaaaa")
    assert host.observe([theirs.key])[theirs.key].owner is None
    assert lab.drop(host, theirs) == ()
    assert theirs.key not in host.owned("netkit:0:")
    assert ("addr", "", "br0", "10.77.0.1/16") in host.owned("netkit:0:")


def test_what_links_counted_is_read_in_one_dump(lab):
    host = lab.host()
    owner = "netkit:0:aaaaaaaaaaaa:bbbbbbbbbbbb"
    pair = Link(
        name="veth5", kind="veth", peer=Peer(ns=lab.ns("c5"), name="eth0"), owner=owner,
    )  # fmt: skip
    lab.make(host, *lab.bridge(), Netns(path=lab.ns("c5"), owner=owner), pair)
    lab.run("ip", "link", "add", "theirs", "type", "bridge")
    lab.run("ip", "link", "add", "others", "alias", "netkit:9:aaaaaaaaaaaa", "type", "bridge")
    before = {link.name: link for link in counted_links(lab.home, "netkit:0:")}
    assert {(link.name, link.owner, link.kind) for link in before.values()} == {
        ("br0", NET, "bridge"), ("veth5", owner, "veth"),
    }  # fmt: skip
    lab.run("ip", "addr", "add", "10.88.0.2/24", "dev", "eth0", at=lab.ns("c5"))
    send = "import socket; s = socket.socket(type=socket.SOCK_DGRAM)\n"
    send += "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
    send += "for _ in range(10): s.sendto(bytes(1000), ('10.88.0.255', 9))"
    lab.run(sys.executable, "-c", send, at=lab.ns("c5"))
    tally = Tally()
    after = {link.name: link for link in counted_links(lab.home, "netkit:0:", tally)}
    assert tally.requests == 1  # of however many links
    was, now = before["veth5"].counters, after["veth5"].counters
    shown = _ip(lab, "-s", "link", "show", "veth5")[0]["stats64"]
    assert now.received_bytes - was.received_bytes >= 10 * (1000 + 8 + 20 + 14)
    assert now.received_packets - was.received_packets >= 10
    assert now.received_bytes <= shown["rx"]["bytes"] < now.received_bytes + 10_000
    assert now.transmitted_bytes <= shown["tx"]["bytes"] < now.transmitted_bytes + 10_000
    assert now.received_drops == shown["rx"]["dropped"]


def test_a_link_that_changed_hands_is_not_removed(lab):
    host = lab.host()
    ours = Link(name="br5", kind="bridge", owner="netkit:0:x")
    lab.make(host, ours)
    lab.run("ip", "link", "set", "br5", "alias", "mine now")
    with pytest.raises(KernelError, match="mine now"):
        host.apply([Op(ours, None)])
    assert _ip(lab, "link", "show", "br5")


def test_remains_of_a_namespace_are_swept(lab):
    host = lab.host()
    path = Path(lab.ns("c1"))
    path.parent.mkdir()
    path.touch()
    there = host.owned("netkit:")
    remains = Netns(path=str(path), mounted=False)
    assert there == host.observe(there) == {remains.key: remains}
    assert lab.drop(host, *there.values())
    assert not path.exists()


def test_a_namespace_is_made_over_the_remains_of_one(lab):
    host = lab.host()
    lab.make(host, *lab.bridge())
    path = Path(lab.ns("c1"))
    path.parent.mkdir(exist_ok=True)
    path.touch()
    lab.make(host, *lab.container(1))
    assert netns.exists(str(path))
    lab.drop(host, *lab.container(1))
    assert not path.exists()


def test_a_socket_lives_in_the_namespace_it_was_opened_in(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    with netns.open_socket(lab.ns("c1"), socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("10.77.0.3", 53))  # an address that only c1 has
    with netns.inside(lab.ns("c1")):
        assert " eth0:" in Path("/proc/thread-self/net/dev").read_text()
        inner = os.readlink("/proc/thread-self/ns/net")
    assert os.readlink("/proc/thread-self/ns/net") == os.readlink("/proc/self/ns/net") != inner


def test_unmade_kinds_and_broken_names_are_clear_errors(lab):
    host = lab.host()
    for bad, message in (
        (Link(name="vx0", kind="vxlan", owner="netkit:0:x"), "vxlan"),
        (Link(name="a" * 16, kind="bridge", owner="netkit:0:x"), "a" * 16),
    ):
        with pytest.raises(KernelError, match=message):
            lab.make(host, bad)


# -- cost ----------------------------------------------------------------------


@pytest.mark.parametrize("containers", [1, 3])
def test_a_removal_waits_for_links_to_be_gone_and_not_for_the_kernels_answer(
    lab, monkeypatch, containers
):
    """The answer comes after an RCU barrier; here it is withheld until all is over."""
    host, over = lab.host(), threading.Event()
    made = [r for n in range(1, containers + 1) for r in lab.container(n)]
    lab.make(host, *lab.bridge(), *made)
    answered, ask = [], removal.Netlink.run

    def withheld(self, requests):
        replies = ask(self, requests)
        if threading.current_thread().name == "netkit-unlink":
            over.wait(20)
            answered.append(replies)
        return replies

    monkeypatch.setattr(removal.Netlink, "run", withheld)
    try:
        lab.drop(host, *(r for r in made if isinstance(r, Link)))
        assert answered == []
        assert not any(k[0] == "link" for k in host.observe([r.key for r in made]))
    finally:
        over.set()
    eventually(lambda: answered)
    assert {r.errno for r in answered[0]} == {0}


def test_a_removal_is_answered_where_nothing_is_announced(lab, monkeypatch):
    monkeypatch.setattr(removal, "RTMGRP_LINK", 0)
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    lab.drop(host, *lab.container(1))
    assert host.observe([r.key for r in lab.container(1)]) == {}


def test_more_removals_than_threads_wait_themselves(lab, monkeypatch):
    monkeypatch.setattr(removal, "_free", threading.BoundedSemaphore(1))
    assert removal._free.acquire(blocking=False)
    monkeypatch.setattr(removal.threads, "once", None)
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    lab.drop(host, *lab.container(1))
    assert host.observe([r.key for r in lab.container(1)]) == {}


def eventually(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_costs_a_send_and_a_receive_without_polling(lab):
    """A socket with Python's timeout polls before each of both."""
    with Session(lab.home, Tally()) as session:
        netlink = session.netlink(HOST)
        assert netlink._socket.gettimeout() is None


def test_a_kernel_that_does_not_answer_is_given_up(lab):
    with Session(lab.home, Tally()) as session:
        netlink = session.netlink(HOST)
        netlink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(0, 1000))
        with pytest.raises(KernelError, match="no answer in 20 s") as error:
            next(netlink._receive())
        assert error.value.errno == errno.ETIMEDOUT


def test_attaching_costs_the_same_with_500_others(lab, capsys):
    host = lab.host()
    lab.make(host, *lab.bridge())
    _attach(lab, host, 9000)  # warm
    alone = [_attach(lab, host, 9001 + i) for i in range(10)]
    crowd = [r for n in range(500) for r in lab.container(n)]
    start = time.perf_counter()
    lab.make(host, *crowd)
    together = time.perf_counter() - start
    crowded = [_attach(lab, host, 9501 + i) for i in range(10)]
    start = time.perf_counter()
    lab.drop(host, *crowd)
    with capsys.disabled():
        print(
            f"\nattach, ms: alone {_ms(alone)}, beside 500 {_ms(crowded)}; "
            f"500 in one change {together * 1000:.0f}, "
            f"their removal {(time.perf_counter() - start) * 1000:.0f}; "
            f"requests {alone[0][1]} and {crowded[0][1]}"
        )
    assert crowded[0][1:] == alone[0][1:]


def test_what_goes_on_a_new_link_is_sent_without_looking_for_it(lab, monkeypatch):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1)[:2])
    sent = []
    real = Netlink._batch

    def noted(self, requests, *flags):
        sent.append([r.kind for r in requests])
        return real(self, requests, *flags)

    pair = lab.container(1)
    monkeypatch.setattr(Netlink, "_batch", noted)
    host.apply([Op(None, r) for r in pair[2:]])
    monkeypatch.undo()
    looked = [rtnl.GETLINK] * 3  # the host's name, its bridge, and whether the index is free
    assert sent == [
        looked,
        [rtnl.NEWLINK, rtnl.SETLINK],
        [rtnl.SETLINK],
        [rtnl.NEWADDR, rtnl.NEWROUTE],
    ]
    assert lab.make(host, *pair) == ()


def test_what_goes_on_a_link_that_was_made_again_goes_to_the_new_one(lab):
    host = lab.host()
    lab.make(host, *lab.bridge(), *lab.container(1))
    link, address = lab.container(1)[2:4]
    second = replace(address, address=ip_interface("10.77.9.9/16"))
    seen = host.observe([link.key, ("netns", lab.ns("c1"))])[link.key]
    host.apply([Op(seen, None), Op(None, link), Op(None, address), Op(None, second)])
    found = host.observe([address.key, second.key])
    assert found.keys() == {address.key, second.key}


def _attach(lab, host, n):
    """Return (seconds, requests, answers) for one container."""
    change = Change.of(state(lab.container(n)))
    requests, answers = host.tally.requests, host.tally.answers
    start = time.perf_counter()
    converge(change, host, ownership("0", lab.folder))
    took = time.perf_counter() - start
    return took, host.tally.requests - requests, host.tally.answers - answers


def _ms(runs):
    times = [t * 1000 for t, *_ in runs]
    return f"median {statistics.median(times):.1f} best {min(times):.1f}"


def test_nothing_leaks(lab):
    host = lab.host()
    lab.make(host, *lab.bridge())

    def cycle(n):
        many = [r for i in range(20) for r in lab.container(20 * n + i)]
        lab.make(host, *many)
        lab.drop(host, *many)

    cycle(0)
    files, memory = len(os.listdir("/proc/self/fd")), _resident()
    for n in range(1, 51):  # 1000 containers
        cycle(n)
    # The last removal's thread may still wait for its answer.
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)
    assert _resident() - memory < 3 << 20
    assert [x["ifname"] for x in _ip(lab, "link")] == ["lo", "br0"]
    assert netns.inside_folder(lab.folder) == []


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# -- kills -----------------------------------------------------------------------


def test_a_kill_at_any_instant_leaves_nothing_without_an_owner(lab):
    """Links always carry their mark, and the next run makes everything whole."""
    host = lab.host()
    lab.make(host, *lab.bridge())
    desired = [r for n in range(4) for r in lab.container(n)]
    for delay in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, lab.home, lab.folder, *sys.path],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        time.sleep(0.0017 * delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        marks = {x["ifname"]: x.get("ifalias", "") for x in _ip(lab, "link")}
        del marks["lo"]
        assert all(m.startswith("netkit:0:") for m in marks.values()), marks
        lab.make(host, *desired)
        assert lab.make(host, *desired) == ()
        lab.drop(host, *desired)
    assert netns.inside_folder(lab.folder) == []


# Makes and removes bridges and pairs for ever, as fast as it can.
CHILD = """
import sys
home, folder, *sys.path[:] = sys.argv[1:]
from netkit.kernel.host import Host
from netkit.reconcile.converge import *
from netkit.model import *
host, mine = Host(home, namespaces=folder, variant="nft"), ownership("0", folder)
def container(n):
    owner, ns = f"netkit:0:aaaaaaaaaaaa:{n:012x}", f"{folder}/c{n}"
    yield Netns(path=ns, owner=owner)
    peer = Peer(ns=ns, name="eth0")
    yield Link(name=f"veth{n}", kind="veth", peer=peer, master="br0", owner=owner)
many = state(r for n in range(4) for r in container(n))
print("go", flush=True)
while True:
    converge(Change.of(many), host, mine)
    converge(Change.of({}, many), host, mine)
"""


def test_a_look_at_many_namespaces_opens_one_socket_in_each(lab, monkeypatch):
    monkeypatch.setattr(session, "OPEN_AT_ONCE", 4)
    monkeypatch.setattr(observe, "OPEN_AT_ONCE", 4)
    made = [*lab.bridge(), *(r for n in range(1, 10) for r in lab.container(n))]
    lab.make(lab.host(), *made)
    keys, before = [r.key for r in made], lab.host().observe([r.key for r in made])
    opened = []

    def opening(*args):
        opened.append(args)
        return Netlink(*args)

    monkeypatch.setattr(session, "Netlink", opening)
    assert lab.host().observe(keys) == before
    assert {r.key for r in made} <= before.keys()
    assert len(opened) == 10  # nine containers and the host
