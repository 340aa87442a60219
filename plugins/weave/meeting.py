"""Which ledger a peer follows: its own, if it founded one, or that of the peers it meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from plugins.weave.entries import Genesis, Value
from plugins.weave.identity import PeerId
from plugins.weave.step import Event

STRANGERS: Final = 64  # peers of other ledgers that are shown


class Summary(Value, frozen=True):
    """What a peer's record says of its addresses."""

    genesis: Genesis
    used: bool  # whether it knows that something was allocated or given away
    free: int  # of the range, in powers of two: so many bits has the number of its free addresses


_SUMMARY: Final = msgspec.msgpack.Decoder(Summary)


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """This host follows another ledger than before."""

    genesis: Genesis
    source: PeerId


@dataclass(frozen=True, slots=True)
class Stranger(Event):
    """A peer whose addresses were founded apart from ours, so that they may be the same."""

    peer: PeerId
    genesis: Genesis


class Meeting:
    def __init__(self) -> None:
        self.summaries: dict[PeerId, Summary] = {}
        self.strangers: dict[PeerId, Genesis] = {}

    def received(self, peer: PeerId, value: bytes | None) -> Summary | None:
        """What a record says; what is none is taken for nothing."""
        self.summaries.pop(peer, None)
        self.strangers.pop(peer, None)
        if value is None:
            return None
        try:
            summary = _SUMMARY.decode(value)
            _ = summary.genesis.realm.range
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        self.summaries[peer] = summary
        return summary

    def free(self, peer: PeerId) -> int:
        summary = self.summaries.get(peer)
        return summary.free if summary else 0

    def used(self, ledger: bytes) -> bool:
        """Whether some peer that follows it knows of a use."""
        return any(each.used and each.genesis.id == ledger for each in self.summaries.values())

    def better(self, ours: bytes, ours_used: bool, other: Genesis) -> bool:
        """Whether a peer that has nothing follows another ledger rather than `ours`: one that is in
        use rather than one that is not; of two that are not, the one with the lower id.  Both in
        use: neither; the user has to choose."""
        ours_used = ours_used or self.used(ours)
        theirs_used = self.used(other.id)
        if ours_used or theirs_used:
            return theirs_used and not ours_used
        return other.id < ours

    def note_stranger(self, peer: PeerId, genesis: Genesis) -> bool:
        """Whether that is news."""
        news = peer not in self.strangers and len(self.strangers) < STRANGERS
        if news:
            self.strangers[peer] = genesis
        return news
