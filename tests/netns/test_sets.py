"""Sets on Linux: changed atomically, cheap, cleaned up after a kill, absent from old kernels."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from ipaddress import ip_network

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import ipset
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model.ipset import IpSet
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op
from tests.netns.conftest import NET, rule

pytestmark = pytest.mark.root
both = pytest.mark.parametrize("variant", ["nft", "legacy"])


def _set(*members, name="nks-0123456789ab"):
    return IpSet(name=name, members=tuple(sorted(map(ip_network, members))), owner=NET)


@both
def test_no_packet_slips_through_while_members_change(lab, variant):
    """Of two containers one is in the set all the time; the other shows that packets flow."""
    host = lab.host(variant)
    lab.make(host, *lab.bridge(), *lab.container(1), *lab.container(2))
    barred = _set("10.77.0.3/32", "10.9.0.0/16")
    drop = rule("filter", "INPUT", f"-m set --match-set {barred.name} src -j DROP")
    lab.make(host, barred, drop)
    with netns.inside(lab.home):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("10.77.0.1", 7))
        receiver.setblocking(False)
    senders = []
    for n in (1, 2):
        with netns.inside(lab.ns(f"c{n}")):
            senders.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    over = threading.Event()

    def send():
        while not over.is_set():
            for s in senders:
                s.sendto(b"x", ("10.77.0.1", 7))
            time.sleep(0.0002)

    sending = threading.Thread(target=send)
    sending.start()
    got = []
    try:
        deadline, i = time.monotonic() + 60, 0
        while i < 200 or got.count("10.77.0.4") <= 20:  # the sender may have got no time
            assert time.monotonic() < deadline
            i += 1
            after = _set("10.77.0.3/32", f"10.{i % 256}.0.0/16")
            host.apply([Op(barred, after)])
            barred = after
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(receiver.recvfrom(9)[1][0])
    finally:
        over.set()
        sending.join()
    assert "10.77.0.3" not in got
    lab.drop(host, drop)
    senders[0].sendto(b"x", ("10.77.0.1", 7))
    receiver.settimeout(30)
    while (sender := receiver.recvfrom(9)[1][0]) == "10.77.0.4":  # some were still under way
        pass
    assert sender == "10.77.0.3"
    for s in (receiver, *senders):
        s.close()


def test_a_set_left_by_a_kill_in_the_middle_of_a_change_is_ours_and_in_nobodys_way(lab):
    host = lab.host()
    some = _set("10.1.0.0/16")
    left = _set("10.2.0.0/16", name=some.name + ipset.SPARE)
    host.apply([Op(None, some), Op(None, left)])
    assert set(host.owned(NET)) == {some.key, left.key}
    host.apply([Op(some, _set("10.3.0.0/16"))])
    assert set(host.owned(NET)) == {some.key}


def test_what_another_tool_has_in_names_of_ours_goes_unless_its_rules_refer_to_it(lab, monkeypatch):
    host = lab.host()
    some = _set("10.1.0.0/16")
    lab.make(host, some)
    empty, other, used = (IpSet(name=f"nks-{n:012x}", members=()) for n in range(1, 4))
    own = IpSet(name="nks-mine", members=())
    host.apply([Op(None, empty), Op(None, used), Op(None, own)])
    with monkeypatch.context() as typed, Session(lab.home, Tally()) as session:
        alone = IpSet(name=some.name, members=(ip_network("192.0.2.1/32"),))
        ipset._do(session.nftables(), [*ipset._additions(alone, some.name)], "add a member")
        typed.setattr(ipset, "HASH_NET", "hash:ip")
        host.apply([Op(None, other)])
    match = ("-m", "set", "--match-set", used.name, "src")
    lab.run("iptables-nft", "-A", "INPUT", *match, "-j", "DROP")
    found = host.owned("netkit:0:", policy=True)
    owners = {r.name: r.owner for r in found.values()}
    assert owners == {some.name: NET, empty.name: "netkit:0:stray", other.name: "netkit:0:stray"}
    converge(Change.of({some.key: some}, found), host, ownership("0", lab.folder))
    left = host.observe([r.key for r in (some, empty, other, used, own)])
    assert left == {r.key: r for r in (some, used, own)}
    lab.drop(host, some)
    monkeypatch.setattr(ipset, "HASH_NET", "hash:ip")
    host.apply([Op(None, IpSet(name=some.name, members=()))])
    monkeypatch.undo()
    lab.make(host, some)  # in the place of a set of another type
    assert host.observe([some.key]) == {some.key: some}


def test_ten_thousand_addresses_are_a_few_requests(lab):
    host = lab.host()
    many = _set(*(f"10.{i >> 8}.{i & 255}.0/24" for i in range(10000)))
    before = host.tally.requests
    host.apply([Op(None, many)])
    assert host.tally.requests - before < 100
    assert host.observe([many.key]) == {many.key: many}


def test_a_kernel_without_sets_has_none(lab, monkeypatch):
    class Old:
        def dump(self, _):
            raise KernelError("netlink: Invalid argument", errno=errno.EINVAL)

    with Session(lab.home, Tally()) as session:
        monkeypatch.setattr(session, "nftables", Old)
        assert ipset.owned(session, "netkit:") == {}
        assert ipset.observe(session, [("ipset", "4", "nks-a")]) == {}


def test_messages_say_what_is_wrong(lab):
    host = lab.host()
    host.apply([Op(None, _set("10.1.0.0/16"))])
    with pytest.raises(KernelError, match="make set nks-0123456789ab: File exists"):
        host.apply([Op(None, _set("10.2.0.0/16"))])
    with pytest.raises(KernelError, match="at most 30 characters"):
        host.apply([Op(None, _set(name="nks-" + "0" * 28))])
