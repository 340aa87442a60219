"""Sessions that we ask for: first messages, their repetition, cookies, and answers.

Each repetition is a handshake of its own, so a lost answer costs one pause.  Once an answer came
the session waits until the other side uses it (`Attempt.session`): until then the last word is
repeated, and if that does not help all begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from plugins.weave.admission import SECRET_FOR, Admission
from plugins.weave.control import Control, What
from plugins.weave.crypto import Random
from plugins.weave.handshake import Agreed, Opening, Party
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.session import Session
from plugins.weave.step import Send, Where
from plugins.weave.wire import Cookie, Handshake, Kind, WireError

RETRY, RETRY_GROWTH, RETRY_MOST = 1.0, 1.5, 5.0  # seconds
JITTER = 0.25  # of a pause, more or less
GIVE_UP = 90.0  # seconds
REPEATS = 3  # of the last word
WRONG = 8  # forged answers to one message that are worked on, three DH each
RETURNS = 3  # own messages that come back until the address is taken for one of our own
PLACES = 8  # that one peer is tried at
MOST = 256  # attempts at once


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt:
    where: Where  # the last message went there
    places: tuple[Where, ...]  # are tried in turn
    keys: PublicKeys | None
    began: float
    due: float
    pause: float = RETRY
    tries: int = 0
    opening: Opening | None = None
    message: Handshake | None = None
    index: int = 0
    cookie: bytes = b""
    cookie_until: float = 0.0
    cookied: bool = False  # this message was sent again with a cookie that came for it
    wrong: int = 0
    returned: bool = False  # this message came back to us
    returns: int = 0  # messages in a row that did
    session: Session | None = field(default=None, repr=False)
    last_word: Handshake | None = None
    repeats: int = 0

    @property
    def peer(self) -> PeerId | None:
        return self.keys.peer if self.keys else None

    @property
    def itself(self) -> bool:
        """The address is one of our own, as far as can be known."""
        return self.returns >= RETURNS

    @property
    def goal(self) -> Where | PeerId:
        return self.keys.peer if self.keys else self.places[0]


class Attempts:
    """`index` gives one that nothing else uses; `sealed` says what we demand of an address."""

    def __init__(
        self,
        party: Party,
        admission: Admission,
        *,
        index: Callable[[], int],
        sealed: Callable[[Where], bool],
    ) -> None:
        self._party, self._admission = party, admission
        self._index, self._sealed = index, sealed
        self._by_goal: dict[Where | PeerId, Attempt] = {}
        self._by_index: dict[int, Attempt] = {}

    def __len__(self) -> int:
        return len(self._by_goal)

    def __contains__(self, goal: Where | PeerId) -> bool:
        return goal in self._by_goal

    @property
    def full(self) -> bool:
        return len(self._by_goal) >= MOST

    def has_index(self, index: int) -> bool:
        return index in self._by_index

    def indexes(self) -> frozenset[int]:
        """Under which answers come."""
        return frozenset(self._by_index)

    def deadline(self) -> float:
        attempts = self._by_goal.values()
        return min((min(a.due, a.began + GIVE_UP) for a in attempts), default=float("inf"))

    def start(
        self, places: tuple[Where, ...], keys: PublicKeys | None, now: float
    ) -> tuple[Send, ...]:
        """Nothing at once, if it is under way already: then these places are tried as well."""
        attempt = Attempt(where=places[0], places=places, keys=keys, began=now, due=now)
        before = self._by_goal.get(attempt.goal)
        if before:
            more = tuple(place for place in places if place not in before.places)
            before.places = (*before.places, *more)[:PLACES]
        if before or self.full:
            return ()
        self._by_goal[attempt.goal] = attempt
        return (self._send_first(attempt, now),)

    def tick(self, now: float) -> tuple[tuple[Send, ...], tuple[Attempt, ...]]:
        """What is to be sent again, and what is given up."""
        due = [attempt for attempt in self._by_goal.values() if now >= attempt.due]
        for attempt in due:
            attempt.returns = attempt.returns + 1 if attempt.returned else 0
        given_up = tuple(a for a in self._by_goal.values() if now >= a.began + GIVE_UP or a.itself)
        for attempt in given_up:
            self.end(attempt)
        due = [attempt for attempt in due if attempt not in given_up]
        return tuple(send for attempt in due for send in self._again(attempt, now)), given_up

    def came_back(self, message: Handshake) -> bool:
        """Whether that is a first message of our own.

        Somebody may have sent it back to us, so that counts only if it happens each time and nobody
        else answers.
        """
        for attempt in self._by_goal.values():
            if attempt.message is not None and attempt.message.mac1 == message.mac1:
                attempt.returned = True
                return True
        return False

    def take_cookie(self, reply: Cookie, now: float) -> tuple[Send, ...]:
        """The same message again, with the cookie; once for each message."""
        attempt = self._by_index.get(reply.index)
        message = attempt.message if attempt else None
        if attempt is None or message is None or attempt.cookied or attempt.session:
            return ()
        cookie = self._admission.read_cookie(reply, message.mac1)
        if cookie is None:
            return ()
        attempt.cookie, attempt.cookie_until = cookie, now + SECRET_FOR
        attempt.cookied = True
        return (self._dress(attempt, message, now),)

    def answered(self, message: Handshake) -> tuple[Attempt, Agreed] | None:
        """For a `genuine` second message; None: it answers none of ours."""
        attempt = self._by_index.get(message.index)
        if attempt is None or attempt.opening is None or attempt.session or attempt.wrong >= WRONG:
            return None
        if message.pattern != attempt.opening.pattern:
            return None
        try:
            agreed, third = attempt.opening.second(message.noise)
        except WireError:
            attempt.wrong += 1
            return None
        if third:
            attempt.last_word = self._admission.message(
                Kind.THIRD, message.pattern, agreed.hello.index, third
            )
        return attempt, agreed

    def await_confirmation(self, attempt: Attempt, session: Session, now: float) -> Send:
        """The last word of the handshake; repeated until the session is confirmed."""
        attempt.session, attempt.repeats = session, 0
        attempt.pause = RETRY
        attempt.due = now + self._jittered(RETRY)
        return self._say_last_word(attempt)

    def moved(self, peer: PeerId, before: Where, where: Where) -> None:
        """What goes to where that peer was is to go where it is; tries of other places go on."""
        attempt = self._by_goal.get(peer)
        if attempt:
            attempt.places = tuple(where if p == before else p for p in attempt.places)

    def cancel(self, peer: PeerId) -> None:
        """Whatever is known to lead to that peer."""
        for attempt in list(self._by_goal.values()):
            if peer == (attempt.session.peer if attempt.session else attempt.peer):
                self.end(attempt)

    def end(self, attempt: Attempt) -> None:
        self._by_goal.pop(attempt.goal, None)
        self._by_index.pop(attempt.index, None)

    def _again(self, attempt: Attempt, now: float) -> tuple[Send, ...]:
        if attempt.session and attempt.repeats < REPEATS:
            attempt.repeats += 1
            attempt.due = now + self._jittered(RETRY)
            greeting = attempt.session.seal(Kind.CONTROL, Control(What.GREETING).encode())
            send = Send(greeting, attempt.session.source)
            return (self._say_last_word(attempt), send) if attempt.last_word else (send,)
        return (self._send_first(attempt, now),)

    def _send_first(self, attempt: Attempt, now: float) -> Send:
        self._by_index.pop(attempt.index, None)
        attempt.where = attempt.places[attempt.tries % len(attempt.places)]
        attempt.tries += 1
        attempt.index = self._index()
        self._by_index[attempt.index] = attempt
        attempt.session, attempt.last_word, attempt.wrong = None, None, 0
        attempt.cookied = attempt.returned = False
        attempt.opening = Opening(
            self._party, attempt.index, attempt.keys, sealed=self._sealed(attempt.where)
        )
        message = self._admission.message(
            Kind.FIRST, attempt.opening.pattern, attempt.index, attempt.opening.first
        )
        attempt.due = now + self._jittered(attempt.pause)
        attempt.pause = min(attempt.pause * RETRY_GROWTH, RETRY_MOST)
        return self._dress(attempt, message, now)

    def _dress(self, attempt: Attempt, message: Handshake, now: float) -> Send:
        cookie = attempt.cookie if now < attempt.cookie_until else b""
        attempt.message = self._admission.message(
            message.kind, message.pattern, message.index, message.noise, cookie
        )
        return Send(attempt.message.encode(), attempt.where)

    def _say_last_word(self, attempt: Attempt) -> Send:
        session = attempt.session
        assert session is not None
        if attempt.last_word:
            return Send(attempt.last_word.encode(), session.source)
        greeting = session.seal(Kind.CONTROL, Control(What.GREETING).encode())
        return Send(greeting, session.source)

    def _jittered(self, pause: float) -> float:
        return pause * (1 - JITTER + 2 * JITTER * fraction(self._party.random))


def fraction(random: Random) -> float:
    """From 0 up to 1."""
    return int.from_bytes(random(4), "big") / 2**32
