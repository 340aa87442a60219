"""Compute the names that containers can resolve, and their addresses.  Pure.

A zone is what all containers on one network share; a view is the zones of one container, best
first, and what is its alone.  Rules as in Docker's libnetwork (Sandbox.ResolveName).

    web.front.  --> "web.front" in any zone  --> "web" in the zone of network "front"  --> upstream
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the resolver's process does without msgspec, for its memory's sake
    from netkit.spec import EndpointRecord, NetworkRecord

Addresses = tuple[str, ...]  # IPv4, "10.0.0.2"
MAX_ADDRESSES = 1024  # addresses of one name; an answer over TCP has room for four times as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The names on one network, in lower case.  A name of several containers has all of theirs."""

    id: str  # network id
    name: str  # network name, in lower case
    names: Mapping[str, Addresses]
    reverse: Mapping[str, str]  # from an address to "container.network"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverView:
    """The names that one container can resolve."""

    zones: tuple[Zone, ...]  # of its networks, that of the default route first
    links: Mapping[str, Addresses] = field(default_factory=dict)  # aliases of this container only
    upstreams: tuple[str, ...] = ()  # servers for all other names, first one first
    forward: bool = True  # False: all its networks are internal, nothing may leak

    def addresses(self, name: str) -> Addresses | None:
        """Addresses of a name in lower case without the trailing dot; None if it is unknown."""
        if name in self.links:
            return self.links[name]
        for zone in self.zones:
            if name in zone.names:
                return zone.names[name]
        end = len(name)
        while (end := name.rfind(".", 0, end)) > 0:
            base, network = name[:end], name[end + 1 :]
            for zone in self.zones:
                if zone.name == network and base in zone.names:
                    return zone.names[base]
        return None

    def name_of(self, address: str) -> str | None:
        return next((z.reverse[address] for z in self.zones if address in z.reverse), None)


def build_views(
    sandboxes: Mapping[str, Sequence[str]],
    endpoints: Iterable[EndpointRecord],
    networks: Mapping[str, NetworkRecord],
) -> dict[str, ResolverView]:
    """The views of `sandboxes`, given by id with their upstream servers.

    `endpoints` are all live ones of the networks these are on; those of others do no harm.
    A sandbox on no user-defined network has no view: it asks the host's servers itself.
    """
    live = list(endpoints)
    own: dict[str, list[EndpointRecord]] = defaultdict(list)
    for e in live:
        own[e.sandbox].append(e)
    zones = all_zones(live, networks)
    made = {id: build_view(own[id], networks, zones, servers) for id, servers in sandboxes.items()}
    return {id: v for id, v in made.items() if v is not None}


def affected(changed_networks: Collection[str], endpoints: Iterable[EndpointRecord]) -> set[str]:
    """Ids of the sandboxes whose views may differ after these networks (ids) have changed."""
    return {e.sandbox for e in endpoints if e.network in changed_networks}


def all_zones(
    endpoints: Iterable[EndpointRecord], networks: Mapping[str, NetworkRecord]
) -> dict[str, Zone]:
    """One zone for each user-defined network among those of `endpoints`, by network id."""
    members: dict[str, list[EndpointRecord]] = defaultdict(list)
    for e in endpoints:
        if is_named(networks.get(e.network)):
            members[e.network].append(e)
    return {id: zone(networks[id], found) for id, found in sorted(members.items())}


def zone(network: NetworkRecord, endpoints: Iterable[EndpointRecord]) -> Zone:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    reverse: dict[str, str] = {}
    for e in sorted(endpoints, key=lambda e: e.id):
        address = e.address.partition("/")[0]
        if not address:
            continue  # a network without our IPAM: its address is unknown
        for name in e.spec.names:
            names[_normalise(name)][address] = None
        reverse[address] = f"{(*e.spec.names, e.owner_name)[0]}.{network.spec.name}"
    return Zone(
        id=network.id,
        name=_normalise(network.spec.name),
        names={name: tuple(found)[:MAX_ADDRESSES] for name, found in names.items()},
        reverse=reverse,
    )


def build_view(
    own: Iterable[EndpointRecord],
    networks: Mapping[str, NetworkRecord],
    zones: Mapping[str, Zone],
    upstreams: Sequence[str],
) -> ResolverView | None:
    """That of the sandbox whose endpoints are `own`; None if no network of it is user-defined."""
    on = [e for e in own if e.network in networks]
    named = [e for e in sorted(on, key=_order) if e.network in zones]
    if not named:
        return None
    links: dict[str, Addresses] = {}
    for e in named:
        at = zones[e.network]
        for target, alias in e.spec.links:
            found = at.names.get(_normalise(target), ())
            links.setdefault(_normalise(alias), found)
            links.setdefault(f"{_normalise(alias)}.{at.name}", found)
    return ResolverView(
        zones=tuple(zones[e.network] for e in named),
        links={alias: found for alias, found in links.items() if found},
        upstreams=tuple(upstreams),
        forward=not all(networks[e.network].spec.internal for e in on),
    )


def is_named(network: NetworkRecord | None) -> bool:
    """Whether containers on this network resolve each other's names.  Not on the builtin ones."""
    return network is not None and not network.builtin


def _order(e: EndpointRecord) -> tuple[bool, int, str]:
    return (not e.is_default, -e.spec.gw_priority, e.network)


def _normalise(name: str) -> str:
    return name.rstrip(".").lower()
