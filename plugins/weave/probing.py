"""SWIM's failure detector: a neighbour a second is pinged, through others if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from plugins.weave import limits
from plugins.weave.crypto import Random
from plugins.weave.identity import PeerId
from plugins.weave.messages import Message, PingRequest, Reached

PERIOD: Final = 1.0
PATIENCE: Final = 0.5
"""Seconds until others are asked, and again until it is given up."""
HELPERS: Final = 3
MISSED: Final = 2
"""Pings in turn that only others got an answer to, until the session is given up."""
MOST_ASKED: Final = 64
"""Requests of others that are answered at one time."""

Send = Callable[[PeerId, Message], None]


@dataclass(slots=True)
class _Probe:
    peer: PeerId
    until: float
    helped: bool


class Prober:
    """`ping` sends one to a neighbour; `failed` is notified of those that do not answer."""

    def __init__(
        self,
        ping: Callable[[PeerId, int], None],
        send: Send,
        failed: Callable[[PeerId, float], None],
        random: Random,
    ) -> None:
        self._ping, self._send, self._failed, self._random = ping, send, failed, random
        self._turn: list[PeerId] = []
        self._probes: dict[int, _Probe] = {}
        self._asked: dict[int, tuple[PeerId, int, float]] = {}
        self._missed: dict[PeerId, int] = {}
        self._next = inf

    def deadline(self) -> float:
        at = self._next
        for probe in self._probes.values():
            at = min(at, probe.until)
        return at

    def sizes(self) -> list[tuple[str, int, int]]:
        """(what, how many, at most)."""
        return [
            ("probes", len(self._probes), limits.ORIGINS),
            ("probes for others", len(self._asked), MOST_ASKED),
            ("neighbours that missed", len(self._missed), limits.ORIGINS),
        ]

    def tick(self, now: float, neighbours: Sequence[PeerId]) -> None:
        """`neighbours`: those with a session, in order."""
        for nonce in [n for n, probe in self._probes.items() if probe.until <= now]:
            self._overdue(nonce, now, neighbours)
        if not neighbours:
            self._next = inf
        elif self._next <= now:
            self._next = now + PERIOD
            self._probe(now, neighbours)
        elif self._next == inf:
            self._next = now + PERIOD * chance(self._random)

    def _probe(self, now: float, neighbours: Sequence[PeerId]) -> None:
        there = frozenset(neighbours)
        while self._turn and self._turn[-1] not in there:
            self._turn.pop()
        if not self._turn:
            self._turn = shuffled(neighbours, self._random)
        peer = self._turn.pop()
        nonce = self._begin(peer, now, helped=False)
        self._ping(peer, nonce)

    def _begin(self, peer: PeerId, now: float, *, helped: bool) -> int:
        nonce = self._nonce()
        self._probes[nonce] = _Probe(peer, now + PATIENCE, helped)
        return nonce

    def _nonce(self) -> int:
        """Random, so that only a peer that was asked can answer."""
        return int.from_bytes(self._random(4), "big")

    def _overdue(self, nonce: int, now: float, neighbours: Sequence[PeerId]) -> None:
        probe = self._probes.pop(nonce)
        if probe.helped:
            self._failed(probe.peer, now)
        else:
            self.indirect(probe.peer, now, neighbours, nonce)

    def indirect(
        self, peer: PeerId, now: float, neighbours: Sequence[PeerId], nonce: int | None = None
    ) -> None:
        """Ask others whether they reach a peer, with a nonce that it may still answer itself."""
        if nonce is None:
            nonce = self._begin(peer, now, helped=True)
        self._probes[nonce] = _Probe(peer, now + 2 * PATIENCE, True)
        helpers = shuffled([other for other in neighbours if other != peer], self._random)
        for helper in helpers[:HELPERS]:
            self._send(helper, PingRequest(nonce, peer))

    def asked(self, by: PeerId, message: PingRequest, now: float) -> None:
        """Ping somebody for a neighbour."""
        for nonce in [n for n, (_, _, until) in self._asked.items() if until <= now]:
            del self._asked[nonce]
        if len(self._asked) < MOST_ASKED:
            nonce = self._nonce()
            self._asked[nonce] = (by, message.nonce, now + 2 * PATIENCE)
            self._ping(message.target, nonce)

    def established(self, peer: PeerId) -> None:
        """A peer has just shown that it is there, in a new session: what was asked before, of a
        process that may be gone, says nothing any more."""
        for nonce in [n for n, probe in self._probes.items() if probe.peer == peer]:
            del self._probes[nonce]
        self._missed.pop(peer, None)

    def answered(self, peer: PeerId, nonce: int) -> None:
        """An Ack came."""
        probe = self._probes.get(nonce)
        if probe is not None and probe.peer == peer:
            del self._probes[nonce]
            self._missed.pop(peer, None)
        asked = self._asked.pop(nonce, None)
        if asked is not None:
            by, theirs, _ = asked
            self._send(by, Reached(theirs))

    def reached(self, nonce: int) -> PeerId | None:
        """A Reached came; return a peer whose session is of no use, as others do reach it."""
        probe = self._probes.pop(nonce, None)
        if probe is None or not probe.helped:
            return None
        missed = self._missed.pop(probe.peer, 0) + 1
        if missed >= MISSED:
            return probe.peer
        self._missed[probe.peer] = missed
        return None


def chance(random: Random) -> float:
    """At least 0, below 1."""
    return int.from_bytes(random(4), "big") / 2**32


def shuffled(peers: Sequence[PeerId], random: Random) -> list[PeerId]:
    """In an order of chance."""
    left = list(peers)
    numbers = random(2 * len(left))
    for at in range(len(left) - 1, 0, -1):
        other = int.from_bytes(numbers[2 * at : 2 * at + 2], "big") % (at + 1)
        left[at], left[other] = left[other], left[at]
    return left
