"""All sessions of a node: who is talked to, where, and under which keys.

Messages of up to MAX_CARRIED bytes go to peers sealed, and arrive at most once, possibly never or
out of order.  First contact (an address) is Noise XX, a peer whose keys are known IK; both with the
pre-shared key.  What happens by itself: repetition, rekeying, keepalives, roaming, replacing
sessions with a peer that started anew.  What does not: who is `Lost`, or was `Failed` to be
reached, is not tried again.

Times are seconds of a monotonic clock, best one that counts sleep (CLOCK_BOOTTIME).  `receive`
takes bytes of anybody and never raises.
"""

from __future__ import annotations

from plugins.weave.control import Control, What, decode
from plugins.weave.events import (
    Answered,
    Established,
    Failed,
    HeardDirectly,
    KeysUsed,
    Lossy,
    Lost,
    Moved,
    Probed,
    Received,
    RelayedData,
)
from plugins.weave.handshake import Party
from plugins.weave.handshakes import Dropped, Handshakes
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.links import Link, Links, Status
from plugins.weave.session import Session, Spent
from plugins.weave.step import NOTHING, Address, Event, Relayed, Send, Step, Where
from plugins.weave.trust import Trust
from plugins.weave.wire import Cookie, Handshake, Kind, Transport, WireError, is_handshake, parse

KEEPALIVE = 10.0  # seconds without anything sent
SILENT = 25.0  # seconds without anything received: a new handshake is tried
DEAD = 60.0  # seconds without anything received: the peer is lost
DATA = bytes((Kind.DATA,))
GRAIN = 0.1  # seconds between two ticks at least: each looks at all sessions


class Sessions:
    def __init__(self, party: Party, trust: Trust, now: float) -> None:
        self._party, self._trust = party, trust
        self._links = Links(party.us.peer)
        self._handshakes = Handshakes(party, trust, self._links, now)
        self._attempts = self._handshakes.attempts
        self._wake, self._ticked = float("inf"), float("-inf")
        self._indexes: frozenset[int] = frozenset()
        self._found = self._indexes, self._indexes  # of which it is made

    @property
    def dropped(self) -> Dropped:
        """Datagrams that led to nothing, by reason."""
        return self._handshakes.dropped

    def __contains__(self, peer: PeerId) -> bool:
        """Whether messages can be sent to that peer."""
        return self._links.get(peer) is not None

    def where(self, peer: PeerId) -> Where | None:
        """Where what is for that peer is sent; None: there is no session."""
        link = self._links.get(peer)
        return link.where if link else None

    def features(self, peer: PeerId) -> int:
        """What that peer says it can do; 0 as well where there is no session."""
        link = self._links.get(peer)
        return link.current.hello.features if link else 0

    def indexes(self) -> frozenset[int]:
        """Datagrams that bear none of these lead to nothing, but for first messages of handshakes;
        the same object until they change."""
        found = self._links.indexes(), self._handshakes.indexes()
        if found != self._found:
            self._found, self._indexes = found, found[0] | found[1]
        return self._indexes

    def peers(self) -> tuple[PeerId, ...]:
        """Those with a session, in the order in which it was established."""
        return tuple(link.peer for link in self._links)

    def status(self, now: float) -> tuple[Status, ...]:
        return tuple(link.status(now) for link in self._links)

    def connect(self, where: Where, now: float, keys: PublicKeys | None = None) -> Step:
        """Try to reach who is at an address, or, with its keys, a certain peer; 90 s at most.

        Ends in `Established` (`Answered`, and new keys, where there is a session already) or
        in `Failed`; with an address alone the latter also if who is there came to us meanwhile, for
        what says from where is not authentic.  Nothing, if it is under way.
        """
        if keys and (keys.peer in self._handshakes.refused or keys.peer == self._party.us.peer):
            return NOTHING
        self._wake = min(self._wake, now)
        return Step(send=self._attempts.start((where,), keys, now))

    def send(self, peer: PeerId, message: bytes, now: float) -> Step:
        """A message, dropped where there is no session.  Bytes: MAX_MESSAGE, which the session may
        take by relay; MAX_CARRIED for what is itself the envelope of a relayed datagram."""
        return self._to(peer, Kind.CONTROL, Control(What.MESSAGE, message), now)

    def probe(self, peer: PeerId, number: int, size: int, now: float) -> Step:
        """A datagram of `size` bytes that must not be cut; `Probed` says that it arrived."""
        return self._to(peer, Kind.PROBE, Control(What.PROBE, number=number, size=size), now)

    def arrived(self, peer: PeerId, number: int, size: int, now: float) -> Step:
        """A probe of a peer's arrived that did not come by its session: it is `Probed` there."""
        return self._to(peer, Kind.CONTROL, Control(What.ARRIVED, number=number, size=size), now)

    def lossy(self, peer: PeerId, lossy: bool, now: float) -> Step:
        """Report to a peer whether its data gets lost on its way to us; it gets `Lossy`, or
        nothing."""
        return self._to(peer, Kind.CONTROL, Control(What.LOSSY, lossy=lossy), now)

    def observed(self, index: int, source: Where, now: float) -> Step:
        """A worker got authentic data under this index from there, newer than all before: the first
        of it, and the first from another source.  The peer is sent to there at once."""
        session = self._links.session(index)
        if session is None or session.expired(now):
            return NOTHING
        link = self._links.get(session.peer)  # data may stay with a session that control has left
        return self._alive(session, source, link is None or session is link.current, now)

    def move(self, peer: PeerId, where: Where, now: float) -> Step:
        """From now on what is for that peer is sent there."""
        link = self._links.get(peer)
        if link is None or link.where == where:
            return NOTHING
        self._attempts.moved(peer, link.where, where)
        link.go(where)
        return self._told(link, now)

    def renew(self, peer: PeerId, now: float) -> Step:
        """New keys at once: the worker that counted what was sealed under the old ones is gone."""
        link = self._links.get(peer)
        return self._rekey(link, now) if link else NOTHING

    def close(self, peer: PeerId, now: float) -> Step:
        """Say goodbye to a peer and forget its sessions and what is under way to it."""
        goodbye = self._to(peer, Kind.CONTROL, Control(What.GOODBYE), now)
        return goodbye + Step(events=self._drop(peer))

    def refuse(self, peers: frozenset[PeerId], now: float) -> Step:
        """From now on no session with any of these is asked for, until this is called again without
        them.  Those that *they* ask for are established: the caller that knows why has to report
        it, and to end the session soon."""
        self._handshakes.refused = peers
        step = NOTHING
        for peer in sorted(peers):
            step += self.close(peer, now)
        return step

    def deadline(self) -> float:
        """When `tick` is to be called, which may turn out to be early; infinity: never.

        Costs nothing, so it may be asked after every datagram.
        """
        return max(self._wake, self._ticked + GRAIN)

    def tick(self, now: float) -> Step:
        """May be called at any time; `deadline` says when it has to be."""
        step = Step(events=self._links.expire(now)) + self._handshakes.tick(now)
        for link in self._links:
            step += self._look_at(link, now)
        links = min((self._due(link) for link in self._links), default=float("inf"))
        self._wake = min(links, self._links.deadline(), self._handshakes.deadline())
        self._ticked = now
        return step

    def receive(self, datagram: bytes, source: Where, now: float) -> Step:
        """Any UDP payload; data (type 6) is for workers, and reported if it came by relay."""
        if datagram[:1] == DATA:  # workers have a format of their own behind the first byte
            if not isinstance(source, Relayed):
                return NOTHING
            return Step(events=(RelayedData(source.peer, datagram),))
        if is_handshake(datagram) and not self._handshakes.genuine(datagram):
            return NOTHING
        try:
            message = parse(datagram)
        except WireError:
            self.dropped.malformed += 1
            return NOTHING
        if isinstance(message, Handshake | Cookie):
            self._wake = min(self._wake, now)
            step, session = self._handshakes.receive(message, source, now)
            return step + self._alive(session, source, True, now) if session else step
        return self._transport(message, source, now)

    def _transport(self, message: Transport, source: Where, now: float) -> Step:
        session = self._links.session(message.index)
        if session is None or session.expired(now):
            self.dropped.unknown += 1
            return NOTHING
        plaintext = session.open(message)
        if plaintext is None:
            self.dropped.forged += 1
            return NOTHING
        newest, known = message.counter == session.highest, session.confirmed
        step = self._alive(session, source, newest, now)
        try:
            control = decode(plaintext)
        except WireError:
            self.dropped.malformed += 1
            return step
        if (control.what == What.PROBE) != (message.kind == Kind.PROBE):
            self.dropped.malformed += 1
            return step
        if control.what == What.GREETING:
            return step + self._word(session, source) if known else step  # it has had its word
        return step + self._take(session.peer, control, now)

    def _take(self, peer: PeerId, control: Control, now: float) -> Step:
        what = control.what
        if what == What.MESSAGE:
            return Step(events=(Received(peer, control.message),))
        if what == What.PROBE:
            arrived = Control(What.ARRIVED, number=control.number, size=control.size)
            return self._to(peer, Kind.CONTROL, arrived, now)
        if what == What.ARRIVED:
            return Step(events=(Probed(peer, control.number, control.size),))
        if what == What.LOSSY:
            return Step(events=(Lossy(peer, control.lossy),))
        link = self._links.get(peer)
        if what == What.GOODBYE and link:
            return Step(events=(*self._drop(peer), Lost(peer, "it said goodbye")))
        return NOTHING

    def _to(self, peer: PeerId, kind: Kind, control: Control, now: float) -> Step:
        link = self._links.get(peer)
        if link is None or link.current.expired(now):
            return NOTHING
        try:
            datagram = link.current.seal(kind, control.encode())
        except Spent:  # a new session is under way, or this one ends
            return NOTHING
        finally:
            link.last_sent = now
            if now >= link.current.rekey_at():  # its messages, not its time, may be used up
                self._wake = min(self._wake, now)
        return Step(send=(Send(datagram, link.where, whole=kind == Kind.PROBE),))

    def _alive(self, session: Session, source: Where, newest: bool, now: float) -> Step:
        """Something authentic came: sessions are confirmed by it, and peers found."""
        if not session.confirmed:
            return self._confirm(session, source, now)
        link = self._links.get(session.peer)
        if link is None:
            return NOTHING
        link.last_received = now
        if newest and self._links.follow(link, session):
            return self._told(link, now)
        if session is not link.current or not newest or source == link.where:
            return NOTHING
        if isinstance(source, Address) and isinstance(link.where, Address):
            step = self.move(session.peer, source, now)
            return Step(events=(Moved(session.peer, source),)) + step
        if isinstance(source, Address) and link.direct != source:
            link.direct = source
            return Step(events=(HeardDirectly(session.peer, source),))
        return NOTHING

    def _confirm(self, session: Session, source: Where, now: float) -> Step:
        before = self._links.get(session.peer)
        instance = before.current.hello.instance if before else b""
        link, gone = self._links.confirm(session, now)
        if link is None:
            self._attempts.cancel(session.peer)
            full = Failed(session.source, session.peer, "there are sessions with too many peers")
            return Step(events=(*gone, full))
        self._wake = min(self._wake, now)
        link.last_received = now
        link.go(session.source if session.initiated else source)  # there it was asked, and answered
        step = Step(events=gone)
        if instance != session.hello.instance:
            step += Step(events=(_established(session, link.where),))
        elif session.initiated:
            step += Step(events=(Answered(session.peer, session.source),))
        self._attempts.cancel(session.peer)
        step += self._told(link, now)
        if not session.initiated or link.doubled:  # who asked for it waits for a first word
            step += self._word(session, source)
        return step

    def _word(self, session: Session, where: Where) -> Step:
        """A sign of life under the very session that the other side asks for one."""
        try:
            datagram = session.seal(Kind.CONTROL, Control(What.KEEPALIVE).encode())
        except Spent:
            return NOTHING
        return Step(send=(Send(datagram, where),))

    def _told(self, link: Link, now: float) -> Step:
        """Which keys are used and whether data is sealed, if that has changed.

        Sealed is what either side demands, or has said that it demands: the other counts on it.
        """
        session, ours = link.current, self._trust.needs_sealing(link.where)
        reported = (session.index, ours or session.said or session.hello.sealed)
        new = reported != link.reported
        step = Step(events=(KeysUsed(link.peer, *reported),)) if new else NOTHING
        link.reported = reported
        if ours != session.said:  # the other side has to know of it, too
            step += self._rekey(link, now)
        return step

    def _look_at(self, link: Link, now: float) -> Step:
        if now >= link.last_received + DEAD or link.current.expired(now):
            silent = now >= link.last_received + DEAD
            why = f"nothing was received for {DEAD:.0f} s" if silent else "its keys ran out"
            return Step(events=(*self._drop(link.peer), Lost(link.peer, why)))
        step = NOTHING
        if now >= min(link.current.rekey_at(), link.last_received + SILENT):
            step += self._rekey(link, now)
        if now >= link.last_sent + KEEPALIVE:
            step += self._to(link.peer, Kind.CONTROL, Control(What.KEEPALIVE), now)
        return step

    def _due(self, link: Link) -> float:
        due = min(link.last_sent + KEEPALIVE, link.last_received + DEAD, link.current.expires)
        if link.peer in self._attempts or self._attempts.full:
            return due
        return min(due, link.current.rekey_at(), link.last_received + SILENT)

    def _rekey(self, link: Link, now: float) -> Step:
        self._wake = min(self._wake, now)
        return Step(send=self._attempts.start(link.places, link.current.keys, now))

    def _drop(self, peer: PeerId) -> tuple[Event, ...]:
        self._attempts.cancel(peer)
        return self._links.drop(peer)


def _established(session: Session, where: Where) -> Established:
    hello = session.hello
    return Established(session.keys, where, session.version, hello.features, hello.instance)
