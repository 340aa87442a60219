"""A peer with a session that says what is not so: it changes nothing of what others say."""

from __future__ import annotations

import random

import pytest

from plugins.weave import messages
from plugins.weave.core import Core
from plugins.weave.forwarding import Forwarding
from plugins.weave.identity import PeerId
from plugins.weave.membership import Status
from plugins.weave.messages import Ack, Heads, Manifest, Message, Pick, Push, Relay
from plugins.weave.record import Body, Kind
from plugins.weave.record import encode as encode_body
from plugins.weave.statements import Endpoint, Suspect, encode
from tests.simulation.checks import NETWORK, bounded
from tests.simulation.host import CRYPTO, Host
from tests.simulation.network import Clock, Network, Weather

MAC = b"\2\0\0\0\0\1"
ADDRESS = bytes((10, 2, 0, 1))


class Trio:
    """Three hosts that know each other: a victim, one who looks on, and the insider."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock, random.Random(1), Weather())
        addresses: dict[object, Host] = {}
        self.hosts = [
            Host(number, self.clock, self.network, 1, addresses)  # type: ignore[arg-type]
            for number in range(3)
        ]
        self.victim, self.other, self.insider = self.hosts
        self.received: list[bytes] = []
        for host in self.hosts:
            host.targets = [each.address for each in self.hosts if each is not host]
            host.start()
            host.watch = lambda host, output: self.received.extend(
                data for _, data in output.messages
            )
        self.clock.run(10)
        value = encode(Endpoint(NETWORK, MAC, (ADDRESS,), ("web",)))
        mesh = self.core(self.victim).mesh
        mesh.ourselves.put(Kind.ENDPOINT, b"web", value)
        self.victim.act()
        self.clock.run(15)

    def core(self, host: Host) -> Core:
        assert host.core is not None
        return host.core

    def forwarding(self) -> Forwarding:
        return self.core(self.other).mesh.forwarding

    def say(self, data: bytes | Message) -> None:
        """The insider to the one who looks on."""
        encoded = data if isinstance(data, bytes) else messages.encode(data)
        self.core(self.other).received(self.insider.me, encoded, self.other.now)
        self.other.act()

    def unharmed(self) -> None:
        self.clock.run(self.clock.now + 30)
        mesh = self.core(self.other).mesh
        assert self.forwarding().peer_of(NETWORK, MAC) == self.victim.me
        assert self.forwarding().mac_of(NETWORK, ADDRESS) == MAC
        assert mesh.membership.status(self.victim.me) is Status.ALIVE
        assert len(list(mesh.records.origins)) == 3
        roots = {self.core(host).mesh.tree.root for host in self.hosts}
        assert len(roots) == 1
        bounded(self.other)


@pytest.fixture
def trio() -> Trio:
    return Trio()


def forged(origin: PeerId, kind: Kind, key: bytes, value: bytes | None) -> bytes:
    """As if the origin had said it, signed with the insider's means."""
    body = encode_body(Body(origin, 1 << 60, kind, key, value, bytes(16)))
    return body + CRYPTO.sign(bytes(32), body)


def test_forged_records_are_nothing(trio: Trio) -> None:
    for value in (None, encode(Endpoint(NETWORK, MAC, (b"\12\2\0\7",)))):
        trio.say(Push((forged(trio.victim.me, Kind.ENDPOINT, b"web", value),)))
    accusation = forged(trio.victim.me, Kind.SUSPECT, trio.insider.me, encode(Suspect(99)))
    trio.say(Push((accusation,)))
    trio.unharmed()


def test_a_forged_manifest_and_false_heads_change_nothing(trio: Trio) -> None:
    mesh = trio.core(trio.other).mesh
    replica = mesh.records.replica(trio.victim.me)
    assert replica is not None
    items = b"".join(replica.items()[1:])
    trio.say(Manifest(trio.victim.me, replica.version, 0, 1, items))
    head = messages.Head(trio.victim.me, 1 << 60, bytes(16))
    trio.say(Heads(bytes((trio.victim.me[0],)), (head,)))
    trio.say(Pick(trio.victim.me, items))
    trio.say(Ack(1, bytes(16), True))
    trio.unharmed()


def test_a_removal_that_the_council_did_not_make_is_not_believed(trio: Trio) -> None:
    trio.core(trio.insider).mesh.remove(trio.victim.me)
    records = trio.core(trio.insider).mesh.records
    said = records.get(trio.insider.me, Kind.REMOVED, trio.victim.me)
    assert said is not None
    trio.say(Push((said.blob,)))
    trio.core(trio.insider).mesh.records.delete(Kind.REMOVED, trio.victim.me)
    trio.insider.act()
    trio.unharmed()


def test_a_relayed_datagram_says_nothing_by_itself(trio: Trio) -> None:
    for hops in (1, 16):
        for target in (trio.other.me, trio.victim.me, trio.insider.me, PeerId(bytes(16))):
            trio.say(Relay(trio.victim.me, target, hops, b"\5" + bytes(40)))
    trio.unharmed()


@pytest.mark.slow
def test_messages_that_were_changed_or_repeated_change_nothing(trio: Trio) -> None:
    draw = random.Random(1)
    said = list(trio.received)
    for _ in range(20_000):
        data = bytearray(draw.choice(said))
        for _ in range(draw.choice((0, 1, 1, 2, 8))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.2:
            del data[draw.randrange(len(data)) :]
        trio.say(bytes(data))
    trio.unharmed()
