"""The kernel's notifications on links, addresses, routes and neighbours, as values.

An event is a hint where to look, not a fact: by the time it is read, more may have happened.
`dev` is the name of a link of the host; with `far`, the event is of the other end of that veth.
"""

from __future__ import annotations

from dataclasses import dataclass

from netkit.model.base import IPAddress, IPInterface, IPNetwork
from netkit.model.link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """`link` is the new state of that end, without its peer; None: deleted, moved or renamed."""

    dev: str
    far: bool = False
    link: Link | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressDeleted:
    dev: str
    far: bool = False
    address: IPInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChanged:
    """Of the main table; `deleted`, or added or replaced."""

    dev: str
    far: bool = False
    dst: IPNetwork
    deleted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourChanged:
    """`mac` of a permanent entry; "" if it was deleted or is not permanent any more."""

    dev: str
    address: IPAddress
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingEntryDeleted:
    """Of the port `dev` of a bridge."""

    dev: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingDisabled:
    """net.ipv4.ip_forward is 0 now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost:
    """More happened than fits the socket's buffer, or the watcher started anew: look everywhere."""


LinkEvent = (
    LinkChanged
    | AddressDeleted
    | RouteChanged
    | NeighbourChanged
    | ForwardingEntryDeleted
    | ForwardingDisabled
    | EventsLost
)
