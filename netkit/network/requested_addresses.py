"""Acquire what an endpoint requests on networks where it may have any addresses.

A row in `addresses` for each; on networks of an overlay each is the overlay's as well
(`overlay_addresses`): it is asked first, and what has no row in the end goes back by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, ip_interface
from typing import cast

import msgspec

from netkit.driver import Subnet, derive_mac, mac_of, traits_of
from netkit.errors import Conflict, InUse, InvalidSpec, NoRoom
from netkit.ipam.allocator import AddressAllocator
from netkit.network.address_requests import AddressRequest, FromSubnet, ThisAddress, assigned
from netkit.network.endpoint import AttachedEndpoint, address_requests, reached_gateway
from netkit.network.endpoint_store import PENDING, EndpointStore
from netkit.network.entry import NetworkEntry
from netkit.network.overlay_addresses import NoOverlay, OverlayAddresses
from netkit.network.remote import RemoteState
from netkit.spec import EndpointRecord
from netkit.store import Database

log = logging.getLogger(__name__)
ATTEMPTS = 64  # at an address of the overlay that no row of this host is about


def has_any_address(entry: NetworkEntry) -> bool:
    """Whether endpoints may have several addresses, also outside of the network's subnets."""
    return traits_of(entry.driver).any_address


@dataclass(frozen=True, kw_only=True)
class RequestedAddresses:
    """Not to be called in a transaction: the overlay may take seconds."""

    database: Database
    addresses: AddressAllocator
    records: EndpointStore
    overlay: OverlayAddresses = field(default_factory=NoOverlay)
    remote: Callable[[str], RemoteState] = lambda network: RemoteState()  # containers elsewhere

    def overlay_of(self, entry: NetworkEntry) -> OverlayAddresses:
        return self.overlay if traits_of(entry.driver).overlay else NoOverlay()

    def settle(self, each: AttachedEndpoint) -> AttachedEndpoint:
        """Store the pending endpoint with all that it requests.

        InUse: an address is another's; Conflict: none is left; InvalidSpec; Busy.  The caller
        releases what the endpoint has got until then.
        """
        entry, record = each
        with self.overlay_of(entry).holding(entry.record.id, record.sandbox):
            found = self.acquire(entry, record.sandbox, address_requests(entry, record.spec))
            mac = record.mac if record.spec.mac else self._mac(entry, record, found[0])
            record = with_addresses(entry, msgspec.structs.replace(record, mac=mac), found)
            with self.database.transaction():
                self._write_rows(entry, record.sandbox, found)
                self.records.save([record], PENDING)
        return AttachedEndpoint(entry, record)

    def _mac(self, entry: NetworkEntry, record: EndpointRecord, address: IPv4Interface) -> str:
        """On an overlay made of the address, as that has an owner; unless a container has that MAC
        address still, which had the address when it was started."""
        made, network = mac_of(address.ip), entry.record.id
        if traits_of(entry.driver).overlay:
            here = self.records.of_sandbox(network=network)
            elsewhere = self.remote(network).neighbours
            if made not in {r.mac for r in here if r.id != record.id} | {n.mac for n in elsewhere}:
                return made
        return derive_mac(network, str(address), record.sandbox)

    def acquire(
        self,
        entry: NetworkEntry,
        holder: str,
        requests: Sequence[AddressRequest],
        have: Sequence[IPv4Interface] = (),
    ) -> tuple[IPv4Interface, ...]:
        """Return an address for each request, `have` where they meet it; those once each.

        With `holding` around it until there are rows.
        """
        default = _first_subnet(entry)
        # Explicit ones first: no `net:` gets what another request asks for.
        explicit = [r.interface for r in requests if isinstance(r, ThisAddress)]
        for chosen in explicit:
            if chosen not in have:
                self.claim(entry, holder, chosen)
        found: list[IPv4Interface] = []
        for request, met in assigned(requests, [*have, *explicit], default):
            address = met
            if address is None:
                assert isinstance(request, FromSubnet)
                address = self._allocate(entry, holder, request.subnet or default)
            if address not in found:
                found.append(address)
        return tuple(found)

    def claim(self, entry: NetworkEntry, holder: str, address: IPv4Interface) -> None:
        """Claim a certain address, with `holding` around it until there is a row.  InUse, Busy."""
        # First: where a container of this host has it, the error has its name.
        self.addresses.must_be_free(entry.record.id, address.ip, holder)
        try:
            self.overlay_of(entry).claim(entry.record.id, address, holder)
        except Conflict as error:
            raise InUse(f"Address already in use: {error}") from error

    def _allocate(self, entry: NetworkEntry, holder: str, subnet: IPv4Network) -> IPv4Interface:
        network, overlay = entry.record.id, self.overlay_of(entry)
        own = next((s for s in entry.config.subnets if s.cidr == subnet), None)
        place = cast(IPv4Network, own.ip_range) if own and own.ip_range else subnet
        for _ in range(ATTEMPTS):
            try:
                found = overlay.allocate(network, place, holder)
            except NoRoom as error:
                raise Conflict(
                    "no available IPv4 addresses on this network's address pools: "
                    f"{entry.name} ({network[:12]}): {error}"
                ) from error
            if found is None:
                return self._allocate_here(entry, holder, subnet)
            address = IPv4Interface((found.ip, subnet.prefixlen))
            try:
                self.addresses.must_be_free(network, address.ip, holder)
            except InUse as error:
                # The overlay does not know yet what was allocated before it was launched.
                log.warning("network %s: not allocated: %s", entry.name, error)
                overlay.release(network, address, holder)
            else:
                return address
        raise Conflict(
            f"no address of {subnet} on network {entry.name}: the overlay gives out what this "
            "host's containers have; see `netkit weave status`"
        )

    def _allocate_here(
        self, entry: NetworkEntry, holder: str, subnet: IPv4Network
    ) -> IPv4Interface:
        """Without other hosts: of one of the network's subnets only, within its `ip_range`."""
        network = entry.record.id
        own = next(
            (s for s in entry.config.subnets if subnet.subnet_of(cast(IPv4Network, s.cidr))), None
        )
        if own is None:
            raise InvalidSpec(
                f"no subnet of network {entry.name} contains {subnet}: it has "
                + ", ".join(str(s.cidr) for s in entry.config.subnets)
            )
        asked = own if own.cidr == subnet else Subnet(cidr=subnet)
        address = self.addresses.allocate(network, asked, holder, entry.name)
        return IPv4Interface((address, subnet.prefixlen))

    def _write_rows(self, entry: NetworkEntry, holder: str, found: Sequence[IPv4Interface]) -> None:
        for address in found:
            self.addresses.reserve(entry.record.id, address.ip, "lease", holder)


def with_addresses(
    entry: NetworkEntry, record: EndpointRecord, found: Sequence[IPv4Interface]
) -> EndpointRecord:
    """Return the endpoint with these addresses, and the gateway that is reached from them."""
    first, *others = map(str, found)
    return msgspec.structs.replace(
        record,
        address=first,
        more_addresses=tuple(others),
        gateway=reached_gateway(entry, found),
    )


def addresses_of(record: EndpointRecord) -> tuple[IPv4Interface, ...]:
    """Return all addresses of an endpoint."""
    return tuple(cast(IPv4Interface, ip_interface(a)) for a in record.addresses)


def _first_subnet(entry: NetworkEntry) -> IPv4Network:
    return cast(IPv4Network, entry.config.subnets[0].cidr)
