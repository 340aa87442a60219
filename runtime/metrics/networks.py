"""Networks, endpoints, addresses and traffic, from rows and one dump of the host's links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from netkit.kernel.netlink.counters import CountedLink, Counters
from netkit.network.address_use import SubnetUse
from netkit.spec import OWN, EndpointRecord, NetworkRecord
from runtime import limits
from runtime.metrics.figures import Figures, by, many
from runtime.metrics.labels import label

MISSING = ""  # the driver of a network whose row cannot be read

# Of the series, in the direction of a container: what it received is what the host transmitted.
_SEEN_INSIDE: tuple[tuple[str, Callable[[Counters], int]], ...] = (
    ("receive_bytes", lambda c: c.transmitted_bytes),
    ("receive_packets", lambda c: c.transmitted_packets),
    ("receive_errors", lambda c: c.transmitted_errors),
    ("receive_packets_dropped", lambda c: c.transmitted_drops),
    ("transmit_bytes", lambda c: c.received_bytes),
    ("transmit_packets", lambda c: c.received_packets),
    ("transmit_errors", lambda c: c.received_errors),
    ("transmit_packets_dropped", lambda c: c.received_drops),
)
_OPPOSITE = {"receive": "transmit", "transmit": "receive"}


class Networks(Protocol):
    """See netkit.network.controller.Controller."""

    def all(self) -> list[NetworkRecord]: ...
    def endpoints(self) -> list[EndpointRecord]: ...
    def address_use(self) -> list[SubnetUse]: ...


@dataclass(slots=True)
class Lasting:
    """Chooses what has series of its own: what once had them keeps them while it exists."""

    _kept: dict[str, None] = field(default_factory=dict)

    def of(self, ids: Collection[str], most: int) -> set[str]:
        there = set(ids)
        kept = [id for id in self._kept if id in there]
        fresh = [id for id in ids if id not in self._kept]
        self._kept = dict.fromkeys([*kept, *fresh][:most])
        return set(self._kept)


class NetworkFigures:
    """Its methods are sources, for one thread at a time.  `links` are those of this engine, each
    with an owner mark `netkit:ENGINE:NETWORK[:ENDPOINT]`."""

    def __init__(self, networks: Networks, links: Callable[[], Iterable[CountedLink]]) -> None:
        self._networks, self._links = networks, links
        self._endpoints, self._devices, self._subnets = Lasting(), Lasting(), Lasting()

    def networks(self) -> Iterator[Figures]:
        records = {r.id: r for r in self._networks.all()}
        endpoints: Counter[tuple[str, str]] = Counter()
        ports: Counter[tuple[str, str]] = Counter()
        for r in self._networks.endpoints():
            engine = r.engine or OWN
            driver = records[r.network].spec.driver if r.network in records else MISSING
            endpoints[driver, engine] += 1
            for port in r.ports:
                ports[port.proto, engine] += bool(port.host_port)
        yield by("netkit_networks", Counter(r.spec.driver for r in records.values()))
        yield many("netkit_endpoints", endpoints)
        yield many("netkit_published_ports", ports)

    def addresses(self) -> Iterator[Figures]:
        names = {r.id: label(r.spec.name, r.id) for r in self._networks.all()}
        uses = {
            f"{use.network} {use.subnet}": use
            for use in self._networks.address_use()
            if use.network in names
        }
        shown = self._subnets.of(uses, limits.METRICS_SUBNETS)
        chosen = [(names[u.network], str(u.subnet), u) for key, u in uses.items() if key in shown]
        yield many("netkit_ipam_addresses", {(n, s): u.size for n, s, u in chosen})
        yield many("netkit_ipam_allocated_addresses", {(n, s): u.allocated for n, s, u in chosen})
        yield by("netkit_omitted_series", {"subnets": len(uses) - len(chosen)})

    def traffic(self) -> Iterator[Figures]:
        names = {r.id[:12]: label(r.spec.name, r.id) for r in self._networks.all()}
        endpoints = {r.id[:12]: r for r in self._networks.endpoints()}
        pairs: dict[str, Counters] = {}  # by the beginning of the endpoint's id
        devices: dict[tuple[str, str, str], Counters] = {}
        for link in self._links():
            network, endpoint = link.of
            if endpoint in endpoints:
                pairs[endpoint] = link.counters
            elif not endpoint and network in names:
                devices[names[network], label(link.name, network), link.kind] = link.counters
        found = {id: endpoints[id] for id in pairs if endpoints[id].network[:12] in names}
        shown = self._endpoints.of(found, limits.METRICS_ENDPOINTS)
        inside = {
            (
                names[r.network[:12]], label(r.owner_name, r.sandbox), id,
                r.engine or OWN,
            ): pairs[id]
            for id, r in found.items() if id in shown
        }  # fmt: skip
        on_host = self._devices.of([d[1] for d in devices], limits.METRICS_DEVICES)
        outside = {d: counters for d, counters in devices.items() if d[1] in on_host}
        for name, read in _SEEN_INSIDE:
            yield many(f"netkit_endpoint_{name}_total", {k: read(c) for k, c in inside.items()})
            way, _, what = name.partition("_")
            yield many(
                f"netkit_network_device_{_OPPOSITE[way]}_{what}_total",
                {k: read(c) for k, c in outside.items()},
            )
        yield by("netkit_omitted_series", {
            "endpoints": len(found) - len(inside), "devices": len(devices) - len(outside),
        })  # fmt: skip
