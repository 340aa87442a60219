"""The records of one origin, as this peer has them: in part, or all of them.

What is whole is known without trust in those who passed the records on: an origin signs, with each
record, the digest of all its live ones.  A replica is complete when its own set has the digest that
the newest record (the head) names.  So deletions need not be kept for long: who has missed one
finds that the digest differs, and takes a manifest (`Replica.adopt`), the list of live items.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from plugins.weave import limits
from plugins.weave.record import Body, Place, Record, set_digest

EMPTY: Final = set_digest(())


class Outcome(Enum):
    """What became of a record that was merged."""

    NEW = "new"  # it counts, and others may not have it yet
    KNOWN = "known"  # it was here
    STALE = "stale"  # something newer is here, or it was deleted since
    FULL = "full"  # the origin has more than it may have
    FORKED = "forked"  # another record of this version is here, as validly signed: a faulty origin


class Replica:
    """A set of records of one origin; `head` is the newest, and may be a deletion.

    After `merge` and before anything else, `settle` has to be called: once for several records.
    """

    __slots__ = ("_digest", "_manifest", "complete", "floor", "gone", "head", "live", "wanted")

    def __init__(self) -> None:
        self.head: Record | None = None
        self.live: dict[Place, Record] = {}
        self.gone: dict[Place, Record] = {}
        """The newest deletions, oldest first, for those who do not know of them."""
        self.floor = 0
        """Of versions up to this one only those live or in `wanted` count: others are deleted."""
        self.wanted: frozenset[bytes] = frozenset()
        """Items of a manifest that are still missing here."""
        self.complete = True
        self._digest: bytes | None = EMPTY
        self._manifest: tuple[int, frozenset[bytes]] | None = None

    @property
    def version(self) -> int:
        """Of the head; 0 before the first record."""
        return 0 if self.head is None else self.head.version

    @property
    def epoch(self) -> int:
        """Of the head."""
        return 0 if self.head is None else self.head.epoch

    @property
    def digest(self) -> bytes:
        """Of what is here, which is the head's when complete."""
        if self._digest is None:
            self._digest = set_digest([record.item for record in self.live.values()])
        return self._digest

    def items(self) -> list[bytes]:
        """Of all live records here, in the order of versions: a manifest when complete."""
        return sorted([record.item for record in self.live.values()])

    def knows(self, body: Body, blob: bytes) -> bool:
        """Whether a record is nothing new for sure, before it is looked at closely."""
        if body.version > self.version:
            return False
        held = self.holding(body.version, (body.kind, body.key))
        return self.complete if held is None else held.blob == blob

    def holding(self, version: int, place: Place) -> Record | None:
        """The record here that has this version."""
        for held in (self.live.get(place), self.head, self.gone.get(place)):
            if held is not None and held.version == version:
                return held
        return None

    def merge(self, record: Record, room: int = limits.RECORDS) -> Outcome:
        """Take a record whose signature holds; `room`: for how many in all there is."""
        held = self.holding(record.version, record.place)
        if held is not None:
            return self._fork(held, record)
        if not self.counts(record):
            return Outcome.STALE
        fresh = record.value is not None and record.place not in self.live
        if fresh and len(self.live) >= room:
            return Outcome.FULL
        self._place(record)
        if record.version > self.version:
            self.head = record
        return Outcome.NEW

    def own(self, record: Record) -> None:
        """Take the origin's own new record: what the origin has is all there is."""
        self._place(record)
        self.head = record
        self.settle()

    def digest_with(self, place: Place, item: bytes | None) -> bytes:
        """As it will be when `place` has this item: for a record that is being made."""
        items = [record.item for at, record in self.live.items() if at != place]
        return set_digest(items if item is None else [*items, item])

    def adopt(self, version: int, items: Iterable[bytes]) -> bool:
        """Take a manifest; False: it is not that of the head.

        What it lists and is not here is in `wanted` after that.  What is here and not listed ends
        with `settle`, once all that is listed is here: a record that no peer has any more leaves
        everybody with what there was before.
        """
        listed = frozenset(items)
        head = self.head
        if head is None or head.version != version or set_digest(listed) != head.digest:
            return False
        self.wanted = listed.difference(record.item for record in self.live.values())
        self._manifest = version, listed
        return True

    def newer(self, version: int) -> list[Record]:
        """Live records and remembered deletions after `version`, the oldest first."""
        if version >= self.version:
            return []
        found = [record for record in self.live.values() if record.version > version]
        if self.gone:
            found += [record for record in self.gone.values() if record.version > version]
        return sorted(found, key=_version)

    def counts(self, record: Record) -> bool:
        """Whether a record that is not here says anything new."""
        if record.version > self.version:
            return True
        if self.complete:
            return False
        there = self.live.get(record.place) or self.gone.get(record.place)
        if self._manifest is not None and record.item in self.wanted:
            return there is None or there.version <= self._manifest[0]
        if record.version <= self.floor:
            return False
        return there is None or there.version < record.version

    def settle(self) -> list[Record]:
        """Find out whether this is all there is; return what a manifest has ended."""
        head = self.head
        ended: list[Record] = []
        if self._manifest is not None:
            ended = self._finish(*self._manifest)
        self.complete = head is None or self.digest == head.digest
        if self.complete:
            self.floor = self.version
            self.wanted = frozenset()
            self._manifest = None
        return ended

    def _finish(self, version: int, listed: frozenset[bytes]) -> list[Record]:
        if version != self.version:
            self._manifest, self.wanted = None, frozenset()
            return []
        if not listed.issubset(record.item for record in self.live.values()):
            return []
        ended = [record for record in self.live.values() if record.item not in listed]
        for record in ended:
            del self.live[record.place]
        self._digest = None
        return ended

    def _fork(self, held: Record, record: Record) -> Outcome:
        """Two records of one version: everywhere the one with the greater body counts."""
        if held.body == record.body:
            return Outcome.KNOWN
        if record.body > held.body:
            self.live.pop(held.place, None)
            self.gone.pop(held.place, None)
            self._place(record)
            if self.head is held:
                self.head = record
        return Outcome.FORKED

    def _place(self, record: Record) -> None:
        place = record.place
        self.gone.pop(place, None)
        self.live.pop(place, None)
        self._digest = None
        self.complete = False
        if record.value is not None:
            self.live[place] = record
            return
        self.gone[place] = record
        if len(self.gone) > limits.DELETIONS:
            oldest = self.gone.pop(next(iter(self.gone)))
            self.floor = max(self.floor, oldest.version)


def _version(record: Record) -> int:
    return record.version
