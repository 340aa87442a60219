"""Networks of this host that an overlay carries to other hosts, and what is on them.

The rows are the truth; what keeps the overlay's process in agreement with them reads them here,
and is notified of changes by `Controller.on_change`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from netkit.driver import Driver, Network, Overlay, OverlayPorts, traits_of
from netkit.errors import NotFound
from netkit.model import IPAddress
from netkit.network.api import NamePublisher
from netkit.network.context import NetworkContext
from netkit.spec import EndpointRecord, NetworkRecord

GATEWAY = "gateway"  # the kind of rows in the table `addresses` that are the host's


class OverlayNetwork(NamedTuple):
    record: NetworkRecord
    config: Network
    ports: OverlayPorts


class OverlayAddress(NamedTuple):
    """A row of the table `addresses`."""

    network: str  # its id
    address: IPAddress
    kind: str  # lease, static, or gateway: the host's
    holder: str  # id of the sandbox; of a gateway that of the network


class OverlayNetworks:
    """Thread-safe."""

    def __init__(
        self, parts: NetworkContext, drivers: Mapping[str, Driver], evict: Callable[[str], None]
    ) -> None:
        """`evict` takes an endpoint off its network, by id, whose address is another host's."""
        self._p = parts
        self._drivers = drivers
        self.evict = evict

    @property
    def driver(self) -> str:
        """The name of the driver that has an overlay, and of that overlay.  NotFound."""
        for name, driver in self._drivers.items():
            if isinstance(driver, Overlay):
                return name
        raise NotFound("no driver with an overlay is installed: reinstall netkit")

    @property
    def domain(self) -> str:
        """Names are found in NETWORK.domain, those of network `driver` in it as well.  NotFound."""
        return traits_of(self._drivers[self.driver]).domain

    def all(self) -> list[OverlayNetwork]:
        found = []
        for entry in self._p.registry.all():
            driver = entry.driver
            if isinstance(driver, Overlay):
                ports = driver.overlay(entry.config)
                found.append(OverlayNetwork(entry.record, entry.config, ports))
        return found

    def find(self, ref: str) -> OverlayNetwork:
        """By full id, name, or unique beginning of an id.  NotFound: none of these is called so."""
        record = self._p.registry.find(ref).record
        for each in self.all():
            if each.record.id == record.id:
                return each
        raise NotFound(f"network {ref} is none of the overlay: its driver is {record.spec.driver}")

    def endpoints(self) -> list[EndpointRecord]:
        """Those that are on these networks now."""
        there = {each.record.id for each in self.all()}
        if not there:
            return []
        return [e for e in self._p.records.of_sandbox(ready=True) if e.network in there]

    def members(self, network: str) -> list[str]:
        """Ids of sandboxes that are on a network, by its id, or are just joining or leaving it."""
        return [e.sandbox for e in self._p.records.of_sandbox(network=network)]

    def addresses(self) -> list[OverlayAddress]:
        """What containers have, running or not, and what the host has."""
        there = {each.record.id for each in self.all()}
        rows = self._p.database.rows(
            "SELECT network, address, kind, holder FROM addresses "
            "WHERE kind IN ('lease', 'static', 'gateway')"
        ) if there else ()  # fmt: skip
        return [
            OverlayAddress(r["network"], ip_address(r["address"]), r["kind"], r["holder"])
            for r in rows if r["network"] in there
        ]  # fmt: skip

    def reserve_for_host(self, network: str, address: IPAddress) -> None:
        """Let no container have it.  InUse: one has."""
        self._p.addresses.reserve(network, address, GATEWAY, network)

    def tidy(self) -> None:
        """Release what is reserved for the host, and neither is its address nor a subnet's own."""
        for each in self.all():
            kept = {a.ip for a in each.ports.host_addresses}
            for s in each.config.subnets:
                kept |= {*(ip for _, ip in s.aux), *([s.gateway] if s.gateway else [])}
            for row in self.addresses():
                if (row.network, row.kind) == (each.record.id, GATEWAY) and row.address not in kept:
                    self._p.addresses.give_back(row.network, row.address)


class NotifyingPublisher:
    """A publisher of names that also notifies of changed endpoints."""

    def __init__(self, names: NamePublisher, notify: Callable[[], None]) -> None:
        self._names, self._notify = names, notify

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        self._names.publish(joined, left)
        self._notify()

    def refresh(self, network: str) -> None:
        self._names.refresh(network)
