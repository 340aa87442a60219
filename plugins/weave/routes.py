"""The way to a peer that we have no session with: by those that have one, the shortest way.

A link counts if both its ends name it in their LINKS records.  Of ways that are equally long, the
first by the ids of those on it is taken, so that all peers agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from plugins.weave.identity import PeerId
from plugins.weave.statements import PREFIX, Links, read
from plugins.weave.taken import RecordChange


class Routes:
    """A view of LINKS records: `apply` takes their changes, `reset` who is dead."""

    def __init__(self, me: PeerId) -> None:
        self.me = me
        self._links: dict[PeerId, bytes] = {}
        self._by_prefix: dict[bytes, PeerId] = {}
        self._first: dict[PeerId, PeerId] | None = None
        self._direct: tuple[PeerId, ...] = ()
        self._dead: frozenset[PeerId] = frozenset()

    def apply(self, change: RecordChange) -> None:
        links = None if change.new is None else read(change.new.value, Links)
        if links is None:
            self._links.pop(change.origin, None)
        else:
            self._links[change.origin] = links.neighbours
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

    def passed_on(self, source: PeerId, neighbours: Sequence[PeerId]) -> list[PeerId]:
        """Those of our neighbours to whom it falls to us to pass on what came from `source`.

        Not its own neighbours, nor those with whom it has two others in common that come before us.
        """
        packed = self._links.get(source)
        if packed is None:
            return [peer for peer in neighbours if peer != source]
        theirs, ours = frozenset(_split(packed)), self.me[:PREFIX]
        found = []
        for peer in neighbours:
            if peer == source or peer[:PREFIX] in theirs:
                continue
            between = [p for p in _split(self._links.get(peer, b"")) if p in theirs]
            if ours not in between[2:]:
                found.append(peer)
        return found

    def links(self, peer: PeerId) -> list[PeerId]:
        """Whom a peer says it has sessions with, as far as they are known."""
        prefixes = _split(self._links.get(peer, b""))
        return [self._by_prefix[p] for p in prefixes if p in self._by_prefix]

    def _search(self) -> dict[PeerId, PeerId]:
        first: dict[PeerId, PeerId] = {peer: peer for peer in self._direct}
        queue = deque(self._direct)
        while queue:
            peer = queue.popleft()
            for following in self.links(peer):
                mutual = _has(self._links.get(following, b""), peer)
                if not mutual or following in first or following == self.me:
                    continue
                if following not in self._dead:
                    first[following] = first[peer]
                    queue.append(following)
        return first


def _split(packed: bytes) -> list[bytes]:
    return [packed[at : at + PREFIX] for at in range(0, len(packed), PREFIX)]


def _has(packed: bytes, peer: bytes) -> bool:
    """Whether a peer, by its id or the beginning of it, is one of those."""
    at = packed.find(peer[:PREFIX])
    while at % PREFIX and at > 0:
        at = packed.find(peer[:PREFIX], at + 1)
    return at >= 0


def pack(peers: list[PeerId]) -> bytes:
    """The value of `Links.neighbours`."""
    return b"".join(sorted(peer[:PREFIX] for peer in peers))
