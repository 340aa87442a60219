"""What a change of records causes, for those who keep, pass on or look at them."""

from __future__ import annotations

from dataclasses import dataclass, field

from plugins.weave.identity import PeerId
from plugins.weave.record import Record
from plugins.weave.step import Change, Event


@dataclass(frozen=True, slots=True)
class RecordChange:
    """What is at a place of an origin became something else; None: there is (was) nothing."""

    origin: PeerId
    kind: int
    key: bytes
    old: Record | None
    new: Record | None


@dataclass(frozen=True, slots=True)
class Faulty(Event):
    """A peer has signed two different records as one version, or more than it may have."""

    origin: PeerId
    why: str


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """Others have records of ours that we do not remember: our state is an older copy.

    They count again, as far as they are still known; what we say from now on is newer.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class InUse(Event):
    """Another process that is alive has our key: a state directory was copied."""


@dataclass(slots=True)
class Taken:
    """What happened since the last `Records.take`."""

    changes: list[RecordChange] = field(default_factory=list)
    writes: list[Change] = field(default_factory=list)
    fresh: list[Record] = field(default_factory=list)
    """New to us, our own among them: others may not have them."""
    events: list[Event] = field(default_factory=list)
    touched: dict[PeerId, None] = field(default_factory=dict)
    """Origins whose set is another one now."""
