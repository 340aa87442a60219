"""What a state machine of the core wants done: a `Step`, in this order.

First everything in `persist` is written, in one transaction, and only then is anything sent or
told: what was acknowledged is never lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from plugins.weave.identity import PeerId


class Address(NamedTuple):
    """Where UDP datagrams come from and go to."""

    host: str  # numeric: "192.0.2.1", "2001:db8::1"; never a name
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Relayed(NamedTuple):
    """Where datagrams go that other peers pass on: to this peer, by whichever way there is."""

    peer: PeerId

    def __str__(self) -> str:
        return f"relay to {self.peer.hex()[:12]}"


Where = Address | Relayed


@dataclass(frozen=True, slots=True)
class Send:
    """One datagram, complete."""

    datagram: bytes
    to: Where
    whole: bool = False  # must not be cut on its way (IPv4's DF); it is lost instead


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the peer's database; `value` None: it is deleted."""

    table: str
    key: bytes
    value: bytes | None


class Event:
    """What the shell or a part of the core above has to know: the base of frozen dataclasses."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Step:
    persist: tuple[Change, ...] = ()
    send: tuple[Send, ...] = ()
    events: tuple[Event, ...] = ()

    def __add__(self, then: Step) -> Step:
        return Step(self.persist + then.persist, self.send + then.send, self.events + then.events)


NOTHING = Step()
"""Where a call returns this very step nothing has changed either, so that garbage costs little."""
