"""Whom we talk to: sessions that there are, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from plugins.weave.identity import PeerId
from plugins.weave.view import neighbours

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


class Neighbourhood:
    """`peers`: those with a session, in order.  `stale`: `wanted` has to be worked out anew."""

    def __init__(self, me: PeerId, *, discovery: bool) -> None:
        self._me, self._discovery = me, discovery
        self._sessions: dict[PeerId, _Session] = {}
        self._view: list[PeerId] = []
        self._viewed = -1
        self._needed: dict[tuple[PeerId, str], None] = {}
        self.peers: list[PeerId] = []
        self.wanted: dict[PeerId, None] = {}
        self.stale = True

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._sessions

    def open(self, peer: PeerId, now: float) -> None:
        self._sessions[peer] = _Session(now)
        self.moved()

    def close(self, peer: PeerId) -> bool:
        """False: there is none."""
        if self._sessions.pop(peer, None) is None:
            return False
        self.moved()
        return True

    def moved(self) -> None:
        """A session was made, ended, or goes another way."""
        self.peers = sorted(self._sessions)
        self.stale = True

    def exchange(self, peer: PeerId, wanted: bool, what: str = "data") -> None:
        """Whether something is exchanged with a peer; `what` distinguishes those who say so."""
        if wanted:
            self._needed[peer, what] = None
        else:
            self._needed.pop((peer, what), None)
        self.stale = True

    def look(self, live: Sequence[PeerId], changes: int) -> None:
        """Work out who is wanted: with `changes` as before, the same are `live`."""
        self.stale = False
        if self._discovery and self._viewed != changes:
            self._viewed = changes
            self._view = neighbours(self._me, live)
        self.wanted = dict.fromkeys([*self._view, *(peer for peer, _ in self._needed)])

    def note_keep(self, peer: PeerId, keep: bool) -> None:
        """Whether the other side wants the session."""
        self._sessions[peer].keep = keep

    def idle(self, peer: PeerId, now: float) -> bool:
        """Whether the other side has no use for the session, for long."""
        session = self._sessions[peer]
        return not session.keep and now - session.since > IDLE

    def compare(self, peer: PeerId, now: float, changed: float) -> bool:
        """Whether it is time to compare with a neighbour that has other records.

        `changed`: when ours did so for the last time.
        """
        session = self._sessions[peer]
        if now - session.compared < (BUSY if now - changed < QUIET else COMPARED):
            return False
        session.compared = now
        return True
