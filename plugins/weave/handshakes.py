"""Handshake datagrams and cookies: from bytes of anybody to sessions that wait to be confirmed."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.weave.admission import Admission
from plugins.weave.answers import Answers
from plugins.weave.attempts import Attempts, fraction
from plugins.weave.events import Cloned, Failed, KeysAdded
from plugins.weave.handshake import NEWEST, OLDEST, Agreed, Party
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.links import Links
from plugins.weave.session import Session
from plugins.weave.step import NOTHING, Send, Step, Where
from plugins.weave.trust import Trust
from plugins.weave.wire import Cookie, Handshake, Kind, WireError

NO_ANSWER = "no answer: it is not reached there, or has another password"
ITSELF = "it is this peer itself"
CLONE = "who answers has the keys of this peer: its state was copied"
REMOVED = "that peer was removed"


@dataclass(slots=True)
class Dropped:
    """Datagrams that led to nothing, since the start."""

    malformed: int = 0
    strangers: int = 0  # handshakes without the password, damaged, or which were not waited for
    flooded: int = 0  # first messages that were put off or not worked on
    unknown: int = 0  # of sessions that there are not, or not any more
    forged: int = 0  # of sessions: damaged, forged, or received before
    refused: int = 0  # answers of peers that were removed


class Handshakes:
    def __init__(self, party: Party, trust: Trust, links: Links, now: float) -> None:
        self._party, self._links = party, links
        self._admission = Admission(party.crypto, party.random, party.psk, now)
        self.attempts = Attempts(
            party, self._admission, index=self._new_index, sealed=trust.needs_sealing
        )
        self._answers = Answers(party, self._admission, trust)
        self._epoch = 0
        self.refused: frozenset[PeerId] = frozenset()
        self.dropped = Dropped()

    def indexes(self) -> frozenset[int]:
        """Under which something is awaited, but of sessions."""
        return self.attempts.indexes() | self._answers.indexes()

    def deadline(self) -> float:
        return min(self.attempts.deadline(), self._answers.deadline())

    def tick(self, now: float) -> Step:
        self._answers.tick(now)
        send, given_up = self.attempts.tick(now)
        failed = tuple(
            Failed(a.where, a.peer, ITSELF if a.itself else NO_ANSWER, itself=a.itself)
            for a in given_up
        )
        return Step(send=send, events=failed)

    def genuine(self, datagram: bytes) -> bool:
        """Whether who sent a handshake message knows the password: asked of raw bytes, for a flood
        of those that do not costs this, and nothing else."""
        if self._admission.genuine(datagram):
            return True
        self.dropped.strangers += 1
        return False

    def receive(
        self, message: Handshake | Cookie, source: Where, now: float
    ) -> tuple[Step, Session | None]:
        """For what is `genuine`: what is to be done, and a session that this message confirms."""
        if isinstance(message, Cookie):
            return Step(send=self.attempts.take_cookie(message, now)), None
        if message.kind == Kind.FIRST:
            return self._first(message, source, now), None
        if message.kind == Kind.SECOND:
            return self._second(message, source, now), None
        return self._third(message, source, now)

    def _first(self, message: Handshake, source: Where, now: float) -> Step:
        if self.attempts.came_back(message):
            return NOTHING
        admitted = self._admission.admit(message, source, now)
        if not admitted.yes:
            self.dropped.flooded += 1
            if admitted.reply:
                return Step(send=(Send(admitted.reply.encode(), source),))
            return NOTHING
        try:
            return self._answer(message, source, now)
        except WireError:
            self.dropped.strangers += 1
            return NOTHING

    def _answer(self, message: Handshake, source: Where, now: float) -> Step:
        answering = self._answers.read(message)
        if answering.keys and answering.hello:
            stop = self._own(answering.keys, answering.hello.instance, source)
            if stop is not None:
                return stop
        index = self._new_index()
        answer = self._answers.answer(message, answering, index, source, now)
        step = Step(send=(answer.send,))
        if answer.agreed is None or not answer.agreed.version:
            return step  # where no version is common the other side sees it in the answer
        return step + self._add(answer.agreed, index, False, source, now)[0]

    def _second(self, message: Handshake, source: Where, now: float) -> Step:
        answered = self.attempts.answered(message)
        if answered is None:
            self.dropped.strangers += 1
            return NOTHING
        attempt, agreed = answered
        stop = self._stop(agreed.keys, agreed.hello.instance, source)
        if stop is not None:
            self.attempts.end(attempt)
            ours = agreed.keys.peer == self._party.us.peer
            why = CLONE if ours else REMOVED
            return stop + Step(events=(Failed(attempt.where, attempt.peer, why, itself=ours),))
        if not agreed.version:
            self.attempts.end(attempt)
            return Step(events=(Failed(attempt.where, agreed.keys.peer, _versions(agreed)),))
        # Not where the answer came from: where the question went has been shown to lead there.
        step, session = self._add(agreed, attempt.index, True, attempt.where, now)
        last = self.attempts.await_confirmation(attempt, session, now)
        return step + Step(send=(last,))

    def _third(self, message: Handshake, source: Where, now: float) -> tuple[Step, Session | None]:
        agreed = self._answers.third(message, now)
        if agreed is None:
            self.dropped.strangers += 1
            return NOTHING, None
        stop = self._own(agreed.keys, agreed.hello.instance, source)
        if stop is not None:
            return stop, None
        if not agreed.version:
            return Step(events=(Failed(source, agreed.keys.peer, _versions(agreed)),)), None
        return self._add(agreed, message.index, False, source, now)

    def _stop(self, keys: PublicKeys, instance: bytes, source: Where) -> Step | None:
        """Why we want no session with who proved to have these keys; None: nothing."""
        if keys.peer in self.refused:
            self.dropped.refused += 1
            return NOTHING
        return self._own(keys, instance, source)

    def _own(self, keys: PublicKeys, instance: bytes, source: Where) -> Step | None:
        """Why no peer with these keys, which are ours, is to be answered; None: they are not."""
        if keys.peer != self._party.us.peer:
            return None
        cloned = instance != self._party.instance
        return Step(events=(Cloned(source),) if cloned else ())

    def _add(
        self, agreed: Agreed, index: int, initiated: bool, source: Where, now: float
    ) -> tuple[Step, Session]:
        self._epoch += 1
        session = Session(
            self._party.crypto,
            agreed,
            index=index,
            initiated=initiated,
            source=source,
            epoch=self._epoch,
            now=now,
            early=fraction(self._party.random),
        )
        gone = self._links.add(session)
        return Step(events=(*gone, KeysAdded(session.data))), session

    def _new_index(self) -> int:
        """Unpredictable, and not in use for anything."""
        while True:
            index = int.from_bytes(self._party.random(4), "big")
            if index and not (
                self._links.has_index(index)
                or self.attempts.has_index(index)
                or self._answers.has_index(index)
            ):
                return index


def _versions(agreed: Agreed) -> str:
    hello = agreed.hello
    return (
        f"it speaks versions {hello.oldest} to {hello.newest} of the protocol, this peer"
        f" {OLDEST} to {NEWEST}: one of the two needs a newer netkit"
    )
