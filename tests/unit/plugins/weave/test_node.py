"""Whole peers, with their sessions, on a network in memory."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from plugins.weave import identity
from plugins.weave.core import TABLES
from plugins.weave.crypto import NO_PASSWORD
from plugins.weave.events import Lost
from plugins.weave.identity import PeerId
from plugins.weave.membership import Status, StatusChanged
from plugins.weave.node import Node
from plugins.weave.ourselves import Settings
from plugins.weave.prefixes import Place, parse
from plugins.weave.record import Kind
from plugins.weave.requests import Allocated, Refused
from plugins.weave.statements import Endpoint, Network, encode
from plugins.weave.step import Address, Event, Relayed, Step
from plugins.weave.trust import Trust
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()
RANGE = parse("10.32.0.0/12")
NETWORK = b"net"


class Machine:
    """Does what steps say."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.address = Address(f"192.0.2.{number}", 6783)
        self.random = random.Random(number).randbytes
        self.identity = identity.make(CRYPTO, self.random)
        self.rows: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.events: list[Event] = []
        self.wake = float("inf")
        self.start()

    @property
    def me(self) -> PeerId:
        return self.identity.peer

    def start(self) -> None:
        settings = Settings(addresses=(self.address,), nickname=f"host{self.address.host[-1]}")
        self.node = Node(
            identity=self.identity, crypto=CRYPTO, random=self.random, settings=settings,
            psk=NO_PASSWORD, trust=Trust(False), boot=b"boot", now=self.wire.now,
        )  # fmt: skip
        self.do(self.node.start(self.rows, self.wire.now))

    def do(self, step: Step) -> None:
        for change in step.persist:
            if change.value is None:
                self.rows[change.table].pop(change.key, None)
            else:
                self.rows[change.table][change.key] = change.value
        for send in step.send:
            assert isinstance(send.to, Address)
            self.wire.send(self, send.to, send.datagram)
        self.events += step.events
        at = max(self.node.deadline(), self.wire.now)
        if at < self.wake:
            self.wake = at
            self.wire.at(at, lambda: self.tick(at))

    def tick(self, at: float) -> None:
        if at == self.wake:
            self.wake = float("inf")
            self.do(self.node.tick(self.wire.now))

    def connect(self, other: Machine) -> None:
        self.do(self.node.connect(other.address, self.wire.now))

    def status(self, other: Machine) -> Status | None:
        return self.node.mesh.membership.status(other.me)

    def endpoint(self, name: str, number: int) -> None:
        mac, address = b"\2\0\0\0\0" + bytes((number,)), bytes((10, 2, 0, number))
        value = encode(Endpoint(NETWORK, mac, (address,), (name,)))
        self.do(self.node.put(Kind.ENDPOINT, name.encode(), value, self.wire.now))


class Wire:
    """10 ms from everybody to everybody, but for pairs that are cut."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machines: dict[Address, Machine] = {}
        self.cut: set[frozenset[Address]] = set()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def machine(self, number: int) -> Machine:
        machine = Machine(self, number)
        self.machines[machine.address] = machine
        return machine

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._numbers), call))

    def send(self, source: Machine, to: Address, datagram: bytes) -> None:
        if frozenset((source.address, to)) not in self.cut:
            self.at(self.now + 0.01, lambda: self.arrive(source.address, to, datagram))

    def arrive(self, source: Address, to: Address, datagram: bytes) -> None:
        machine = self.machines.get(to)
        if machine is not None:
            machine.do(machine.node.receive(datagram, source, self.now))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call = heapq.heappop(self._queue)
            call()
        self.now = end


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_who_joins_finds_everybody_and_gets_addresses(wire: Wire) -> None:
    a, b, c = (wire.machine(number) for number in (1, 2, 3))
    a.do(a.node.found(RANGE, wire.now))
    b.connect(a)
    c.connect(b)
    wire.run(10)
    a.endpoint("web", 7)
    wire.run(1)
    for machine in (b, c):
        assert {machine.status(other) for other in (a, b, c)} == {Status.ALIVE}
        assert machine.node.forwarding.peer_of(NETWORK, b"\2\0\0\0\0\7") == a.me
        assert machine.node.names.entries()[0][1:] == ("10.2.0.7", a.me)
    _, step = c.node.do(lambda space: space.allocate(b"db", wire.now, wire.now + 20), wire.now)
    c.do(step)
    wire.run(20)
    given = [event for event in c.events if isinstance(event, Allocated)]
    assert [event.ident for event in given] == [b"db"]


@pytest.mark.parametrize("subnet", ["10.32.0.0/16", "192.168.7.0/24"])
def test_who_says_it_has_anothers_address_is_not_believed(wire: Wire, subnet: str) -> None:
    """The peer with the lower id says so, which would have it in a network without owners."""
    a, b, c = (wire.machine(number) for number in (1, 2, 3))
    a.do(a.node.found(RANGE, wire.now))
    b.connect(a)
    c.connect(a)
    wire.run(10)
    liar, victim = sorted((b, c), key=lambda each: each.me)
    place = Place(NETWORK, parse(subnet))
    for each in (a, b, c):
        statement = encode(Network("lane", 7, (subnet,)))
        each.do(each.node.put(Kind.NETWORK, NETWORK, statement, wire.now))
    call = victim.node.do(
        lambda space: space.allocate(b"x", wire.now, wire.now + 20, place=place), wire.now
    )
    victim.do(call[1])
    wire.run(20)
    given = [event for event in victim.events if isinstance(event, Allocated)]
    address = given[0].address.to_bytes(4, "big")
    for each, mac in ((liar, b"\2\0\0\0\0\1"), (victim, b"\2\0\0\0\0\2")):
        statement = encode(Endpoint(NETWORK, mac, (address,)))
        each.do(each.node.put(Kind.ENDPOINT, b"e", statement, wire.now))
    wire.run(5)
    for each in (a, b, c):
        assert each.node.forwarding.mac_of(NETWORK, address) == b"\2\0\0\0\0\2"
        assert [found.loser[0] for found in each.node.forwarding.conflicts()] == [liar.me]


def test_peers_are_called_by_their_nicknames(wire: Wire) -> None:
    a, b = (wire.machine(number) for number in (1, 2))
    a.do(a.node.found(RANGE, wire.now))
    b.connect(a)
    wire.run(10)
    for each in (a, b):
        _, step = each.node.do(
            lambda space: space.claim(b"x", RANGE.first + 5, wire.now, wire.now + 20), wire.now
        )
        each.do(step)
        wire.run(20)
    refused = [event for event in b.events if isinstance(event, Refused)]
    assert [event.text for event in refused] == ["10.32.0.5 is in use at host1"]


def test_two_that_cannot_reach_each_other_talk_by_a_third(wire: Wire) -> None:
    a, b, c = (wire.machine(number) for number in (1, 2, 3))
    wire.cut.add(frozenset((a.address, c.address)))
    a.do(a.node.found(RANGE, wire.now))
    b.connect(a)
    c.connect(b)
    wire.run(40)
    assert a.status(c) is Status.ALIVE
    assert a.node.mesh.connector.sessions[c.me] == Relayed(c.me)
    assert c.node.mesh.connector.sessions[a.me] == Relayed(a.me)
    wire.cut.clear()
    wire.run(120)
    assert a.node.mesh.connector.sessions[c.me] == c.address


def test_who_is_gone_is_noticed_and_who_comes_back_is_known(wire: Wire) -> None:
    a, b, c = (wire.machine(number) for number in (1, 2, 3))
    b.connect(a)
    c.connect(a)
    wire.run(10)
    c.endpoint("web", 7)
    wire.run(1)
    del wire.machines[c.address]
    wire.run(15)
    assert {a.status(c), b.status(c)} == {Status.DEAD}
    assert a.node.forwarding.peer_of(NETWORK, b"\2\0\0\0\0\7") is None
    wire.machines[c.address] = c
    c.start()
    c.connect(a)
    wire.run(20)
    assert {a.status(c), b.status(c), c.status(c)} == {Status.ALIVE}
    assert b.node.forwarding.peer_of(NETWORK, b"\2\0\0\0\0\7") == c.me


def test_a_removed_peer_gets_no_session_any_more(wire: Wire) -> None:
    a, b, c = (wire.machine(number) for number in (1, 2, 3))
    a.do(a.node.found(RANGE, wire.now))
    b.connect(a)
    c.connect(a)
    wire.run(10)
    del wire.machines[c.address]
    wire.run(20)
    a.do(a.node.do(lambda s: s.remove_peer(c.me, wire.now, wire.now + 20), wire.now)[1])
    wire.run(10)
    wire.machines[c.address] = c
    c.start()
    c.connect(b)
    wire.run(20)
    assert {a.status(c), b.status(c)} == {None}
    assert c.node.space.removed_by == a.me
    assert c.node.sessions.peers() == ()


def test_who_comes_back_at_once_is_not_accused_of_what_was_missed_meanwhile(wire: Wire) -> None:
    a, b = wire.machine(1), wire.machine(2)
    b.connect(a)
    wire.run(10)
    for pause in (0.3, 0.8, 1.3):
        del wire.machines[b.address]
        wire.run(pause)
        wire.machines[b.address] = b
        b.start()
        b.connect(a)
        a.events.clear()
        wire.run(20)
        assert [e for e in a.events if isinstance(e, StatusChanged)] == []
        assert [e for e in a.events if isinstance(e, Lost)] == []
