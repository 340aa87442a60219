"""What the parts of the address space want done, collected while one call runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from plugins.weave.entries import Decided
from plugins.weave.identity import PeerId
from plugins.weave.space_messages import Message
from plugins.weave.step import Change, Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """As a `Step`: `persist` first, in one transaction, then the rest.

    `tell`: messages to peers, over whichever session or relay there is; they may be lost, doubled
    or late.  `publish`: records of ours of kind SPACE, (key, value).
    """

    persist: tuple[Change, ...] = ()
    messages: tuple[tuple[PeerId, Message], ...] = ()
    publish: tuple[tuple[bytes, bytes], ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(slots=True)
class Outbox:
    me: PeerId
    changes: list[Change] = field(default_factory=list)
    messages: list[tuple[PeerId, Message]] = field(default_factory=list)
    own: list[Message] = field(default_factory=list)  # to ourselves, read before the call ends
    published: dict[bytes, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def save(self, table: str, key: bytes, value: bytes | None) -> None:
        self.changes.append(Change(table, key, value))

    def send(self, peer: PeerId, message: Message) -> None:
        if peer == self.me:
            self.own.append(message)
        else:
            self.messages.append((peer, message))

    def send_all(self, peers: tuple[PeerId, ...], message: Message) -> None:
        for peer in peers:
            self.send(peer, message)

    def take(self) -> Outcome:
        """What was collected since the last time."""
        outcome = Outcome(
            tuple(self.changes), tuple(self.messages), tuple(self.published.items()),
            tuple(self.events),
        )  # fmt: skip
        self.changes, self.messages, self.published, self.events = [], [], {}, []
        return outcome


@dataclass(frozen=True, slots=True)
class Recorded(Event):
    """An entry of the ledger took effect here."""

    decided: Decided
