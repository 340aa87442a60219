"""A peer among others, without its sessions: records, who is there, whom to talk to, and the views.

Below it is something that carries messages between authenticated peers, which tells `established`,
`lost` and `received`, and does what `Output` asks: connect, send, end a session.  After whatever is
called `take` has to follow: it brings everything up to date and hands out what is to be done, rows
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from plugins.weave import limits, messages
from plugins.weave.antientropy import AntiEntropy
from plugins.weave.connector import Connector, outside
from plugins.weave.crypto import Crypto, Random
from plugins.weave.forwarding import Forwarding
from plugins.weave.identity import Identity, PeerId, PublicKeys
from plugins.weave.membership import Membership, Status, StatusChanged
from plugins.weave.messages import Ack, Hello, Message, Ping, PingRequest, Reached, Relay
from plugins.weave.names import Names
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
from plugins.weave.view import neighbours
from plugins.weave.wire import WireError

QUIET: Final = 0.3
"""Seconds after a change in which a neighbour may well have other records."""
COMPARED: Final = 1.0
"""Seconds between two comparisons with one neighbour; while there is news, `BUSY`."""
BUSY: Final = 5.0
IDLE: Final = 30.0
"""Seconds that a session lives that neither side wants."""


@dataclass(slots=True)
class _Session:
    since: float
    keep: bool = True
    """Whether the other side wants it."""
    compared: float = -inf


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
        self._sessions: dict[PeerId, _Session] = {}
        self._neighbours: list[PeerId] = []
        self._wanted: dict[PeerId, None] = {}
        self._data: dict[PeerId, None] = {}
        self._view: list[PeerId] = []
        self._viewed = -1
        self._stale = True
        self._from: PeerId | None = None
        self.records = Records(identity, crypto, random)
        self.tree = Tree(self.records, self._counts)
        self.ourselves = Ourselves(identity, self.records, settings, random)
        self.membership = Membership(self.records, self.ourselves.contradict, believes)
        self.routes = Routes(self.me)
        self.names = Names(self._visible)
        self.forwarding = Forwarding(self._visible)
        self.connector = Connector(self._candidates, self._unreached, random)
        self._relays = Relays(self.routes, self._tell, self._arrived)
        self._news = News(self._tell, self.routes.passed_on, random)
        self._entropy = AntiEntropy(self.records, self.tree, self._tell)
        self._prober = Prober(self._ping, self._tell, self._failed, random)

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
        self._prober.tick(now, self._neighbours)
        self._out.dial += self.connector.tick(now)
        self._news.tick(now, self._neighbours)
        self.ourselves.tick(now)

    @property
    def busy(self) -> bool:
        """Whether `take` has something."""
        out = self._out
        return bool(out.tell or out.hang or out.relayed or self._stale or self.records.changed)

    def take(self) -> Output:
        """What is to be done since the last call."""
        while self._absorb() or self._stale:
            if self._stale:
                self._look_around()
        out, self._out = self._out, Output()
        return out

    # What the layer below tells

    def established(self, keys: PublicKeys, where: Where, now: float) -> None:
        self._now = now
        peer = keys.peer
        if self.records.refused(peer) or peer == self.me:
            self._out.hang.append(peer)
            return
        self._sessions[peer] = _Session(now)
        self._changed_sessions()
        self.connector.established(peer, where, now)
        self._tell(peer, Hello(where if isinstance(where, Address) else None))
        if self.me < peer:
            self._entropy.begin(peer)

    def moved(self, peer: PeerId, where: Where, now: float) -> None:
        """What is sent to a peer goes to another place from now on."""
        self._now = now
        if peer in self._sessions:
            self.connector.established(peer, where, now)
            self._changed_sessions()
            self._tell(peer, Hello(where if isinstance(where, Address) else None))

    def lost(self, peer: PeerId, now: float) -> None:
        self._now = now
        if self._sessions.pop(peer, None) is not None:
            self._changed_sessions()
            self._entropy.end(peer)
            self.connector.lost(peer, now, wanted=peer in self._wanted)

    def failed(self, where: Where, now: float, *, itself: bool = False) -> None:
        """An attempt to connect came to nothing; `itself`: it reached ourselves."""
        if itself and isinstance(where, Address):
            self.connector.itself(where)

    def received(self, peer: PeerId, data: bytes, now: float) -> None:
        """A message of a peer that there is a session with."""
        self._now = now
        session = self._sessions.get(peer)
        if session is None:
            return
        try:
            message = messages.decode(data)
        except WireError:
            return
        self._from = peer
        match message:
            case Ping():
                session.keep = message.keep
                self._tell(peer, Ack(message.nonce, self.tree.root, self._keeps(peer)))
                self._entropy.push(peer, self.membership.accusations(peer))
            case Ack():
                session.keep = message.keep
                self._prober.answered(peer, message.nonce)
                self._compare(peer, session, message.root)
                self._end_idle(peer, session)
            case PingRequest():
                if message.target in self._sessions:
                    self._prober.asked(peer, message, now)
            case Reached():
                useless = self._prober.reached(message.nonce)
                if useless is not None:
                    self._hang(useless)
            case Hello():
                if message.seen is not None:
                    self.ourselves.seen(Address(*message.seen), now)
            case Relay():
                self._relays.received(peer, message)
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

    def exchange(self, peer: PeerId, wanted: bool) -> None:
        """Whether data is exchanged with a peer, so that a session is wanted."""
        if wanted:
            self._data[peer] = None
        else:
            self._data.pop(peer, None)
        self._stale = True

    def put(self, kind: Kind, key: bytes, value: bytes) -> None:
        """Say something of this host: an endpoint, a network, a name.

        Raises:
            WireError: it is too much.
        """
        self.ourselves.put(kind, key, value)

    def delete(self, kind: Kind, key: bytes) -> None:
        self.ourselves.delete(kind, key)

    def resync(self, kind: Kind, values: Mapping[bytes, bytes]) -> None:
        """Say exactly this of a kind."""
        self.ourselves.resync(kind, values)

    def remove(self, peer: PeerId, proof: bytes = b"") -> None:
        """rmpeer: never hear of it again."""
        self.membership.remove(peer, proof)

    def quiet(self) -> None:
        """Pass on nothing of what was heard so far: others have it."""
        self._news.clear()

    def sizes(self) -> list[tuple[str, int, int]]:
        """(what, how many, at most) of all that is kept beside records."""
        known = len(self.membership.hosts)
        return [
            ("sessions", len(self._sessions), limits.ORIGINS),
            *self._news.sizes(), *self._prober.sizes(), *self._entropy.sizes(),
            *self.connector.sizes(known), *self.membership.sizes(known),
        ]  # fmt: skip

    def where(self, peer: PeerId) -> Where | None:
        """Where a peer is that we have a session with."""
        return self.connector.sessions.get(peer)

    def in_session(self, peer: PeerId) -> bool:
        return peer in self._sessions

    def relay(self, target: PeerId, datagram: bytes) -> bool:
        """Send a sealed datagram by way of others; False: there is none."""
        return self._relays.send(target, datagram)

    # What parts ask for

    def _arrived(self, source: PeerId, datagram: bytes) -> None:
        self._out.relayed.append((source, datagram))

    def _tell(self, peer: PeerId, message: Message) -> None:
        self._out.tell.append((peer, messages.encode(message)))

    def _ping(self, peer: PeerId, nonce: int) -> None:
        self._tell(peer, Ping(nonce, self.tree.root, self._keeps(peer)))

    def _failed(self, peer: PeerId, now: float) -> None:
        """Neither we nor those we asked reach it."""
        self.membership.accuse(peer, now)
        self._hang(peer)

    def _unreached(self, peer: PeerId, rounds: int, now: float) -> None:
        """No address of a peer leads to it."""
        self._prober.indirect(peer, now, self._neighbours)

    def _candidates(self, peer: PeerId) -> list[Where]:
        host = self.membership.hosts.get(peer)
        if host is None:
            return []
        addresses = [Address(*address) for address in host.addresses]
        found: list[Where] = list(outside(addresses, self._settings.overlays))
        if self._neighbours:
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
        self._stale = True
        if event.new is None and self.records.refused(event.peer):
            self._hang(event.peer)

    def _changed_sessions(self) -> None:
        self._neighbours = sorted(self._sessions)
        self._stale = True

    def _look_around(self) -> None:
        """Who is there, or whom we talk to, has changed: work out whom we want to talk to."""
        self._stale = False
        membership = self.membership
        dead = membership.dead()
        if self._settings.discovery and self._viewed != membership.changes:
            self._viewed = membership.changes
            self._view = neighbours(self.me, membership.live)
        self._wanted = dict.fromkeys([*self._view, *self._data])
        sessions = self.connector.sessions
        direct = tuple(p for p in self._neighbours if not isinstance(sessions.get(p), Relayed))
        self.ourselves.links(direct, self._now)
        self.routes.reset(direct, frozenset(dead))
        self.connector.want(self._wanted, dead if self._settings.discovery else [], self._now)

    def _keeps(self, peer: PeerId) -> bool:
        return peer in self._wanted or peer in self.connector.targets.values()

    def _compare(self, peer: PeerId, session: _Session, root: bytes) -> None:
        """A neighbour has told the digest of its records."""
        if root == self.tree.root:
            return
        pause = BUSY if self._now - self._changed < QUIET else COMPARED
        if self._now - session.compared >= pause:
            session.compared = self._now
            self._entropy.begin(peer)

    def _end_idle(self, peer: PeerId, session: _Session) -> None:
        if not session.keep and self._now - session.since > IDLE and not self._keeps(peer):
            self._hang(peer)

    def _hang(self, peer: PeerId) -> None:
        if peer in self._sessions:
            self._out.hang.append(peer)
            self.lost(peer, self._now)
