"""Flows of datagrams follow the current rules; flows of other ports go on undisturbed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest

from netkit.errors import KernelError
from netkit.kernel import conntrack, netns
from netkit.kernel.conntrack import Published
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import Addr, Link, Netns, Peer, Route, Sysctl
from netkit.reconcile.plan import Op
from tests.netns.conftest import NET, rule

pytestmark = pytest.mark.root
both = pytest.mark.parametrize("variant", ["nft", "legacy"])
LAN = "192.0.2.1"  # the host's address on it; 192.0.2.9 is the client's


def _lan(lab):
    ns = lab.ns("client")
    eth0 = ip_interface("192.0.2.9/24")
    return [
        Netns(path=ns, owner=NET),
        Link(name="lan0", kind="veth", peer=Peer(ns=ns, name="eth0"), owner=NET),
        Addr(dev="lan0", address=ip_interface(f"{LAN}/24"), owner=NET),
        Addr(dev="eth0", address=eth0, ns=ns, via="lan0", owner=NET),
        Route(dst=ip_network("0.0.0.0/0"), dev="eth0", ns=ns, gateway=ip_address(LAN), via="lan0",
              owner=NET, depends_on=(("addr", ns, "eth0", str(eth0)),)),
        Sysctl(name="net/ipv4/ip_forward", value="1", owner=NET),
    ]  # fmt: skip


def _publish(host_port, n, port=53, proto="udp"):
    to = f"10.77.0.{2 + n}:{port}"
    match = f"-p {proto} -m addrtype --dst-type LOCAL -m {proto} --dport {host_port}"
    return rule("nat", "PREROUTING", f"{match} -j DNAT --to-destination {to}")


class Servers:
    """In each container a server that answers any datagram with its name."""

    def __init__(self, lab):
        self._lab = lab
        self._over = threading.Event()
        self._threads = []

    def start(self, n, name, port=53):
        with netns.inside(self._lab.ns(f"c{n}")):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", port))
        s.settimeout(0.1)
        self._threads.append(threading.Thread(target=self._serve, args=(s, name.encode())))
        self._threads[-1].start()

    def _serve(self, s, name):
        with s:
            while not self._over.is_set():
                with contextlib.suppress(OSError):
                    s.sendto(name, s.recvfrom(64)[1])

    def stop(self):
        self._over.set()
        for t in self._threads:
            t.join()


@pytest.fixture
def servers(lab):
    running = Servers(lab)
    yield running
    running.stop()


class Client:
    """A client with one source port: all its datagrams are one flow."""

    def __init__(self, lab, port, to=LAN, source=4711):
        with netns.inside(lab.ns("client")):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", source))
        self._to = (to, port)

    def ask(self, tries=5):
        """Return the name of the server that answers; "" for no answer."""
        self._socket.settimeout(0.3)
        for _ in range(tries):
            self._socket.sendto(b"?", self._to)
            try:
                return self._socket.recvfrom(64)[0].decode()
            except (TimeoutError, ConnectionRefusedError):
                continue
        return ""


@pytest.fixture
def client(lab):
    made = []

    def connect(port, **how):
        made.append(Client(lab, port, **how))
        return made[-1]

    yield connect
    for c in made:
        c._socket.close()


def _flows(lab, proto=17):
    with Session(lab.home, Tally()) as session:
        found = list(conntrack._flows(session.nftables(), proto))
    return sorted((str(f.dst), f.dport, str(f.source), f.sport) for f in found)


@both
def test_a_client_that_keeps_sending_reaches_who_has_the_port_now(lab, servers, client, variant):
    """The first container was removed, and its address belongs to one that publishes nothing."""
    host = lab.host(variant)
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), *lab.container(2))
    servers.start(1, "first")
    servers.start(2, "second")
    asking = client(5353)
    first, second = _publish(5353, 1), _publish(5353, 2)
    lab.make(host, first)
    assert asking.ask() == "first"
    lab.drop(host, first, *lab.container(1))
    lab.make(host, *lab.container(1))
    servers.start(1, "stranger")
    assert asking.ask(tries=1) == ""
    lab.make(host, second)
    assert asking.ask() == "second"


def test_an_owner_that_changes_in_one_step_is_followed(lab, servers, client):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), *lab.container(2))
    servers.start(1, "first")
    servers.start(2, "second")
    first, second = _publish(5353, 1), _publish(5353, 2)
    lab.make(host, first)
    asking = client(5353)
    assert asking.ask() == "first"
    host.apply([Op(None, second), Op(first, None)])
    assert asking.ask() == "second"


def test_who_sent_before_the_port_was_published_is_answered_once_it_is(lab, servers, client):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), _publish(9, 1))
    servers.start(1, "first")
    asking = client(5353)
    assert asking.ask(tries=2) == ""
    assert (LAN, 5353, LAN, 5353) in _flows(lab)
    lab.make(host, _publish(5353, 1))
    assert asking.ask() == "first"


def test_flows_of_other_ports_are_not_deleted(lab, servers, client):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), *lab.container(2))
    for n, name in ((1, "first"), (2, "second")):
        for port in (53, 54, 5353):
            servers.start(n, name, port)
    mine, foreign = _publish(5353, 1), [_publish(5354, 1, 54), _publish(5355, 2)]
    lab.make(host, mine, *foreign)
    routed = client(5353, to="10.77.0.4", source=4714)  # through us, to the same number
    assert client(5353).ask() == "first"
    assert client(5354, source=4712).ask() == "first"
    assert client(5355, source=4713).ask() == "second"
    assert routed.ask() == "second"
    before = _flows(lab)
    assert len(before) == 4
    lab.drop(host, mine)
    assert _flows(lab) == [f for f in before if f != (LAN, 5353, "10.77.0.3", 53)]


def test_a_port_of_one_address_leaves_the_same_port_of_another_alone(lab, servers, client):
    host = lab.host()
    second = Addr(dev="lan0", address=ip_interface("192.0.2.2/24"), owner=NET)
    lab.make(host, *lab.bridge(), *_lan(lab), second, *lab.container(1), *lab.container(2))
    servers.start(1, "first")
    servers.start(2, "second")
    of = [
        rule("nat", "PREROUTING", f"-d 192.0.2.{n}/32 -p udp -m udp --dport 5353 "
             f"-j DNAT --to-destination 10.77.0.{2 + n}:53") for n in (1, 2)
    ]  # fmt: skip
    lab.make(host, *of)
    assert client(5353).ask() == "first"
    assert client(5353, to="192.0.2.2", source=4712).ask() == "second"
    lab.drop(host, of[0])
    assert _flows(lab) == [("192.0.2.2", 5353, "10.77.0.4", 53)]


def test_forgetting_twice_is_fine_and_tcp_is_left_alone(lab, servers, client):
    host = lab.host()
    tcp = _publish(5353, 1, proto="tcp")
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), _publish(5353, 1), tcp)
    servers.start(1, "first")
    with netns.inside(lab.ns("c1")):
        listening = socket.create_server(("0.0.0.0", 53))
    with netns.inside(lab.ns("client")):
        connected = socket.create_connection((LAN, 5353), timeout=30)
    assert client(5353).ask() == "first"
    port = Published(
        proto="udp", at=None, ports=(5353, 5353), address=IPv4Address("10.77.0.3"), to=(53, 53)
    )
    with Session(lab.home, Tally()) as session:
        assert [conntrack.forget(session, [port]) for _ in range(2)] == [1, 0]
    assert _flows(lab) == []
    lab.drop(host, tcp)
    assert _flows(lab, proto=6) == [(LAN, 5353, "10.77.0.3", 53)]
    connected.close()
    listening.close()


def test_sctp_associations_are_forgotten_as_well(lab, client):
    """No SCTP sockets needed: an INIT chunk is enough for a flow (RFC 9260, 3.3.2)."""
    host = lab.host()
    port = _publish(5353, 1, proto="sctp")
    checksums = Sysctl(name="net/netfilter/nf_conntrack_checksum", value="0", owner=NET)
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), port)
    lab.make(host, checksums)
    with netns.inside(lab.ns("client")):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    header = struct.pack(">HHII", 4711, 5353, 0, 0)
    raw.sendto(header + struct.pack(">BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1), (LAN, 0))
    raw.close()
    until = time.monotonic() + 60
    while not _flows(lab, 132) and time.monotonic() < until:
        time.sleep(0.02)
    assert _flows(lab, 132) == [(LAN, 5353, "10.77.0.3", 53)]
    lab.drop(host, port)
    assert _flows(lab, 132) == []


def test_many_flows_are_forgotten(lab, servers, client):
    host = lab.host()
    lab.make(host, *lab.bridge(), *_lan(lab), *lab.container(1), _publish(5353, 1))
    with netns.inside(lab.ns("client")):
        for i in range(3000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("0.0.0.0", 10000 + i))
                s.sendto(b"?", (LAN, 5353))
    assert len(_flows(lab)) > 2500
    lab.drop(host, _publish(5353, 1))
    assert _flows(lab) == []


def test_a_kernel_that_will_not_forget_is_reported_and_the_rules_stand(lab, monkeypatch, caplog):
    def refuse(*_):
        raise KernelError("no such thing")

    monkeypatch.setattr(conntrack, "forget", refuse)
    host = lab.host()
    lab.make(host, _publish(5353, 1))
    assert "5353" in lab.run("iptables-nft-save", "-t", "nat")
    assert "for some minutes: no such thing" in caplog.text
