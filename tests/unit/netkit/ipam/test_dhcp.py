"""The DHCP client against a minimal server and a simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.ipam.dhcp import message as wire
from netkit.ipam.dhcp.client import Client, Lease, Stage
from netkit.ipam.dhcp.message import (
    ACK,
    ADDRESS,
    ANSWER,
    DECLINE,
    DISCOVER,
    NAK,
    OFFER,
    RELEASE,
    REQUEST,
    Datagram,
    Message,
    decode,
    encode,
    frame,
    parse,
)

pytestmark = pytest.mark.slow

MAC, SERVER, SERVER_MAC = "02:00:00:00:00:07", IPv4Address("10.0.0.1"), "02:00:00:00:00:01"


@dataclass
class Server:
    """Answers as configured; ignores the first `silent` messages."""

    seconds: int = 1000
    gives: str = "10.0.0.77"
    silent: int = 0
    refuse: bool = False
    received: list[Datagram] = field(default_factory=list)

    def answer(self, d: Datagram) -> Datagram | None:
        self.received.append(d)
        if self.silent:
            self.silent -= 1
            return None
        kind = {DISCOVER: OFFER, REQUEST: NAK if self.refuse else ACK}.get(d.message.kind)
        if kind is None:
            return None
        options = {
            wire.KIND: bytes((kind,)),
            wire.SERVER_ID: SERVER.packed,
            wire.SECONDS: self.seconds.to_bytes(4, "big"),
            wire.MASK: bytes((255, 255, 255, 0)),
            wire.ROUTER: SERVER.packed,
        }
        m = Message(
            op=ANSWER, xid=d.message.xid, mac=d.message.mac, options=options,
            yiaddr=IPv4Address(0 if kind == NAK else IPv4Address(self.gives)),
        )  # fmt: skip
        return Datagram(message=m, source=SERVER_MAC, source_ip=SERVER)

    @property
    def kinds(self) -> list[int]:
        return [d.message.kind for d in self.received]


def client(now: float = 0.0, *, requested: str = "", lease: Lease | None = None) -> Client:
    return Client(
        MAC, hostname="web", now=now, random=lambda bits: 7, requested=requested, lease=lease
    )


def play(
    c: Client, server: Server, now: float, until: float, done: Callable[[], bool] = lambda: False
) -> float:
    """Advance the time from deadline to deadline; return the time of the end."""
    while now < until and not done():
        for d in c.to_wire(now):
            if (reply := server.answer(d)) is not None:
                c.from_wire(reply, now)
        due = c.deadline()
        if due is None:
            break
        now = max(now, due)
    return now


def bound(server: Server) -> Client:
    c = client()
    play(c, server, 0, 60, lambda: c.stage is Stage.BOUND)
    return c


def test_a_lease_is_what_the_server_offered() -> None:
    server = Server()
    c = bound(server)
    assert c.lease == Lease(
        address="10.0.0.77/24", router="10.0.0.1", server="10.0.0.1", server_mac=SERVER_MAC,
        until=1000, renew=500, rebind=875,
    )  # fmt: skip
    assert server.kinds == [DISCOVER, REQUEST]
    assert all(d.message.flags == wire.BROADCAST for d in server.received)
    assert server.received[1].message.options[ADDRESS] == IPv4Address("10.0.0.77").packed
    assert server.received[0].message.options[wire.HOSTNAME] == b"web"


def test_who_is_not_answered_asks_again_ever_more_slowly() -> None:
    server = Server(silent=99)
    assert play(client(), server, 0, 60) >= 60
    assert set(server.kinds) == {DISCOVER}
    assert 8 <= len(server.received) <= 14


def test_a_server_that_refuses_is_asked_anew() -> None:
    server = Server(refuse=True)
    c = client()
    play(c, server, 0, 5)
    assert c.lease is None
    server.refuse = False
    play(c, server, 5, 30, lambda: c.stage is Stage.BOUND)
    assert c.stage is Stage.BOUND


def test_it_is_renewed_at_half_time_by_a_message_to_the_server_alone() -> None:
    server = Server()
    c = bound(server)
    server.received.clear()
    assert c.to_wire(499) == []
    play(c, server, 500, 501)
    assert server.kinds == [REQUEST]
    assert (server.received[0].to, str(server.received[0].to_ip)) == (SERVER_MAC, "10.0.0.1")
    assert str(server.received[0].message.ciaddr) == "10.0.0.77"
    assert ADDRESS not in server.received[0].message.options
    assert c.lease is not None
    assert (c.stage, c.lease.until) == (Stage.BOUND, 1500)


def test_when_the_server_is_silent_everybody_is_asked_and_then_it_is_over() -> None:
    server = Server()
    c = bound(server)
    server.received.clear()
    server.silent = 99
    end = play(c, server, 500, 5000)
    assert (c.stage, end) == (Stage.LOST, 1000)
    assert [d.to == wire.EVERYBODY for d in server.received] == sorted(
        d.to == wire.EVERYBODY for d in server.received
    )
    assert {d.to for d in server.received} == {SERVER_MAC, wire.EVERYBODY}
    assert len(server.received) <= 24


def test_a_short_lease_is_asked_for_again_before_it_ends() -> None:
    server = Server(seconds=10)
    c = bound(server)
    server.silent = 1
    play(c, server, 5, 9, lambda: c.lease is not None and c.lease.until > 10)
    assert c.stage is Stage.BOUND


def test_a_stranger_cannot_end_a_lease_and_no_server_can_change_it() -> None:
    c = bound(Server())
    (request,) = c.to_wire(500)
    stranger = IPv4Address("10.0.0.66")
    refusal = Server(refuse=True).answer(request)
    assert refusal is not None
    options = {**refusal.message.options, wire.SERVER_ID: stranger.packed}
    c.from_wire(replace(refusal, message=replace(refusal.message, options=options)), 500)
    assert c.stage is Stage.RENEWING
    other = Server(gives="10.0.0.99").answer(request)
    assert other is not None
    c.from_wire(other, 500)
    assert c.lease is not None
    assert c.lease.address == "10.0.0.77/24"
    c.from_wire(refusal, 500)
    assert c.stage is Stage.LOST


def test_answers_to_other_clients_change_nothing() -> None:
    c = client()
    (d,) = c.to_wire(0)
    offer = Server().answer(d)
    assert offer is not None
    for m in (
        replace(offer.message, xid=8),
        replace(offer.message, mac="02:00:00:00:00:08"),
        replace(offer.message, op=1),
    ):
        c.from_wire(replace(offer, message=m), 0)
        assert c.stage is Stage.SELECTING


def test_a_lease_that_was_kept_goes_on_where_it_was() -> None:
    kept = bound(Server()).lease
    assert kept is not None
    server = Server()
    c = client(700, lease=kept)
    play(c, server, 700, 701)
    assert server.kinds == [REQUEST]
    assert c.lease is not None
    assert c.lease.until == 1700


def test_a_lease_without_an_end_is_never_renewed() -> None:
    c = bound(Server(seconds=0xFFFFFFFF))
    assert c.deadline() is None


def test_good_byes_name_the_address_and_go_where_they_should() -> None:
    c = bound(Server())
    bye, no = c.release(), c.decline()
    assert bye is not None
    assert no is not None
    assert (bye.message.kind, bye.to, str(bye.message.ciaddr)) == (RELEASE, SERVER_MAC, "10.0.0.77")
    assert (no.message.kind, no.to, int(no.source_ip)) == (DECLINE, wire.EVERYBODY, 0)
    assert no.message.options[ADDRESS] == IPv4Address("10.0.0.77").packed
    assert client().release() is None


@given(st.binary(max_size=600))
def test_no_bytes_from_the_wire_do_more_than_nothing(data: bytes) -> None:
    for raw in (data, encode(Message(op=2, xid=7, mac=MAC))[:240] + data):
        decode(raw)
        parse(raw)
        m = decode(raw)
        if m is not None:
            c = client()
            c.to_wire(0)
            c.from_wire(Datagram(message=m, source=SERVER_MAC), 0)


def test_frames_are_what_another_implementation_reads() -> None:
    scapy = pytest.importorskip("scapy.all")
    (d,) = client(requested="10.0.0.5").to_wire(0)
    read = scapy.Ether(frame(d))
    assert read[scapy.UDP].dport == 67
    assert read[scapy.IP].dst == "255.255.255.255"
    del read[scapy.IP].chksum
    assert bytes(scapy.Ether(bytes(read))) == frame(d)
    read_options = dict(o[:2] for o in read[scapy.DHCP].options if isinstance(o, tuple))
    assert (read_options["message-type"], read_options["requested_addr"]) == (1, "10.0.0.5")
    answer = (
        scapy.Ether(src=SERVER_MAC, dst=MAC)
        / scapy.IP(src="10.0.0.1", dst="10.0.0.5")
        / scapy.UDP(sport=67, dport=68)
        / scapy.BOOTP(op=2, xid=7, yiaddr="10.0.0.5", chaddr=bytes.fromhex(MAC.replace(":", "")))
        / scapy.DHCP(options=[("message-type", "offer"), ("lease_time", 600), "end"])
    )
    received = parse(bytes(answer))
    assert received is not None
    assert (received.message.kind, received.message.number(wire.SECONDS)) == (OFFER, 600)
    assert (received.source, received.message.mac, str(received.message.yiaddr)) == (
        SERVER_MAC, MAC, "10.0.0.5",
    )  # fmt: skip
