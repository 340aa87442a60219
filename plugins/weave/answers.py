"""Sessions that others ask for: first messages are answered, third ones end a first contact."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from plugins.weave.admission import Admission
from plugins.weave.handshake import Agreed, Answering, Party
from plugins.weave.step import Send, Where
from plugins.weave.trust import Trust
from plugins.weave.wire import Handshake, Kind, WireError

WITHIN = 10.0  # seconds in which the third message has to come
MOST = 256  # first contacts under way; the oldest goes
WRONG = 4  # forged third messages that are worked on


@dataclass(slots=True)
class _Pending:
    answering: Answering
    until: float
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    send: Send
    agreed: Agreed | None  # None: XX, where the third message says


class Answers:
    def __init__(self, party: Party, admission: Admission, trust: Trust) -> None:
        self._party, self._admission, self._trust = party, admission, trust
        self._pending: OrderedDict[int, _Pending] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def has_index(self, index: int) -> bool:
        return index in self._pending

    def indexes(self) -> frozenset[int]:
        """Under which third messages come."""
        return frozenset(self._pending)

    def deadline(self) -> float:
        return next((p.until for p in self._pending.values()), float("inf"))

    def tick(self, now: float) -> None:
        while self._pending and now >= next(iter(self._pending.values())).until:
            self._pending.popitem(last=False)

    def read(self, message: Handshake) -> Answering:
        """An admitted first message.  WireError: it is to be dropped."""
        return Answering(self._party, message.pattern, message.index, message.noise)

    def answer(
        self, message: Handshake, answering: Answering, index: int, source: Where, now: float
    ) -> Answer:
        """The second message; of XX the rest is awaited under `index`.  WireError: dropped."""
        noise = answering.second(index, sealed=self._trust.needs_sealing(source))
        second = self._admission.message(Kind.SECOND, message.pattern, message.index, noise)
        agreed = None
        if answering.keys:
            agreed = answering.agreed()
        else:
            self._pending[index] = _Pending(answering, now + WITHIN)
            if len(self._pending) > MOST:
                self._pending.popitem(last=False)
        return Answer(Send(second.encode(), source), agreed)

    def third(self, message: Handshake, now: float) -> Agreed | None:
        """Of a `genuine` third message; None: it belongs to no first contact."""
        pending = self._pending.get(message.index)
        if pending is None or now >= pending.until:
            return None
        try:
            agreed = pending.answering.agreed(message.noise)
        except WireError:
            pending.wrong += 1
            if pending.wrong >= WRONG:
                del self._pending[message.index]
            return None
        del self._pending[message.index]
        return agreed
