"""A tree of digests over the records of origins, so that two peers find what differs.

Those of peers that are dead are left out: some of them may be gone everywhere, and what is
known of them differs for good.

256 buckets, by the first byte of the origin's id; 16 groups of 16 buckets; one root.  A digest is
of all that is below it, in order, and is worked out when it is asked for, if something below it has
changed since.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from plugins.weave.crypto import digest
from plugins.weave.identity import PeerId
from plugins.weave.messages import FANOUT
from plugins.weave.record import DIGEST
from plugins.weave.records import Records


class Tree:
    """`touch` every origin whose set has changed, or that died or came back."""

    def __init__(self, records: Records, counts: Callable[[PeerId], bool]) -> None:
        """`counts`: whether an origin is not dead."""
        self._records, self._counts = records, counts
        self._origins: list[list[PeerId]] = [[] for _ in range(FANOUT * FANOUT)]
        empty = digest(DIGEST)
        self._buckets = [empty] * (FANOUT * FANOUT)
        self._groups = [digest(DIGEST, *self._buckets[:FANOUT])] * FANOUT
        self._root = digest(DIGEST, *self._groups)
        self._stale: dict[int, None] = {}

    def touch(self, origin: PeerId) -> None:
        origins = self._origins[origin[0]]
        there = bisect_left(origins, origin)
        known = there < len(origins) and origins[there] == origin
        replica = self._records.replica(origin)
        if replica is None or replica.head is None or not self._counts(origin):
            if known:
                del origins[there]
        elif not known:
            origins.insert(there, origin)
        self._stale[origin[0]] = None

    @property
    def root(self) -> bytes:
        self._refresh()
        return self._root

    def groups(self) -> bytes:
        """Of all groups."""
        self._refresh()
        return b"".join(self._groups)

    def buckets(self, group: int) -> bytes:
        """Of all buckets of a group."""
        self._refresh()
        return b"".join(self._buckets[group * FANOUT : (group + 1) * FANOUT])

    def origins(self, bucket: int) -> list[PeerId]:
        """In order; not to be changed."""
        return self._origins[bucket]

    def _refresh(self) -> None:
        if not self._stale:
            return
        for bucket in self._stale:
            self._buckets[bucket] = digest(DIGEST, *map(self._leaf, self._origins[bucket]))
        for group in sorted({bucket // FANOUT for bucket in self._stale}):
            children = self._buckets[group * FANOUT : (group + 1) * FANOUT]
            self._groups[group] = digest(DIGEST, *children)
        self._root = digest(DIGEST, *self._groups)
        self._stale = {}

    def _leaf(self, origin: PeerId) -> bytes:
        replica = self._records.replica(origin)
        if replica is None:
            return b""
        return origin + replica.version.to_bytes(8, "big") + replica.digest


def differing(mine: bytes, theirs: bytes) -> list[int]:
    """Indices of digests that differ, of two lists one after the other."""
    return [
        at // DIGEST
        for at in range(0, len(mine), DIGEST)
        if mine[at : at + DIGEST] != theirs[at : at + DIGEST]
    ]
