"""A network in memory for `plugins.weave.sessions`: what is sent is known, and can be spoilt."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from plugins.weave import identity
from plugins.weave.crypto import Aead, Crypto
from plugins.weave.events import Established, KeysAdded, KeysUsed, Received
from plugins.weave.handshake import Party
from plugins.weave.identity import Identity, PeerId
from plugins.weave.sessions import Sessions
from plugins.weave.step import Address, Event, Relayed, Send, Step
from plugins.weave.trust import Subnet, Trust
from tests.simulation.crypto import FakeCrypto

T = TypeVar("T", bound=Event)


class Logged:
    """`Crypto` that notes every nonce used, and how many DH operations there were."""

    def __init__(self, crypto: Crypto) -> None:
        self._crypto = crypto
        self.nonces: dict[tuple[bytes, int], bytes] = {}
        self.exchanges = 0

    def aead(self, key: bytes) -> Aead:
        return _LoggedAead(self, key, self._crypto.aead(key))

    def shared(self, private: bytes, public: bytes) -> bytes | None:
        self.exchanges += 1
        return self._crypto.shared(private, public)

    def exchange_public(self, private: bytes) -> bytes:
        return self._crypto.exchange_public(private)

    def signing_public(self, private: bytes) -> bytes:
        return self._crypto.signing_public(private)

    def sign(self, private: bytes, message: bytes) -> bytes:
        return self._crypto.sign(private, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return self._crypto.verify(public, message, signature)

    def stretch(self, password: str) -> bytes:
        return self._crypto.stretch(password)


class _LoggedAead:
    def __init__(self, log: Logged, key: bytes, aead: Aead) -> None:
        self._log, self._key, self._aead = log, key, aead

    def seal(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        sealed = self._aead.seal(counter, plaintext, associated)
        before = self._log.nonces.setdefault((self._key, counter), sealed)
        assert before == sealed, "a nonce was used twice under one key"
        return sealed

    def open(self, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        return self._aead.open(counter, sealed, associated)


@dataclass
class Peer:
    """One node with its sessions, and all that they told."""

    address: Address
    identity: Identity
    sessions: Sessions
    events: list[Event] = field(default_factory=list)

    @property
    def id(self) -> PeerId:
        return self.identity.peer

    def events_of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def received(self) -> list[bytes]:
        return [event.message for event in self.events_of(Received)]


Spoil = Callable[[Address, Address, bytes], list[tuple[float, bytes]]]


class Network:
    """Datagrams take `delay` seconds, unless `spoil` says otherwise: [(delay, bytes), ...]."""

    def __init__(self, crypto: Crypto | None = None, *, seed: int = 0) -> None:
        self.crypto = Logged(crypto or FakeCrypto())
        self.random = random.Random(seed)
        self.now = 1000.0
        self.delay = 0.01
        self.spoil: Spoil | None = None
        self.wire: list[tuple[Address, Address, bytes]] = []  # all that was sent: from, to, bytes
        self.relayed = 0  # datagrams that went to a `Relayed`
        self._peers: dict[Address, Peer] = {}
        self._nat: dict[Address, Address] = {}
        self._flying: list[tuple[float, int, Address, Address, bytes]] = []
        self._number = itertools.count()

    def peer(
        self,
        number: int,
        *,
        password: str = "secret",
        trusted: tuple[Subnet, ...] = (),
        who: Identity | None = None,
        features: int = 0,
    ) -> Peer:
        """A new one at 192.0.2.NUMBER; in the place of who was there."""
        address = Address(f"192.0.2.{number}", 6783)
        who = who or identity.make(self.crypto, self.random.randbytes)
        party = Party(
            crypto=self.crypto,
            random=self.random.randbytes,
            us=who,
            psk=self.crypto.stretch(password),
            instance=self.random.randbytes(8),
            features=features,
        )
        sessions = Sessions(party, Trust(bool(password), trusted), self.now)
        made = self._peers[address] = Peer(address, who, sessions)
        return made

    def leave(self, peer: Peer) -> None:
        """It is there no more: a crash."""
        self._peers.pop(peer.address, None)

    def translate(self, inner: Address, outer: Address) -> None:
        """What comes from `inner` is seen to come from `outer`, which leads back there (a NAT)."""
        self._nat = {i: o for i, o in self._nat.items() if i != inner} | {inner: outer}

    def do(self, peer: Peer, step: Step) -> None:
        peer.events += step.events
        for send in step.send:
            self._send(peer, send)

    def connect(self, one: Peer, other: Peer, *, known: bool = False) -> None:
        keys = other.identity.public if known else None
        self.do(one, one.sessions.connect(other.address, self.now, keys))

    def say(self, one: Peer, other: Peer, message: bytes) -> None:
        self.do(one, one.sessions.send(other.id, message, self.now))

    def inject(self, source: Address, to: Address, datagram: bytes) -> None:
        """A datagram of anybody, at once."""
        self._arrive(source, to, datagram)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self._next()) <= end:
            self.now = max(self.now, due)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, source, to, datagram = heapq.heappop(self._flying)
                self._arrive(source, to, datagram)
            for peer in list(self._peers.values()):
                if peer.sessions.deadline() <= self.now:
                    self.do(peer, peer.sessions.tick(self.now))
                    after = peer.sessions.deadline()
                    assert after > self.now, "a deadline that a tick does not meet"
        self.now = end

    def _next(self) -> float:
        timers = [peer.sessions.deadline() for peer in self._peers.values()]
        return min([*timers, *(flying[0] for flying in self._flying[:1])], default=float("inf"))

    def _send(self, peer: Peer, send: Send) -> None:
        if isinstance(send.to, Relayed):
            self._relay(peer, send.to, send.datagram)
            return
        source = self._nat.get(peer.address, peer.address)
        self.wire.append((source, send.to, send.datagram))
        copies = [(self.delay, send.datagram)]
        if self.spoil:
            copies = self.spoil(source, send.to, send.datagram)
        for delay, datagram in copies:
            flight = (self.now + delay, next(self._number), source, send.to, datagram)
            heapq.heappush(self._flying, flight)

    def _relay(self, peer: Peer, to: Relayed, datagram: bytes) -> None:
        """At once; who passes it on is another module's matter."""
        self.relayed += 1
        for target in list(self._peers.values()):
            if target.id == to.peer:
                step = target.sessions.receive(datagram, Relayed(peer.id), self.now)
                self.do(target, step)

    def _arrive(self, source: Address, to: Address, datagram: bytes) -> None:
        back = {outer: inner for inner, outer in self._nat.items()}
        target = self._peers.get(back.get(to, to))
        if target:
            self.do(target, target.sessions.receive(datagram, source, self.now))


def joined(network: Network, one: Peer, other: Peer) -> bool:
    """Whether both have a session with each other, and use the same keys."""
    keys = {}
    for peer, far in ((one, other), (other, one)):
        used = [event for event in peer.events_of(KeysUsed) if event.peer == far.id]
        added = {event.keys.index: event.keys for event in peer.events_of(KeysAdded)}
        if far.id not in peer.sessions or not used:
            return False
        keys[peer.id] = added[used[-1].index]
    mine, theirs = keys[one.id], keys[other.id]
    return (mine.sending, mine.receiving) == (theirs.receiving, theirs.sending)


def established(peer: Peer) -> dict[PeerId, int]:
    """How often with whom."""
    counts: defaultdict[PeerId, int] = defaultdict(int)
    for event in peer.events_of(Established):
        counts[event.peer] += 1
    return dict(counts)


def lossy(network: Network, loss: float, *, duplicate: float = 0, late: float = 0) -> Spoil:
    def spoil(source: Address, to: Address, datagram: bytes) -> list[tuple[float, bytes]]:
        draw = network.random.random
        copies = []
        for _ in range(2 if draw() < duplicate else 1):
            delay = network.delay * (1 + 50 * draw()) if draw() < late else network.delay
            if draw() >= loss:
                copies.append((delay, datagram))
        return copies

    return spoil
