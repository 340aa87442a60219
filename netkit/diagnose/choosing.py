"""Choose the address of a packet to a container that is given by name.  Pure.

What a connection to its name takes: an address on a network that both are on, in the order of the
sender's resolver, and of several the one in a subnet of the sender.  A network of one host alone is
no way to another host, even where both have one of that name or with the same subnet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_interface
from typing import NamedTuple

from netkit.errors import NotFound


class Attached(NamedTuple):
    """An address of a container on a network, of which others may be known as well."""

    network: str
    address: str
    length: int = 32  # of its prefix; 32 where it is not known
    shared: bool = False  # other hosts may be on its segment: an overlay, a LAN, switches


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What an engine knows by a name, or as the owner of an address."""

    name: str
    space: str  # "" where it does not run
    running: bool = True
    remote: bool = False  # it is on another host, whose engine is to be asked
    host: str = ""  # of one that does not run: the container whose network it has
    addresses: tuple[Attached, ...] = ()  # in the order of its resolver
    local: tuple[str, ...] = ()  # subnets of networks that its host has alone
    on: str = ""  # name of the other host, where it is `remote` and known


class Chosen(NamedTuple):
    address: str
    note: str = ""  # which of several it is, and how to choose; "": there is but one


class _Rank(NamedTuple):
    """The lowest is taken."""

    kind: int  # 0: a network of both; 1: a segment of both; 2: by a route
    far: bool  # in no subnet of the sender
    place: int  # in the sender's order


def on_network(place: Place, network: str) -> Place:
    """With its addresses there alone.  NotFound: it has none."""
    found = tuple(a for a in place.addresses if a.network == network)
    if not found:
        raise NotFound(f"container {place.name} is not on network {network}")
    return replace(place, addresses=found)


def choose(source: Place | None, target: Place, *, apart: bool, explicit: bool = False) -> Chosen:
    """`source` None: it is outside; `apart`: they are on different hosts; `explicit`: the network
    was given.  NotFound: no address of it is reached from there."""
    if not target.addresses:
        raise NotFound(f"container {target.name} has no IPv4 address")
    usable = [a for a in target.addresses if not (apart and _hidden(source, a))]
    if not usable:
        raise NotFound(_no_way(source, target))
    best = min(usable, key=lambda a: _rank(source, a, apart=apart))
    said = []
    if source is not None and source.addresses and _rank(source, best, apart=apart).kind == 2:
        said.append(f"{source.name} and {target.name} have no network in common")
    if len(target.addresses) > 1:
        known = ", ".join(f"{a.address} on {a.network}" for a in target.addresses)
        how = f"an address, or {target.name}:NETWORK, chooses"
        said.append(f"{target.name} has {known}: {best.address} on {best.network} is taken; {how}")
    elif said:
        said.append(f"{best.address} on {best.network} is taken")
    if explicit:  # a network was chosen: it is about its addresses there, if they are several
        said = said[-1:] if len(target.addresses) > 1 else []
    return Chosen(best.address, "; ".join(said))


def _rank(source: Place | None, there: Attached, *, apart: bool) -> _Rank:
    own = source.addresses if source is not None else ()
    if not own:  # the host reaches containers by its own networks, other hosts by shared ones
        return _Rank(2, far=there.shared != apart, place=0)
    both = [a for a in own if a.network == there.network]
    wide = [a for a in own if a.shared and there.shared]
    for kind, ways in enumerate((
        [a for a in both if a in wide or not apart],
        [a for a in wide if _near(a, there)],
    )):  # fmt: skip
        if ways:
            far = not any(_near(a, there) for a in ways)
            return _Rank(kind, far, own.index(ways[0]))
    return _Rank(2, far=False, place=0)


def _near(own: Attached, there: Attached) -> bool:
    return IPv4Address(there.address) in _subnet(own)


def _subnet(a: Attached) -> IPv4Network:
    return IPv4Network(f"{a.address}/{a.length}", strict=False)


def _hidden(source: Place | None, there: Attached) -> bool:
    """Whether the sender's host has a network of its own with that address."""
    local: Sequence[str] = source.local if source is not None else ()
    if there.shared:
        return False
    return any(IPv4Address(there.address) in ip_interface(each).network for each in local)


def _no_way(source: Place | None, target: Place) -> str:
    assert source is not None
    there = ", ".join(f"{a.network} ({a.address})" for a in target.addresses)
    return (
        f"{source.name} and {target.name} have no network in common: {target.name} is on {there} of"
        f" another host, and that of {source.name} has the same addresses; connect both to a "
        "network of several hosts (weave, lan, ovs)"
    )
