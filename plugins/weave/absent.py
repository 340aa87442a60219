"""Peers whose records are refused: removed for ever, or forgotten up to a version."""

from __future__ import annotations

from typing import Final

from plugins.weave import limits
from plugins.weave.identity import PeerId
from plugins.weave.step import Change

BELOW_TABLE: Final = "weave_below"
"""Rows: a peer that was removed -> b""; one that was forgotten -> a version, 8 bytes."""
NEVER: Final = 1 << 64


class Absent:
    """Removed peers and forgotten ones, the newest `limits.REFUSED`."""

    def __init__(self) -> None:
        self._below: dict[PeerId, int] = {}

    def load(self, origin: PeerId, packed: bytes) -> None:
        """A row of BELOW_TABLE."""
        self._below[origin] = int.from_bytes(packed, "big") if packed else NEVER

    def removed(self, origin: PeerId) -> bool:
        return self._below.get(origin) == NEVER

    def all_removed(self) -> frozenset[PeerId]:
        return frozenset(origin for origin, below in self._below.items() if below == NEVER)

    def welcome(self, origin: PeerId, version: int) -> bool:
        """Whether a record of this version may bring in a peer that has none here."""
        return version > self._below.get(origin, 0)

    def remove(self, origin: PeerId) -> list[Change]:
        return self._set(origin, NEVER)

    def forget(self, origin: PeerId, version: int) -> list[Change]:
        return self._set(origin, max(version, self._below.get(origin, 0)))

    def _set(self, origin: PeerId, below: int) -> list[Change]:
        self._below.pop(origin, None)
        self._below[origin] = below
        packed = b"" if below == NEVER else below.to_bytes(8, "big")
        writes = [Change(BELOW_TABLE, origin, packed)]
        if len(self._below) > limits.REFUSED:
            oldest = next(iter(self._below))
            del self._below[oldest]
            writes.append(Change(BELOW_TABLE, oldest, None))
        return writes
