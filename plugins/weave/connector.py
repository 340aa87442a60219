"""Whom to connect to, where, and when to try again.

Wanted are the peers of the active view, those that data is exchanged with, and the targets a user
named.  A peer is tried at the first address that it or others say it has, a second later by relay,
too, so that data need not wait, then at its other addresses, with or without a relay; if all fail,
again after 2 s, 3 s, 4.5 s ... 6 min, each between half and one and a half of that.  One that is
dead is tried now and then, in turn with all the dead: so the halves of a network that was cut find
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from math import inf
from typing import Final

from plugins.weave.crypto import Random
from plugins.weave.identity import PeerId
from plugins.weave.probing import chance
from plugins.weave.step import Address, Relayed, Where

FIRST: Final = 2.0
GROWTH: Final = 1.5
LONGEST: Final = 360.0
LONELY: Final = 20.0
"""Instead of LONGEST, while there is no session at all."""
BETWEEN: Final = 3.0
"""Seconds that one address is given before the next one is tried."""
RELAY: Final = 1.0
"""Seconds that the first address is given before the relay is tried as well."""
DEAD: Final = 10.0
"""Seconds between two dead peers that are tried."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Please connect; `peer` None: to any peer that is there."""

    where: Where
    peer: PeerId | None


@dataclass(slots=True)
class _Attempt:
    at: float
    delay: float = FIRST
    turn: int = 0
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Trying:
    """For people: somebody who is tried for."""

    where: Where
    """Where next."""
    peer: PeerId | None
    rounds: int
    """In vain, so far."""
    wait: float
    """Seconds until the next attempt."""


class Connector:
    """`candidates` says where a peer may be, the best first; `unreached` is called after whole
    rounds that failed."""

    def __init__(
        self,
        candidates: Callable[[PeerId], Sequence[Where]],
        unreached: Callable[[PeerId, int, float], None],
        random: Random,
    ) -> None:
        self._candidates, self._unreached, self._random = candidates, unreached, random
        self._attempts: dict[PeerId | Address, _Attempt] = {}
        self._dead: list[PeerId] = []
        self._dead_at = inf
        self.targets: dict[Address, PeerId | None] = {}
        """With the peer that was found there."""
        self.sessions: dict[PeerId, Where] = {}

    def deadline(self) -> float:
        at = self._dead_at
        for attempt in self._attempts.values():
            at = min(at, attempt.at)
        return at

    def sizes(self, known: int) -> list[tuple[str, int, int]]:
        """(what, how many, at most), where that many peers are known."""
        return [("attempts", len(self._attempts), known + len(self.targets))]

    def trying(self, now: float) -> list[Trying]:
        found = []
        for key, attempt in self._attempts.items():
            wait = max(attempt.at - now, 0.0)
            if isinstance(key, Address):
                found.append(Trying(key, self.targets.get(key), attempt.rounds, wait))
                continue
            places = self._places(PeerId(key))
            turn = min(attempt.turn, len(places) - 1)
            where = places[turn] if places else Relayed(PeerId(key))
            found.append(Trying(where, PeerId(key), attempt.rounds, wait))
        return found

    # What is wanted

    def target(self, where: Address, now: float) -> None:
        self.targets.setdefault(where, None)
        for peer, there in self.sessions.items():
            if there == where:
                self.targets[where] = peer
                return
        self._attempts.setdefault(where, _Attempt(now))

    def forget(self, where: Address) -> None:
        self.targets.pop(where, None)
        self._attempts.pop(where, None)

    def want(self, peers: Iterable[PeerId], dead: Sequence[PeerId], now: float) -> None:
        """Exactly these, targets aside; and the dead ones now and then."""
        wanted = dict.fromkeys(peers)
        for there in [key for key in self._attempts if _is_peer(key) and key not in wanted]:
            del self._attempts[there]
        for peer in wanted:
            if peer not in self._attempts and not self._settled(peer):
                self._attempts[peer] = _Attempt(now + 0.5 * chance(self._random))
        self._dead = list(dead)
        if not dead:
            self._dead_at = inf
        elif self._dead_at == inf:
            self._dead_at = now + DEAD * (0.5 + chance(self._random))

    def again(self, peer: PeerId, now: float) -> None:
        """There is news of a peer that may be reached now."""
        attempt = self._attempts.get(peer)
        if attempt is not None and attempt.rounds:
            self._attempts[peer] = _Attempt(now + 0.5 * chance(self._random))

    def _settled(self, peer: PeerId) -> bool:
        return isinstance(self.sessions.get(peer), Address)

    # What happens

    def established(self, peer: PeerId, where: Where, now: float) -> None:
        first = peer not in self.sessions
        self.sessions[peer] = where
        if isinstance(where, Relayed):
            attempt = self._attempts.get(peer)
            if attempt is not None:
                if first and attempt.turn > 1:
                    attempt.turn -= 1  # the relay is no place any more that it is tried at
                self._wait(attempt, now)
            return
        self._attempts.pop(peer, None)
        self.answered(peer, where)

    def answered(self, peer: PeerId, where: Address) -> None:
        """A peer with a session is at an address, whether that is where the session goes or not."""
        if where in self.targets:
            self.targets[where] = peer
            self._attempts.pop(where, None)

    def lost(self, peer: PeerId, now: float, *, wanted: bool) -> None:
        self.sessions.pop(peer, None)
        if wanted:
            self._attempts[peer] = _Attempt(now + FIRST * chance(self._random))
        for where, found in self.targets.items():
            if found == peer:
                self._attempts.setdefault(where, _Attempt(now + FIRST * chance(self._random)))

    def itself(self, where: Address) -> None:
        """A target that is ourselves is not tried again."""
        self._attempts.pop(where, None)

    def tick(self, now: float) -> list[Dial]:
        dials: list[Dial] = []
        for key in [key for key, attempt in self._attempts.items() if attempt.at <= now]:
            attempt = self._attempts[key]
            if isinstance(key, Address):
                attempt.rounds += 1
                self._wait(attempt, now)
                dials.append(Dial(key, None))
            else:
                dials += self._dial(PeerId(key), attempt, now)
        if self._dead_at <= now:
            self._dead_at = now + DEAD * (0.5 + chance(self._random))
            dials += self._raise_dead()
        return dials

    def _places(self, peer: PeerId) -> list[Where]:
        """Where a peer is tried, in this order; by relay only while it has no session."""
        candidates = self._candidates(peer)
        direct: list[Where] = [where for where in candidates if isinstance(where, Address)]
        if peer in self.sessions:  # by relay: a direct way would be better
            return direct
        relay = [where for where in candidates if isinstance(where, Relayed)]
        return [*direct[:1], *relay, *direct[1:]]

    def _dial(self, peer: PeerId, attempt: _Attempt, now: float) -> list[Dial]:
        """The next place of a peer; after the last one a pause."""
        places, turn = self._places(peer), attempt.turn
        if turn + 1 < len(places):
            attempt.turn += 1
            attempt.at = now + (RELAY if isinstance(places[turn + 1], Relayed) else BETWEEN)
        else:
            attempt.turn = 0
            attempt.rounds += 1
            self._wait(attempt, now)
            if attempt.rounds > 1 and peer not in self.sessions:
                self._unreached(peer, attempt.rounds, now)
        return [Dial(places[turn], peer)] if turn < len(places) else []

    def _wait(self, attempt: _Attempt, now: float) -> None:
        attempt.at = now + attempt.delay * (0.5 + chance(self._random))
        longest = LONGEST if self.sessions else LONELY
        attempt.delay = min(attempt.delay * GROWTH, longest)

    def _raise_dead(self) -> list[Dial]:
        if not self._dead:
            return []
        peer = self._dead.pop(int(chance(self._random) * len(self._dead)))
        self._dead.insert(0, peer)
        direct = [where for where in self._candidates(peer) if isinstance(where, Address)]
        return [Dial(direct[int(chance(self._random) * len(direct))], peer)] if direct else []


def _is_peer(key: PeerId | Address) -> bool:
    return isinstance(key, bytes)


def outside(addresses: Iterable[Address], overlays: Iterable[str]) -> list[Address]:
    """Those in none of the overlay's own networks: a session through itself would go in circles."""
    networks = []
    for overlay in overlays:
        with suppress(ValueError):
            networks.append(ip_network(overlay, strict=False))
    found = []
    for address in addresses:
        try:
            host = ip_address(address.host)
        except ValueError:
            continue
        nowhere = host.is_unspecified or host.is_multicast or host.is_link_local
        usable = not (nowhere or host.is_loopback)
        if usable and not any(host in n for n in networks if n.version == host.version):
            found.append(address)
    return found
