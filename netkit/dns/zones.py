"""Compute the names that containers can resolve, and their addresses.  Pure.

A zone is what all containers on one network share; a view is the zones of one container, best
first, and what is its alone.  Rules as in Docker's libnetwork (Sandbox.ResolveName).

    web.front.  --> "web.front" in any zone  --> "web" in the zone of network "front"  --> upstream

The networks of an overlay have a domain besides (`Traits.domain`), here weave.local, where all
hosts put the names of their containers, and those that users add by hand:

    web.lane.weave.local.  --> "web" in the zone of network "lane", or there is no such name

What other hosts put there is shown as a short name too, unless it has a dot: then it could stand
for a name of the world.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the resolver's process does without msgspec, for its memory's sake
    from netkit.spec import EndpointRecord, NetworkRecord

Addresses = tuple[str, ...]  # "10.0.0.2", "fd00::2": as str() of an ip_address has it
MAX_ADDRESSES = 1024  # addresses of one name; an answer over TCP has room for four times as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A name on a network from another host, or one that was added by hand."""

    names: tuple[str, ...]  # relative to the network's domain, the first for reverse look-ups
    addresses: Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What an overlay's network has besides its containers of this host."""

    name: str  # "weave.local"
    home: bool  # its names are found right below that, too
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The names on one network, in lower case.  A name of several containers has all of theirs."""

    id: str  # network id
    name: str  # network name, in lower case
    names: Mapping[str, Addresses]
    reverse: Mapping[str, str]  # from an address to "container.network", or to a full name
    # With a domain:
    domain: str = ""  # nothing below is asked elsewhere: "weave.local"
    below: tuple[str, ...] = ()  # where its names are found: ("lane.weave.local",)
    dotted: Mapping[str, Addresses] = field(default_factory=dict)  # names found only there


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverView:
    """The names that one container can resolve."""

    zones: tuple[Zone, ...]  # of its networks, that of the default route first
    links: Mapping[str, Addresses] = field(default_factory=dict)  # aliases of this container only
    upstreams: tuple[str, ...] = ()  # servers for all other names, first one first
    address: str = "127.0.0.11"  # where the container finds the resolver
    forward: bool = True  # False: all its networks are internal, nothing may leak

    def addresses(self, name: str) -> Addresses | None:
        """Addresses of a name in lower case without the trailing dot; None if it is unknown."""
        if name in self.links:
            return self.links[name]
        for zone in self.zones:
            if name in zone.names:
                return zone.names[name]
        if self.closed(name):
            return self._full(name)
        end = len(name)
        while (end := name.rfind(".", 0, end)) > 0:
            base, network = name[:end], name[end + 1 :]
            for zone in self.zones:
                if zone.name == network and base in zone.names:
                    return zone.names[base]
        return None

    def closed(self, name: str) -> bool:
        """Whether a name is of these networks' domain: no other server is asked for it."""
        return any(_is_below(name, zone.domain) for zone in self.zones if zone.domain)

    def _full(self, name: str) -> Addresses | None:
        """Of a name in a domain; a domain itself has none."""
        ends = [(end, zone) for zone in self.zones for end in zone.below if _is_below(name, end)]
        for end, zone in sorted(ends, key=lambda each: -len(each[0])):
            base = name[: -len(end) - 1]
            found = zone.names.get(base) or zone.dotted.get(base)
            if found or not base:
                return found or ()
        return () if any(name == zone.domain for zone in self.zones) else None

    def name_of(self, address: str) -> str | None:
        return next((z.reverse[address] for z in self.zones if address in z.reverse), None)


def build_views(
    sandboxes: Mapping[str, Sequence[str]],
    endpoints: Iterable[EndpointRecord],
    networks: Mapping[str, NetworkRecord],
    domains: Mapping[str, Domain] = MappingProxyType({}),
) -> dict[str, ResolverView]:
    """The views of `sandboxes`, given by id with their upstream servers.

    `endpoints` are all live ones of the networks these are on; those of others do no harm.
    `domains`: of networks, by id.
    A sandbox on no user-defined network has no view: it asks the host's servers itself.
    """
    live = list(endpoints)
    own: dict[str, list[EndpointRecord]] = defaultdict(list)
    for e in live:
        own[e.sandbox].append(e)
    here = {e.network for id in sandboxes for e in own[id]}
    zones = all_zones((e for e in live if e.network in here), networks, domains)
    made = {id: build_view(own[id], networks, zones, servers) for id, servers in sandboxes.items()}
    return {id: v for id, v in made.items() if v is not None}


def all_zones(
    endpoints: Iterable[EndpointRecord],
    networks: Mapping[str, NetworkRecord],
    domains: Mapping[str, Domain] = MappingProxyType({}),
) -> dict[str, Zone]:
    """One zone for each user-defined network among those of `endpoints`, by network id."""
    members: dict[str, list[EndpointRecord]] = defaultdict(list)
    for e in endpoints:
        if is_named(networks.get(e.network)):
            members[e.network].append(e)
    return {
        id: zone(networks[id], found, domains.get(id)) for id, found in sorted(members.items())
    }


def zone(
    network: NetworkRecord, endpoints: Iterable[EndpointRecord], domain: Domain | None = None
) -> Zone:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    dotted: dict[str, dict[str, None]] = defaultdict(dict)
    reverse: dict[str, str] = {}
    called = _normalise(network.spec.name)
    below: tuple[str, ...] = ()
    if domain is not None:
        below = (f"{called}.{domain.name}", *([domain.name] if domain.home else ()))
    for e in sorted(endpoints, key=lambda e: e.id):
        # Of a network without our IPAM its address is unknown.
        addresses = [address.partition("/")[0] for address in e.addresses]
        for name in e.spec.names if addresses else ():
            names[_normalise(name)] |= dict.fromkeys(addresses)
        end = below[-1] if below else network.spec.name
        own = (*e.spec.names, e.owner_name)[0]
        reverse |= {address: f"{own}.{end}" for address in addresses}
    for each in domain.published if domain else ():
        for name in map(_normalise, each.names):
            (dotted if "." in name else names)[name] |= dict.fromkeys(each.addresses)
        for address in each.addresses:
            reverse.setdefault(address, f"{each.names[0]}.{below[-1]}")
    return Zone(
        id=network.id,
        name=called,
        names=_cut(names),
        reverse=reverse,
        domain=domain.name if domain else "",
        below=below,
        dotted=_cut(dotted),
    )


def _cut(names: Mapping[str, Mapping[str, None]]) -> dict[str, Addresses]:
    """Those of this host come first, so that others do not displace them."""
    return {name: tuple(found)[:MAX_ADDRESSES] for name, found in names.items()}


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


def _is_below(name: str, domain: str) -> bool:
    """Below a domain, or the domain itself."""
    return name.endswith(domain) and name[: -len(domain)][-1:] in {"", "."}


def _normalise(name: str) -> str:
    return name.rstrip(".").lower()
