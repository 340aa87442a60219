"""Sets on Linux: changed at one stroke, cheap, cleaned up after a kill, absent from old kernels."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from ipaddress import ip_network

import pytest

from netkit.errors import KernelError
from netkit.kernel import ipsets, netns
from netkit.kernel.netlink import Tally
from netkit.kernel.session import Session
from netkit.plan import Op
from netkit.sets import IpSet
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
        for i in range(200):
            after = _set("10.77.0.3/32", f"10.{i}.0.0/16")
            host.apply([Op(barred, after)])
            barred = after
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(receiver.recvfrom(9)[1][0])
    finally:
        over.set()
        sending.join()
    assert got.count("10.77.0.4") > 20  # on a busy machine a change takes as long as ten packets
    assert "10.77.0.3" not in got
    lab.drop(host, drop)
    senders[0].sendto(b"x", ("10.77.0.1", 7))
    receiver.settimeout(2)
    while (sender := receiver.recvfrom(9)[1][0]) == "10.77.0.4":  # some were still under way
        pass
    assert sender == "10.77.0.3"
    for s in (receiver, *senders):
        s.close()


def test_a_set_left_by_a_kill_in_the_middle_of_a_change_is_ours_and_in_nobodys_way(lab):
    host = lab.host()
    some = _set("10.1.0.0/16")
    left = _set("10.2.0.0/16", name=some.name + ipsets.SPARE)
    host.apply([Op(None, some), Op(None, left)])
    assert set(host.owned(NET)) == {some.key, left.key}
    host.apply([Op(some, _set("10.3.0.0/16"))])
    assert set(host.owned(NET)) == {some.key}


def test_ten_thousand_addresses_cost_a_tenth_of_a_second(lab):
    host = lab.host()
    many = _set(*(f"10.{i >> 8}.{i & 255}.0/24" for i in range(10000)))
    start = time.monotonic()
    host.apply([Op(None, many)])
    assert time.monotonic() - start < 2  # 0.1 on an idle machine
    assert host.observe([many.key]) == {many.key: many}


def test_a_kernel_without_sets_has_none(lab, monkeypatch):
    class Old:
        def dump(self, _):
            raise KernelError("netlink: Invalid argument", errno=errno.EINVAL)

    with Session(lab.home, Tally()) as session:
        monkeypatch.setattr(session, "nftables", Old)
        assert ipsets.owned(session, "netkit:") == {}
        assert ipsets.observe(session, [("ipset", "4", "nks-a")]) == {}


def test_messages_say_what_is_wrong(lab):
    host = lab.host()
    host.apply([Op(None, _set("10.1.0.0/16"))])
    with pytest.raises(KernelError, match="make set nks-0123456789ab: File exists"):
        host.apply([Op(None, _set("10.2.0.0/16"))])
    with pytest.raises(KernelError, match="at most 30 characters"):
        host.apply([Op(None, _set(name="nks-" + "0" * 28))])
