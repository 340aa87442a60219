"""What sessions report to the parts above (`plugins.weave.sessions`)."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.session import DataKeys
from plugins.weave.step import Address, Event, Where


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """Who answers at an address is a peer that there is a session with already."""

    peer: PeerId
    where: Where


@dataclass(frozen=True, slots=True)
class Established(Event):
    """Messages can be sent to a peer: there was no session, or one with an earlier process."""

    keys: PublicKeys
    where: Where
    version: int
    features: int
    instance: bytes

    @property
    def peer(self) -> PeerId:
        return self.keys.peer


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """There is no session with that peer any more."""

    peer: PeerId
    why: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """An attempt to connect is given up; `peer` is None where whom it reaches was not known."""

    where: Where
    peer: PeerId | None
    why: str
    itself: bool = False  # the address is one of our own: there is no point in trying again


@dataclass(frozen=True, slots=True)
class Cloned(Event):
    """Another process lives that has our keys: a copied state directory."""

    where: Where


@dataclass(frozen=True, slots=True)
class Received(Event):
    """A message of an authenticated peer; each once, in any order."""

    peer: PeerId
    message: bytes


@dataclass(frozen=True, slots=True)
class Probed(Event):
    """The peer got a probe whose datagram had that many bytes."""

    peer: PeerId
    number: int
    size: int


@dataclass(frozen=True, slots=True)
class Lossy(Event):
    """Whether data that we send to that peer gets lost on its way, as the peer says."""

    peer: PeerId
    lossy: bool


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """What is sent to that peer goes to another address from now on: it was received from there."""

    peer: PeerId
    where: Where


@dataclass(frozen=True, slots=True)
class HeardDirectly(Event):
    """A peer that we send to by relay was received from there; the way back may work or not."""

    peer: PeerId
    where: Address


@dataclass(frozen=True, slots=True)
class KeysAdded(Event):
    """Data sealed with these is to be accepted from now on; to be reported by `Sessions.heard`."""

    keys: DataKeys


@dataclass(frozen=True, slots=True)
class KeysUsed(Event):
    """Data for that peer goes out under the keys of that index, and sealed if `sealed` says so.

    In clear nothing is accepted from it either, unless `sealed` is false.
    """

    peer: PeerId
    index: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class KeysGone(Event):
    """Nothing is accepted under that index any more, nor sent."""

    index: int


@dataclass(frozen=True, slots=True)
class RelayedData(Event):
    """A datagram of data (type 6) that other peers passed on; by whom, is not known to be true."""

    peer: PeerId
    datagram: bytes
