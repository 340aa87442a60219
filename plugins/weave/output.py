"""What a mesh wants done."""

from __future__ import annotations

from dataclasses import dataclass, field

from plugins.weave.connector import Dial
from plugins.weave.identity import PeerId
from plugins.weave.step import Change, Event
from plugins.weave.taken import RecordChange


@dataclass(slots=True)
class Output:
    """What is to be done, in this order."""

    persist: list[Change] = field(default_factory=list)
    dial: list[Dial] = field(default_factory=list)
    messages: list[tuple[PeerId, bytes]] = field(default_factory=list)
    hang: list[PeerId] = field(default_factory=list)
    """Sessions to end."""
    relayed: list[tuple[PeerId, bytes]] = field(default_factory=list)
    """Datagrams for us that came by relay, and from whom as they say."""
    changes: list[RecordChange] = field(default_factory=list)
    """Of records of all kinds, for parts that are not in here."""
    events: list[Event] = field(default_factory=list)
