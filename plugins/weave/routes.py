"""The way to a peer that we have no session with: by those that have one, the shortest way.

A link counts if both its ends name it in their LINKS records.  Of ways that are equally long, the
first by the ids of those on it is taken, so that all peers agree.
"""

from __future__ import annotations

import heapq
from collections import deque

from plugins.weave.identity import PeerId
from plugins.weave.statements import PREFIX, Links, read
from plugins.weave.taken import RecordChange


class Routes:
    """A view of LINKS records: `apply` has to be told of their changes, `reset` of who is dead."""

    def __init__(self, me: PeerId) -> None:
        self.me = me
        self._links: dict[PeerId, frozenset[bytes]] = {}
        self._by_prefix: dict[bytes, PeerId] = {}
        self._first: dict[PeerId, PeerId] | None = None
        self._direct: tuple[PeerId, ...] = ()
        self._dead: frozenset[PeerId] = frozenset()

    def apply(self, change: RecordChange) -> None:
        links = None if change.new is None else read(change.new.value, Links)
        if links is None:
            self._links.pop(change.origin, None)
        else:
            packed = links.neighbours
            self._links[change.origin] = frozenset(
                packed[at : at + PREFIX] for at in range(0, len(packed), PREFIX)
            )
            self._by_prefix[change.origin[:PREFIX]] = change.origin
        self._first = None

    def reset(self, direct: tuple[PeerId, ...], dead: frozenset[PeerId]) -> None:
        """`direct`: whom we have a session with, not by relay, in order."""
        if direct != self._direct or dead != self._dead:
            self._direct, self._dead, self._first = direct, dead, None

    def next_hop(self, peer: PeerId) -> PeerId | None:
        """Whom to give what is for a peer; None: there is no way."""
        if self._first is None:
            self._first = self._search()
        return self._first.get(peer)

    def passes_on(self, source: PeerId, peer: PeerId) -> bool:
        """Whether it falls to us to pass on to `peer` what came from `source`.

        Not if they are neighbours, nor if two others before us are neighbours of both.
        """
        theirs = self._links.get(source)
        if theirs is None:
            return True
        if peer[:PREFIX] in theirs:
            return False
        between = theirs & self._links.get(peer, frozenset())
        ours = self.me[:PREFIX]
        return ours not in between or ours in heapq.nsmallest(2, between)

    def links(self, peer: PeerId) -> list[PeerId]:
        """Whom a peer says it has sessions with, as far as they are known."""
        prefixes = sorted(self._links.get(peer, frozenset()))
        return [self._by_prefix[p] for p in prefixes if p in self._by_prefix]

    def _search(self) -> dict[PeerId, PeerId]:
        first: dict[PeerId, PeerId] = {peer: peer for peer in self._direct}
        queue = deque(self._direct)
        while queue:
            peer = queue.popleft()
            for following in self.links(peer):
                mutual = peer[:PREFIX] in self._links.get(following, frozenset())
                if not mutual or following in first or following == self.me:
                    continue
                if following not in self._dead:
                    first[following] = first[peer]
                    queue.append(following)
        return first


def pack(peers: list[PeerId]) -> bytes:
    """The value of `Links.neighbours`."""
    return b"".join(sorted(peer[:PREFIX] for peer in peers))
