"""What the overlay's process is given, as its own values: answers, news, ways, datagrams."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final, Literal

from netkit.errors import Busy, Conflict, NetkitError, NoRoom
from netkit.overlay import core
from netkit.overlay.core import Settled
from plugins.weave.events import Cloned
from plugins.weave.holder import Fenced
from plugins.weave.identity import PeerId, short
from plugins.weave.local import AddressLost, Granted
from plugins.weave.membership import StatusChanged, WeAreRemoved
from plugins.weave.planes import MembersChanged, PeerPath, Way
from plugins.weave.removal import Removed
from plugins.weave.requests import Refused, Why
from plugins.weave.step import Address, Event, Relayed, Send
from plugins.weave.taken import InUse

KINDS: Final[dict[Why, type[NetkitError]]] = {Why.EXHAUSTED: NoRoom, Why.TAKEN: Conflict}


def granted(event: Granted) -> Settled:
    """ "10.32.0.2/12"."""
    return Settled(event.ticket, f"{event.address}/{event.length}")


def refused(event: Refused) -> Settled:
    """Busy where a retry may succeed."""
    return Settled(event.ticket, error=KINDS.get(event.why, Busy)(event.text))


def removed(event: Removed, ticket: str) -> Settled:
    """How many addresses passed to others."""
    if event.done:
        return Settled(ticket, event.addresses)
    return Settled(ticket, error=Conflict(event.text))


def news(event: Event, name: Callable[[PeerId], str]) -> list[dict[str, Any]]:
    """For clients that subscribed, and for the log; [] of what concerns none."""

    def who(peer: PeerId) -> dict[str, Any]:
        return {"peer": short(peer), "name": name(peer)}

    match event:
        case StatusChanged():
            state = "forgotten" if event.new is None else event.new.value
            return [{"event": "peer", **who(event.peer), "state": state}]
        case PeerPath():
            way = {"way": event.way.value, "why": event.reason, "mtu": event.mtu}
            return [{"event": "path", **who(event.peer), **way}]
        case AddressLost():
            ident = event.ident.decode(errors="replace")
            return [{"event": "address lost", "ident": ident, "address": event.address}]
        case Fenced():
            return [{"event": "fenced", "fenced": event.fenced, "why": event.text}]
        case Cloned():
            return [{"event": "cloned", "where": str(event.where)}]
        case InUse():
            return [{"event": "cloned", "where": ""}]
        case WeAreRemoved():
            return [{"event": "removed", "by": name(event.by)}]
        case MembersChanged():
            return [{"event": "members"}]
    return []


def reach(event: PeerPath) -> core.Reach:
    where = core.Where(*event.where) if isinstance(event.where, Address) else None
    path: Literal["fastdp", "sleeve", "relay", "none"] = event.way.value
    if isinstance(event.where, Relayed) and event.way is not Way.NONE:
        path = "relay"
    return core.Reach(
        number=event.number, path=path, why=event.reason, where=where,
        index=event.index, key=event.key, size=event.size, whole=event.whole,
        sources=frozenset(IPv4Address(each) for each in event.sources),
    )  # fmt: skip


def sent(send: Send) -> core.Send:
    assert isinstance(send.to, Address)  # relayed ones never leave the core
    return core.Send(send.datagram, core.Where(*send.to), send.whole)
