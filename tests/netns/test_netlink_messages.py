"""Neighbours, forwarding tables, routes and sockets as pyroute2 reads them, beside iproute2's."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.netlink import fib, neighbours, sock_diag
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.port_holders import holder

pytestmark = pytest.mark.root
PEER, OTHER = "02:42:0a:4d:00:02", "02:42:0a:4d:00:03"


SETUP = f"""
link add br0 type bridge
link add e0 type veth peer name e1
link set e0 master br0
addr add 10.77.0.1/16 dev br0
link set br0 up
link set e0 up
link set e1 up
neigh add 10.77.0.2 dev br0 lladdr {PEER}
neigh add 10.77.0.9 dev br0 nud failed
route add 192.0.2.0/24 via 10.77.0.2 metric 7 src 10.77.0.1
route add unreachable 198.51.100.0/24
route add prohibit 198.51.101.0/24
route add blackhole 198.51.102.0/24
route add throw 198.51.103.0/24
rule add pref 100 from 203.0.113.1 lookup 99
route add 192.0.2.0/24 dev br0 table 99
"""


@pytest.fixture
def netlink(lab):
    lab.run("ip", "-batch", "-", text=SETUP)
    lab.run("bridge", "fdb", "add", OTHER, "dev", "e0", "master", "static")
    with netns.inside(lab.home):
        opened = Netlink()
    with opened:
        yield opened


def _index(lab, name):
    return json.loads(lab.run("ip", "-j", "link", "show", name))[0]["ifindex"]


def test_neighbours_are_those_that_packets_are_sent_by(lab, netlink):
    found = [e for e in neighbours.neighbours(netlink) if not e[1].is_multicast]
    assert found == [(_index(lab, "br0"), IPv4Address("10.77.0.2"), PEER)]


def test_forwarding_tables_distinguish_a_ports_own_address_from_those_behind_it(lab, netlink):
    (own,) = (x["address"] for x in json.loads(lab.run("ip", "-j", "link", "show", "e0")))
    port = _index(lab, "e0")
    found = {e.mac: e for e in neighbours.forwarding(netlink) if e.port == port}
    assert found[own].own
    assert not found[OTHER].own
    assert {e.bridge for e in found.values()} == {_index(lab, "br0")}


def test_a_lookup_is_the_kernels(lab, netlink):
    index = _index(lab, "br0")

    def ask(dst, src=None):
        return fib.lookup(netlink, IPv4Address(dst), IPv4Address(src) if src else None)

    own, gateway = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
    assert ask("192.0.2.9") == fib.Found(
        oif=index, gateway=gateway, source=own, prefix="192.0.2.0/24"
    )
    near = ask("10.77.3.4")
    assert (near.oif, near.gateway, near.prefix) == (index, None, "10.77.0.0/16")
    assert ask("10.77.0.1").local
    lab.run("ip", "addr", "add", "203.0.113.1/32", "dev", "br0")
    assert ask("192.0.2.9", "203.0.113.1").gateway is None  # table 99, by the rule
    whys = {ask(f"198.51.{n}.1").why for n in (100, 101, 102)}
    assert whys == {"an unreachable route", "a prohibit route", "a blackhole route"}
    assert ask("8.8.8.8").why == "no route"


def test_routes_of_the_main_table_are_listed_with_those_that_refuse(lab, netlink):
    index = _index(lab, "br0")
    found = {str(e.dst): e for e in fib.entries(netlink)}
    assert found["192.0.2.0/24"] == fib.Entry(
        dst=IPv4Network("192.0.2.0/24"), oif=index, gateway=IPv4Address("10.77.0.2"),
        source=IPv4Address("10.77.0.1"), metric=7,
    )  # fmt: skip
    assert {dst: e.oif for dst, e in found.items()} == {
        "10.77.0.0/16": index, "192.0.2.0/24": index, "198.51.100.0/24": 0, "198.51.101.0/24": 0,
        "198.51.102.0/24": 0,
    }  # fmt: skip
    assert fib.rules(netlink) == 4
    lab.run("ip", "route", "add", "default", "via", "10.77.0.2")
    assert IPv4Network("0.0.0.0/0") in {e.dst for e in fib.entries(netlink)}


def test_sockets_that_take_ipv4_are_found(lab):
    with ExitStack() as opened, netns.inside(lab.home):

        def bound(family, kind, address, port, *, only=False):  # fmt: skip
            s = opened.enter_context(socket.socket(family, kind))
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            s.bind((address, port))
            return s

        bound(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 81).listen()
        bound(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 82)  # takes nothing: not listening
        bound(socket.AF_INET6, socket.SOCK_STREAM, "::", 83).listen()
        bound(socket.AF_INET6, socket.SOCK_STREAM, "::", 84, only=True).listen()
        bound(socket.AF_INET6, socket.SOCK_DGRAM, "::ffff:127.0.0.1", 85)
        lo = bound(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", 86)
        lo.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        found = {(w.proto, str(w.address), w.port, w.index) for w in sock_diag.waiting(lab.home)}
        assert found == {
            ("tcp", "127.0.0.1", 81, 0), ("tcp", "0.0.0.0", 83, 0),
            ("udp", "127.0.0.1", 85, 0), ("udp", "0.0.0.0", 86, 1),
        }  # fmt: skip
        assert holder("tcp", "127.0.0.1", 81).startswith("python")
        assert holder("tcp", "127.0.0.1", 82) == ""


def test_a_missing_namespace_is_an_error_in_a_line(lab):
    with pytest.raises(KernelError, match="no network namespace"):
        sock_diag.waiting(f"{lab.folder}/gone")
