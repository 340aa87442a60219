"""A peer among others, without its sessions: records, who is there, whom to talk to, and the views.

Below it is something that carries messages between authenticated peers, which reports
`established`, `lost` and `received`, and does what `Output` asks: connect, send, end a session.
After whatever is called `take` has to follow: it brings everything up to date and hands out what is
to be done, rows first.  What is said of the host (endpoints, networks, names) goes to `ourselves`,
datagrams for peers that cannot be reached to `relays`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from plugins.weave import limits, messages
from plugins.weave.antientropy import AntiEntropy
from plugins.weave.connector import Connector, outside
from plugins.weave.crypto import Crypto, Random
from plugins.weave.forwarding import Forwarding
from plugins.weave.identity import Identity, PeerId, PublicKeys
from plugins.weave.membership import Membership, Status, StatusChanged
from plugins.weave.messages import Ack, Hello, Message, Ping, PingRequest, Reached, Relay
from plugins.weave.names import Names
from plugins.weave.neighbourhood import Neighbourhood
from plugins.weave.news import News
from plugins.weave.ourselves import Ourselves, Settings
from plugins.weave.output import Output
from plugins.weave.probing import Prober
from plugins.weave.record import Kind, Record
from plugins.weave.records import Records
from plugins.weave.relays import Relays
from plugins.weave.routes import Routes
from plugins.weave.step import Address, Relayed, Where
from plugins.weave.taken import RecordChange, Recovered
from plugins.weave.tree import Tree
from plugins.weave.wire import WireError


class Mesh:
    """See above.  `now` is in seconds and never goes back."""

    def __init__(
        self,
        identity: Identity,
        crypto: Crypto,
        random: Random,
        settings: Settings,
        believes: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        """`believes`: whether a record of kind REMOVED is rightly issued."""
        self.me = identity.peer
        self._settings = settings
        self._now, self._changed = 0.0, -inf
        self._out = Output()
        self._near = Neighbourhood(self.me, discovery=settings.discovery)
        self._from: PeerId | None = None
        self.records = Records(identity, crypto, random)
        self.tree = Tree(self.records, self._counts)
        self.ourselves = Ourselves(identity, self.records, settings, random)
        self.membership = Membership(self.records, self.ourselves.contradict, believes)
        self.routes = Routes(self.me)
        self.names = Names(self._visible, self.me)
        self.forwarding = Forwarding(self._visible)
        self.connector = Connector(self._candidates, self._unreached, random)
        self.relays = Relays(self.routes, self._send, self._arrived)
        self._news = News(self._send, self.routes.passed_on, random)
        self._entropy = AntiEntropy(self.records, self.tree, self._send)
        self._prober = Prober(self._ping, self._send, self._failed, random)

    # Life

    def start(
        self,
        now: float,
        blobs: Iterable[bytes] = (),
        below: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Once, before all else: with what the database has (`Records.load`)."""
        self._now = now
        self.records.load(blobs, below)
        self.ourselves.start()

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min(
            self._news.deadline(), self.ourselves.deadline(), self._prober.deadline(),
            self.connector.deadline(), self.membership.deadline(),
        )  # fmt: skip

    def tick(self, now: float) -> None:
        self._now = now
        self.membership.tick(now)
        self._prober.tick(now, self._near.peers)
        self._out.dial += self.connector.tick(now)
        self._news.tick(now, self._near.peers)
        self.ourselves.tick(now)

    @property
    def busy(self) -> bool:
        """Whether `take` has something."""
        out = self._out
        waiting = out.messages or out.hang or out.relayed
        return bool(waiting or self._near.stale or self.records.changed)

    def take(self) -> Output:
        """What is to be done since the last call."""
        while self._absorb() or self._near.stale:
            if self._near.stale:
                self._look_around()
        out, self._out = self._out, Output()
        return out

    # What the layer below reports

    def established(self, keys: PublicKeys, where: Where, now: float) -> None:
        self._now = now
        peer = keys.peer
        if self.records.refused(peer) or peer == self.me:
            self._out.hang.append(peer)
            return
        self._near.open(peer, now)
        self._prober.established(peer)
        self.connector.established(peer, where, now)
        self._send(peer, Hello(where if isinstance(where, Address) else None))
        if self.me < peer:
            self._entropy.begin(peer)

    def moved(self, peer: PeerId, where: Where, now: float) -> None:
        """What is sent to a peer goes to another place from now on."""
        self._now = now
        if peer in self._near:
            self.connector.established(peer, where, now)
            self._near.moved()
            self._send(peer, Hello(where if isinstance(where, Address) else None))

    def answered(self, peer: PeerId, where: Where) -> None:
        """Who is there is a peer that we have a session with already."""
        if peer in self._near and isinstance(where, Address):
            self.connector.answered(peer, where)

    def lost(self, peer: PeerId, now: float) -> None:
        self._now = now
        if self._near.close(peer):
            self._entropy.end(peer)
            self.connector.lost(peer, now, wanted=peer in self._near.wanted)

    def failed(self, where: Where, now: float, *, itself: bool = False) -> None:
        """An attempt to connect came to nothing; `itself`: it reached ourselves."""
        if itself and isinstance(where, Address):
            self.connector.itself(where)

    def received(self, peer: PeerId, data: bytes, now: float) -> None:
        """A message of a peer that there is a session with."""
        self._now = now
        if peer not in self._near:
            return
        try:
            message = messages.decode(data)
        except WireError:
            return
        self._from = peer
        match message:
            case Ping():
                self._near.note_keep(peer, message.keep)
                self._send(peer, Ack(message.nonce, self.tree.root, self._keeps(peer)))
                self._entropy.push(peer, self.membership.accusations(peer))
            case Ack():
                self._near.note_keep(peer, message.keep)
                self._prober.answered(peer, message.nonce)
                self._compare(peer, message.root)
            case PingRequest():
                if message.target in self._near:
                    self._prober.asked(peer, message, now)
            case Reached():
                useless = self._prober.reached(message.nonce)
                if useless is not None:
                    self._hang(useless)
            case Hello():
                if message.seen is not None:
                    self.ourselves.seen(Address(*message.seen), now)
            case Relay():
                self.relays.received(peer, message)
            case _:
                self._entropy.received(peer, message)
                while self._absorb():
                    pass
        self._from = None

    # Commands

    def connect(self, where: Address, now: float) -> None:
        """Add a target."""
        self.connector.target(where, now)

    def forget(self, where: Address) -> None:
        """Drop a target; a session with it stays."""
        self.connector.forget(where)

    def exchange(self, peer: PeerId, wanted: bool, what: str = "data") -> None:
        """Whether something is exchanged with a peer, so that a session is wanted."""
        self._near.exchange(peer, wanted, what)

    def remove(self, peer: PeerId, proof: bytes = b"") -> None:
        """rmpeer: never accept it again."""
        self.membership.remove(peer, proof)

    def quiet(self) -> None:
        """Pass on nothing of what was received so far: others have it."""
        self._news.clear()

    def sizes(self) -> list[tuple[str, int, int]]:
        """(what, how many, at most) of all that is kept beside records."""
        known = len(self.membership.hosts)
        return [
            ("sessions", len(self._near.peers), limits.ORIGINS),
            *self._news.sizes(), *self._prober.sizes(), *self._entropy.sizes(),
            *self.connector.sizes(known), *self.membership.sizes(known),
        ]  # fmt: skip

    def where(self, peer: PeerId) -> Where | None:
        """Where a peer is that we have a session with."""
        return self.connector.sessions.get(peer)

    def in_session(self, peer: PeerId) -> bool:
        return peer in self._near

    # What parts ask for

    def _arrived(self, source: PeerId, datagram: bytes) -> None:
        self._out.relayed.append((source, datagram))

    def _send(self, peer: PeerId, message: Message) -> None:
        self._out.messages.append((peer, messages.encode(message)))

    def _ping(self, peer: PeerId, nonce: int) -> None:
        self._send(peer, Ping(nonce, self.tree.root, self._keeps(peer)))

    def _failed(self, peer: PeerId, now: float) -> None:
        """Neither we nor those we asked reach it."""
        self.membership.accuse(peer, now)
        self._hang(peer)

    def _unreached(self, peer: PeerId, rounds: int, now: float) -> None:
        """No address of a peer leads to it."""
        self._prober.indirect(peer, now, self._near.peers)

    def _candidates(self, peer: PeerId) -> list[Where]:
        host = self.membership.hosts.get(peer)
        if host is None:
            return []
        addresses = [Address(*address) for address in host.addresses]
        found: list[Where] = list(outside(addresses, self.ourselves.overlays()))
        if self._near.peers:
            found.append(Relayed(peer))
        return found

    def _counts(self, peer: PeerId) -> bool:
        return self.membership.status(peer) is not Status.DEAD

    def _visible(self, peer: PeerId) -> bool:
        return self.membership.status(peer) in {Status.ALIVE, Status.SUSPECT}

    # What follows from what has happened

    def _absorb(self) -> bool:
        """Take up changes of records; False: there were none."""
        if not (self.records.changed or self.membership.events):
            return False
        taken = self.records.take()
        for origin in taken.touched:
            self.tree.touch(origin)
        for change in taken.changes:
            self._apply(change)
        self._out.persist += taken.writes
        self._out.changes += taken.changes
        self._out.events += taken.events
        if any(isinstance(event, Recovered) for event in taken.events):
            self.ourselves.recovered(self._now)
        for record in taken.fresh:
            self._news.add(record, self._from, self._now)
        if taken.fresh:
            self._changed = self._now
        events, self.membership.events = self.membership.events, []
        for event in events:
            if isinstance(event, StatusChanged):
                self._on_status(event)
        self._out.events += events
        return True

    def _apply(self, change: RecordChange) -> None:
        match change.kind:
            case Kind.HOST | Kind.SUSPECT | Kind.REMOVED | Kind.FORGOTTEN:
                self.membership.apply(change, self._now)
                if change.origin == self.me:
                    self.ourselves.apply(change, self._now)
                elif change.kind == Kind.HOST:
                    self.connector.again(change.origin, self._now)
            case Kind.LINKS:
                self.routes.apply(change)
            case Kind.ENDPOINT:
                self.forwarding.apply(change)
                self.names.apply(change)
            case Kind.NAME | Kind.NETWORK:
                self.names.apply(change)

    def _on_status(self, event: StatusChanged) -> None:
        self.tree.touch(event.peer)
        self.forwarding.refresh(event.peer)
        self._near.stale = True
        if event.new is None and self.records.refused(event.peer):
            self._hang(event.peer)

    def _look_around(self) -> None:
        """Who is there, or whom we talk to, has changed: work out whom we want to talk to."""
        near, membership, sessions = self._near, self.membership, self.connector.sessions
        near.look(membership.live, membership.changes)
        dead = membership.dead()
        direct = tuple(peer for peer in near.peers if not isinstance(sessions.get(peer), Relayed))
        self.ourselves.links(direct, self._now)
        self.routes.reset(direct, frozenset(dead))
        known = [peer for peer in near.wanted if peer in membership.hosts]  # not removed ones
        self.connector.want(known, dead if self._settings.discovery else [], self._now)

    def _keeps(self, peer: PeerId) -> bool:
        return peer in self._near.wanted or peer in self.connector.targets.values()

    def _compare(self, peer: PeerId, root: bytes) -> None:
        """A neighbour has sent the digest of its records."""
        if root != self.tree.root and self._near.compare(peer, self._now, self._changed):
            self._entropy.begin(peer)
        if self._near.idle(peer, self._now) and not self._keeps(peer):
            self._hang(peer)

    def _hang(self, peer: PeerId) -> None:
        if peer in self._near:
            self._out.hang.append(peer)
            self.lost(peer, self._now)
