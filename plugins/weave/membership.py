"""Who is there: a view of records, by SWIM (Das, Gupta, Motivala, 2002).

A peer says in its HOST record that it is there, with an incarnation.  A peer that does not reach
it, and whose neighbours do not, says so in a SUSPECT record of his own, for that incarnation.  From
then on it is suspect, and after 5 log10(n + 1) seconds it counts as dead, unless it contradicts
with a higher incarnation: only it can.  So an accusation is signed by the accuser and costs a peer
that is there nothing.  Dead peers keep their records and come back by contradicting; after FORGET
seconds one of the others has them forgotten (FORGOTTEN), and `rmpeer` does for ever (REMOVED).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf, log10
from typing import Final

from plugins.weave import limits
from plugins.weave.identity import PeerId
from plugins.weave.record import Kind, Record
from plugins.weave.records import Records
from plugins.weave.statements import Forgotten, Host, Removed, Suspect, encode, read, read_host
from plugins.weave.step import Event
from plugins.weave.taken import RecordChange

FORGET: Final = 72 * 3600.0
KEEPERS: Final = 3
"""Peers that have a REMOVED record of one peer, so that it outlives them."""
CLEAN: Final = 10.0
"""Seconds until we take back accusations that were contradicted."""
TOMBS: Final = 512
"""FORGOTTEN records of one peer."""


class Status(Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class StatusChanged(Event):
    """A peer came (old None), was accused, died, contradicted, or is forgotten (new None)."""

    peer: PeerId
    old: Status | None
    new: Status | None


@dataclass(frozen=True, slots=True)
class WeAreRemoved(Event):
    """This peer was removed by the others: it has to begin anew, with another key."""

    by: PeerId


class Membership:
    """All peers by their records; `apply` has to be notified of every change of these."""

    def __init__(
        self,
        records: Records,
        contradict: Callable[[int, float], None],
        believes: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        """`contradict`: we are accused in an incarnation, and have to take a higher one.

        `believes`: whether a REMOVED record is rightly issued.
        """
        self._records, self._contradict, self._believes = records, contradict, believes
        self.me = records.me
        self.hosts: dict[PeerId, Host] = {}
        self.live: list[PeerId] = []
        """All that are not dead, ourselves included, sorted."""
        self.changes = 0
        """Of `live`, so far."""
        self.events: list[Event] = []
        """Since they were last taken out."""
        self._status: dict[PeerId, Status] = {}
        self._accused: dict[PeerId, dict[PeerId, int]] = {}
        self._dies: dict[PeerId, float] = {}
        self._died: dict[PeerId, float] = {}
        self._forgotten: dict[PeerId, int] = {}
        self._keepers: dict[PeerId, dict[PeerId, bytes]] = {}
        self._keep_at = self._clean_at = inf

    def status(self, peer: PeerId) -> Status | None:
        """None: it is not known."""
        return self._status.get(peer)

    def dead(self) -> list[PeerId]:
        return list(self._died)

    def suspicion(self) -> float:
        """Seconds from the first accusation to death."""
        return 5 * log10(len(self.live) + 1)

    def sizes(self, known: int) -> list[tuple[str, int, int]]:
        """(what, how many, at most), where that many peers are known."""
        return [
            ("peers", len(self._status), known),
            ("suspects", len(self._dies), known),
            ("dead", len(self._died), known),
            ("removed", len(self._keepers), limits.REFUSED),
            ("to be forgotten", len(self._forgotten), limits.REFUSED),
        ]

    def accusations(self, peer: PeerId) -> list[Record]:
        """Of a peer that is not taken for alive: what it has to contradict, and by whom it is."""
        if self._status.get(peer) in {None, Status.ALIVE}:
            return []
        found = []
        for accuser in self._accused.get(peer, {}):
            for place in ((Kind.HOST, b""), (Kind.SUSPECT, peer)):
                record = self._records.get(accuser, *place)
                found += [] if record is None else [record]
        return found

    # What we say

    def accuse(self, peer: PeerId, now: float) -> None:
        """We do not reach it, nor do those that we asked."""
        host = self.hosts.get(peer)
        if host is not None and self._status.get(peer) is Status.ALIVE and peer != self.me:
            self._records.put(Kind.SUSPECT, peer, encode(Suspect(host.incarnation)))

    def remove(self, peer: PeerId, proof: bytes = b"") -> None:
        """Have a peer removed for ever, by all."""
        self._records.put(Kind.REMOVED, peer, encode(Removed(proof)))

    # What is said

    def apply(self, change: RecordChange, now: float) -> None:
        """Of any kind; it may put records of our own, the changes of which come later."""
        match change.kind:
            case Kind.HOST:
                self._on_host(change, now)
            case Kind.SUSPECT:
                self._on_suspect(change, now)
            case Kind.REMOVED:
                self._on_removed(change, now)
            case Kind.FORGOTTEN:
                self._on_forgotten(change)

    def _on_host(self, change: RecordChange, now: float) -> None:
        peer = change.origin
        host = None if change.new is None else read_host(change.new.value)
        if host is None:
            self.hosts.pop(peer, None)
            self._clean_at = min(self._clean_at, now + CLEAN)
        else:
            self.hosts[peer] = host
            if self._records.get(self.me, Kind.SUSPECT, peer) is not None:
                self._clean_at = min(self._clean_at, now + CLEAN)
        self._judge(peer, now)

    def _on_suspect(self, change: RecordChange, now: float) -> None:
        subject = PeerId(change.key)
        said = None if change.new is None else read(change.new.value, Suspect)
        accusers = self._accused.setdefault(subject, {})
        accusers.pop(change.origin, None)
        if said is not None:
            accusers[change.origin] = said.incarnation
        if not accusers:
            del self._accused[subject]
        self._judge(subject, now)

    def _on_removed(self, change: RecordChange, now: float) -> None:
        subject = PeerId(change.key)
        keepers = self._keepers.setdefault(subject, {})
        keepers.pop(change.origin, None)
        if change.new is not None and change.new.value is not None:
            if not self._believes(change.new):
                return
            keepers[change.origin] = change.new.value
            if subject == self.me:
                self.events.append(WeAreRemoved(change.origin))
            else:
                self._records.remove(subject)
        self._keep_at = min(self._keep_at, now + 5)

    def _on_forgotten(self, change: RecordChange) -> None:
        subject = PeerId(change.key)
        said = None if change.new is None else read(change.new.value, Forgotten)
        if said is None:
            return
        self._forgotten[subject] = max(said.version, self._forgotten.get(subject, 0))
        self._honour(subject)

    def _honour(self, subject: PeerId) -> None:
        """Forget a peer that is dead here too, or that we do not know of."""
        version = self._forgotten.get(subject)
        if version is None:
            return
        if subject == self.me:
            own = self._records.replica(self.me)
            if own is not None and own.version <= version:
                self._records.renew()
        elif self._status.get(subject) in {None, Status.DEAD}:
            del self._forgotten[subject]
            self._records.forget(subject, version)

    # What follows

    def _judge(self, peer: PeerId, now: float) -> None:
        """Work out what a peer is, from what it and others say."""
        host = self.hosts.get(peer)
        if host is None:
            self._set(peer, None, now)
            return
        worst = max(self._accused.get(peer, {}).values(), default=-1)
        if worst < host.incarnation:
            self._set(peer, Status.ALIVE, now)
        elif peer == self.me:
            self._contradict(worst, now)
        elif self._status.get(peer) in {None, Status.ALIVE}:
            self._set(peer, Status.SUSPECT, now)

    def _set(self, peer: PeerId, new: Status | None, now: float) -> None:
        old = self._status.get(peer)
        if old is new:
            return
        if new is None:
            self._status.pop(peer, None)
        else:
            self._status[peer] = new
        self._dies.pop(peer, None)
        self._died.pop(peer, None)
        if new is Status.SUSPECT:
            self._dies[peer] = now + self.suspicion()
        if new is Status.DEAD:
            self._died[peer] = now
        there = bisect_left(self.live, peer)
        listed = there < len(self.live) and self.live[there] == peer
        if new in {Status.ALIVE, Status.SUSPECT} and not listed:
            insort(self.live, peer)
            self.changes += 1
        elif new in {Status.DEAD, None} and listed:
            del self.live[there]
            self.changes += 1
        self.events.append(StatusChanged(peer, old, new))
        if new is Status.DEAD:
            self._honour(peer)
        if self._keepers:
            self._keep_at = min(self._keep_at, now + 60)

    # Time

    def deadline(self) -> float:
        """When `tick` has something to do."""
        at = min(self._keep_at, self._clean_at)
        if self._dies:
            at = min(at, *self._dies.values())
        if self._died:
            at = min(at, min(self._died.values()) + FORGET)
        return at

    def tick(self, now: float) -> None:
        for peer in [peer for peer, at in self._dies.items() if at <= now]:
            self._set(peer, Status.DEAD, now)
        for peer in [peer for peer, at in self._died.items() if at + FORGET <= now]:
            self._died[peer] = now - FORGET + 3600  # again, should it still be there
            if self._successors(peer, 1):
                self._bury(peer)
        if self._clean_at <= now:
            self._clean_at = inf
            self._clean()
        if self._keep_at <= now:
            self._keep_at = inf
            self._keep()

    def _clean(self) -> None:
        """Take back what was contradicted, or is of peers that are gone for good."""
        for record in list(self._records.of(self.me, Kind.SUSPECT)):
            host = self.hosts.get(PeerId(record.key))
            said = read(record.value, Suspect)
            if host is None or said is None or said.incarnation < host.incarnation:
                self._records.delete(Kind.SUSPECT, record.key)

    def _bury(self, peer: PeerId) -> None:
        replica = self._records.replica(peer)
        if replica is not None:
            said = [r.key for r in self._records.of(self.me, Kind.FORGOTTEN)]
            if len(said) >= TOMBS:
                self._records.delete(Kind.FORGOTTEN, said[0])
            self._records.put(Kind.FORGOTTEN, peer, encode(Forgotten(replica.version)))

    def _keep(self) -> None:
        """See to it that each REMOVED record is with KEEPERS live peers."""
        for subject, keepers in list(self._keepers.items()):
            live = [peer for peer in keepers if self._status.get(peer) is Status.ALIVE]
            own = self.me in keepers
            if keepers and not own and len(live) < KEEPERS and self._successors(subject, KEEPERS):
                self._records.put(Kind.REMOVED, subject, keepers[min(keepers)])

    def _successors(self, peer: PeerId, count: int) -> bool:
        """Whether we are among the first live ones after a peer on the ring of ids."""
        at = bisect_left(self.live, peer)
        ring = [*self.live[at : at + count], *self.live[:count]]
        return self.me in ring[:count]
