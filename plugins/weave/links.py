"""The sessions of a node, by index and by peer, and which of a peer's is in use.

waiting    agreed on, but not used by the other side yet: it may be the echo of an old handshake
current    what we send under
previous   what we sent under before: what is on its way under it still arrives
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from plugins.weave.events import KeysGone
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.session import Session
from plugins.weave.step import Event, Where

PEERS = 4096  # with a session
WAITING = 512  # sessions that are not confirmed, of all peers together; the oldest goes
WAITING_EACH = 2  # of one peer
SAME_TIME = 5.0  # seconds between sessions that both sides may have opened without knowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Of the session in use with one peer."""

    keys: PublicKeys
    where: Where
    epoch: int
    age: float
    initiated: bool
    sealed: bool  # data
    version: int
    features: int
    silent: float  # seconds since something was received


class Link:
    """One peer and its confirmed sessions."""

    __slots__ = (
        "before",
        "current",
        "direct",
        "initiated",
        "last_received",
        "last_sent",
        "previous",
        "reported",
        "where",
    )

    def __init__(self, current: Session, now: float) -> None:
        self.current = current
        self.previous: Session | None = None
        self.where: Where = current.source
        self.initiated = current.initiated  # we opened it; new keys may be either side's doing
        self.before: Where | None = None  # where it was sent to before
        self.direct: Where | None = None  # where its datagrams come from although we send by relay
        self.last_received = self.last_sent = now
        self.reported: tuple[int, bool] | None = None  # index and sealing, as the shell knows them

    @property
    def peer(self) -> PeerId:
        return self.current.peer

    @property
    def doubled(self) -> bool:
        """Whether there are two sessions that were opened at the same time."""
        previous = self.previous
        return previous is not None and abs(self.current.born - previous.born) <= SAME_TIME

    @property
    def places(self) -> tuple[Where, ...]:
        """Where it may be reached: where it was last received from may be forged, or where it was
        before."""
        return (self.where, self.before) if self.before else (self.where,)

    def go(self, where: Where) -> None:
        if where != self.where:
            self.before, self.where = self.where, where
        self.direct = None

    def status(self, now: float) -> Status:
        session = self.current
        return Status(
            keys=session.keys,
            where=self.where,
            epoch=session.epoch,
            age=now - session.born,
            initiated=self.initiated,
            sealed=self.reported[1] if self.reported else True,
            version=session.version,
            features=session.hello.features,
            silent=now - self.last_received,
        )


class Links:
    def __init__(self, us: PeerId) -> None:
        self._us = us
        self._links: dict[PeerId, Link] = {}
        self._sessions: dict[int, Session] = {}
        self._waiting: OrderedDict[int, Session] = OrderedDict()
        self._indexes: frozenset[int] | None = None

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        """In the order in which they were made; may be changed meanwhile."""
        return iter(list(self._links.values()))

    def get(self, peer: PeerId) -> Link | None:
        return self._links.get(peer)

    def session(self, index: int) -> Session | None:
        return self._sessions.get(index)

    def indexes(self) -> frozenset[int]:
        """Of all sessions; the same object until they change."""
        if self._indexes is None:
            self._indexes = frozenset(self._sessions)
        return self._indexes

    def has_index(self, index: int) -> bool:
        return index in self._sessions

    def deadline(self) -> float:
        """When a session that waits is to be looked at; those of links are the caller's matter."""
        first = next(iter(self._waiting.values()), None)
        return first.expires if first else float("inf")

    def add(self, session: Session) -> tuple[Event, ...]:
        """It waits."""
        self._indexes = None
        self._sessions[session.index] = session
        self._waiting[session.index] = session
        same = [s for s in self._waiting.values() if s.peer == session.peer]
        events = [self._remove(old) for old in same[:-WAITING_EACH]]
        if len(self._waiting) > WAITING:
            events.append(self._remove(next(iter(self._waiting.values()))))
        return tuple(events)

    def confirm(self, session: Session, now: float) -> tuple[Link | None, tuple[Event, ...]]:
        """The other side uses it, so we do; (None, ...): there are too many peers, it is gone."""
        session.confirmed = True
        self._waiting.pop(session.index, None)
        link = self._links.get(session.peer)
        if link is None:
            if len(self._links) >= PEERS:
                return None, (self._remove(session),)
            link = self._links[session.peer] = Link(session, now)
            return link, ()
        if link.current.hello.instance != session.hello.instance:
            events = self._remove_all(link)
            link.current, link.previous = session, None
            link.initiated = session.initiated
            return link, events
        gone = (self._remove(link.previous),) if link.previous else ()
        link.previous, link.current = link.current, session
        if link.doubled:
            link.initiated = session.initiated
        return link, gone

    def follow(self, link: Link, session: Session) -> bool:
        """The other side sent under that session: whether we turn to it, too.

        Where both sides opened a session at the same time each may have come to use another one.
        Then the choice of the lower id counts.
        """
        if session is not link.previous or session.peer > self._us or not link.doubled:
            return False
        link.previous, link.current = link.current, session
        link.initiated = session.initiated
        return True

    def drop(self, peer: PeerId) -> tuple[Event, ...]:
        """All of a peer's sessions, those that wait as well."""
        link = self._links.pop(peer, None)
        waiting = [s for s in self._waiting.values() if s.peer == peer]
        removed = self._remove_all(link) if link else ()
        return (*removed, *(self._remove(s) for s in waiting))

    def expire(self, now: float) -> tuple[Event, ...]:
        """Sessions that wait in vain, and previous ones whose time is over."""
        old = [s for s in self._waiting.values() if s.expired(now)]
        events = [self._remove(session) for session in old]
        for link in self._links.values():
            if link.previous and link.previous.expired(now):
                events.append(self._remove(link.previous))
                link.previous = None
        return tuple(events)

    def _remove_all(self, link: Link) -> tuple[Event, ...]:
        sessions = (link.current, *((link.previous,) if link.previous else ()))
        return tuple(self._remove(session) for session in sessions)

    def _remove(self, session: Session) -> Event:
        self._indexes = None
        self._sessions.pop(session.index, None)
        self._waiting.pop(session.index, None)
        return KeysGone(session.index)
