"""New records go to neighbours at once, who pass them on: an epidemic.

Our own goes to all neighbours.  What came from one of them goes to those that are not its
neighbours too, unless others send it to them.  A peer that is left out, or loses the message,
finds that by the next comparison (`antientropy`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from plugins.weave.antientropy import batches
from plugins.weave.crypto import Random
from plugins.weave.identity import PeerId
from plugins.weave.messages import Message, Push
from plugins.weave.probing import shuffled
from plugins.weave.record import Kind, Record

GATHER: Final = 0.02
"""Seconds that news waits for more."""
FANOUT: Final = 6
"""Neighbours that the news of others is passed on to, at most."""
MOST: Final = 512
"""Records that wait: of more than that, neighbours learn by comparison."""


class News:
    """Records to pass on, each with the neighbour that it came from, if any."""

    def __init__(
        self,
        send: Callable[[PeerId, Message], None],
        passed_on: Callable[[PeerId, Sequence[PeerId]], list[PeerId]],
        random: Random,
    ) -> None:
        """`passed_on`: which of our neighbours get what came from a peer."""
        self._send, self._passed_on, self._random = send, passed_on, random
        self._records: dict[tuple[PeerId, int, bytes], tuple[Record, PeerId | None]] = {}
        self._at = inf

    def add(self, record: Record, source: PeerId | None, now: float) -> None:
        """A newer record of the same place takes the older one's place."""
        if len(self._records) < MOST:
            self._records[record.origin, record.kind, record.key] = record, source
            self._at = min(self._at, now + GATHER)

    def clear(self) -> None:
        self._records = {}

    def deadline(self) -> float:
        return self._at

    def sizes(self) -> list[tuple[str, int, int]]:
        """(what, how many, at most)."""
        return [("news", len(self._records), MOST)]

    def tick(self, now: float, neighbours: Sequence[PeerId]) -> None:
        if self._at > now:
            return
        self._at = inf
        by_source: dict[PeerId | None, list[Record]] = {}
        for record, source in sorted(self._records.values(), key=_hosts_first):
            by_source.setdefault(source, []).append(record)
        self._records = {}
        blobs: dict[PeerId, list[bytes]] = {}
        for source, records in by_source.items():
            for peer in self._chosen(source, neighbours):
                for record in records:
                    if record.origin != peer:
                        blobs.setdefault(peer, []).append(record.blob)
        for peer, some in blobs.items():
            for batch in batches(some):
                self._send(peer, Push(batch))

    def _chosen(self, source: PeerId | None, neighbours: Sequence[PeerId]) -> list[PeerId]:
        if source is None:
            return list(neighbours)
        chosen = self._passed_on(source, neighbours)
        return chosen if len(chosen) <= FANOUT else shuffled(chosen, self._random)[:FANOUT]


def _hosts_first(news: tuple[Record, PeerId | None]) -> bool:
    return news[0].kind != Kind.HOST
