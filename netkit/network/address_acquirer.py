"""Acquire addresses on segments with foreign hosts: probed or leased before use.

Where a DHCP server gives them out, it is asked for them (`leases`); addresses of global networks
are allocated by the cluster, those of networks with any address by `requested_addresses`.

An address that is free in the local database may be in use all the same: by a printer, another
netkit.  It is probed (RFC 5227); one that is in use is noted as foreign, reported and skipped.
Foreign addresses are probed again when no other is left.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_interface
from typing import Protocol

import msgspec

from netkit.driver import Segment, SharedSegment, Subnet, derive_mac
from netkit.errors import Conflict, InUse
from netkit.ipam.allocator import AddressAllocator
from netkit.ipam.dhcp_leases import DhcpLeases
from netkit.model import HOST, IPAddress
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import PENDING, EndpointStore
from netkit.network.entry import NetworkEntry
from netkit.network.remote import SCOPE_GLOBAL, Cluster, NoCluster
from netkit.network.requested_addresses import RequestedAddresses, has_any_address
from netkit.spec import EndpointRecord, Sandbox
from netkit.store import Database

log = logging.getLogger(__name__)


class ArpProber(Protocol):
    """The segments this host is on."""

    def occupied(
        self, segment: Segment, addresses: Sequence[IPv4Address]
    ) -> Mapping[IPv4Address, str]:
        """Which of these addresses are in use, and by which MAC.  Blocks for `segment.probe`."""
        ...

    def announce(self, ns: str, link: str, address: IPv4Address) -> None:
        """Announce the address with the MAC of `link` in `ns`, soon: stale ARP entries change."""
        ...


class NoArpProber:
    """Segments on which only netkit allocates addresses."""

    def occupied(
        self, segment: Segment, addresses: Sequence[IPv4Address]
    ) -> Mapping[IPv4Address, str]:
        return {}

    def announce(self, ns: str, link: str, address: IPv4Address) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class AddressAcquirer:
    """Acquire and release addresses.  Not to be called in a transaction: it waits for answers."""

    database: Database
    addresses: AddressAllocator
    records: EndpointStore
    segments: ArpProber
    leases: DhcpLeases
    requested: RequestedAddresses
    cluster: Cluster = field(default_factory=NoCluster)

    def announce(self, sandbox: Sandbox, records: Iterable[EndpointRecord]) -> None:
        """Announce the addresses to neighbours, which may cache the MAC of an earlier owner.

        Without it they would send to that until their entry ages, which takes up to 45 s.  Hosts of
        the cluster are notified as well.
        """
        self.notify_changed()
        inside = sandbox.ns != HOST and not sandbox.handover  # else its engine announces them
        for record in records if inside else ():
            for text in record.addresses:
                address = ip_interface(text).ip
                if isinstance(address, IPv4Address):
                    self.segments.announce(sandbox.ns, record.ifname, address)

    def notify_changed(self) -> None:
        """Notify the other hosts' followers of changed rows."""
        self.cluster.notify_changed()
        self.requested.overlay.notify_changed()

    def take(
        self, entry: NetworkEntry, subnet: Subnet, holder: str, avoid: Collection[IPAddress] = ()
    ) -> IPAddress:
        """Take the lowest free address, as a lease; else one that was foreign and may be free now.

        Not one of `avoid`, though: those were just found to be foreign.  Conflict when there is
        none.  Inside a transaction.
        """
        try:
            return self.addresses.allocate(entry.record.id, subnet, holder, entry.name)
        except Conflict:
            rows = self.database.rows(
                "SELECT address FROM addresses WHERE network=? AND kind='foreign' ORDER BY address",
                (entry.record.id,),
            )
            found = (ip_address(row["address"]) for row in rows)
            again = next((a for a in found if a not in avoid), None)
            if again is None:
                raise
            self._update(entry.record.id, again, "lease", holder)
            return again

    def take_unused(self, entry: NetworkEntry, subnet: Subnet, holder: str) -> IPAddress:
        """Take an address, as a lease, that no foreign host of the segment uses.  Conflict."""
        tried: set[IPAddress] = set()
        while True:
            with self.database.transaction():
                address = self.take(entry, subnet, holder, tried)
            where = self._used_at(entry, address)
            if not where:
                return address
            log.warning("network %s: address %s is in use %s: skipped", entry.name, address, where)
            tried.add(address)
            self._note_foreign(entry.record.id, address)

    def _used_at(self, entry: NetworkEntry, address: IPAddress) -> str:
        """By which foreign host of the segment; "" for none."""
        if not isinstance(entry.driver, SharedSegment) or not isinstance(address, IPv4Address):
            return ""
        segment = entry.driver.segment(entry.config)
        found = self.segments.occupied(segment, [address]) if segment.probe else {}
        return f"on {segment.link} by {found[address]}" if address in found else ""

    def forget_conflict(self, network: str, address: IPAddress) -> None:
        """Forget that a requested address was foreign: it may be free now, and is probed again."""
        self.database.execute(
            "DELETE FROM addresses WHERE network=? AND address=? AND kind='foreign'",
            (network, address.packed),
        )

    def _note_foreign(self, network: str, address: IPAddress) -> None:
        self._update(network, address, "foreign", network)

    def _update(self, network: str, address: IPAddress, kind: str, holder: str) -> None:
        self.database.execute(
            "UPDATE addresses SET kind=?, holder=? WHERE network=? AND address=?",
            (kind, holder, network, address.packed),
        )

    def acquire(self, joined: Sequence[AttachedEndpoint]) -> list[AttachedEndpoint]:
        """Store the pending endpoints with addresses that are in use by no other host.

        Conflict if a static address is in use, or if no address is left.
        """
        return [self._settled(each) for each in joined]

    def release_orphans(self) -> None:
        """Release addresses that no endpoint and no reservation of this host has any more."""
        self.leases.release_orphans()
        self.notify_changed()

    def _settled(self, each: AttachedEndpoint) -> AttachedEndpoint:
        entry, record = each
        if entry.record.spec.scope == SCOPE_GLOBAL:
            return self._from_cluster(each)
        if has_any_address(entry):
            return self.requested.settle(each)
        if not isinstance(entry.driver, SharedSegment):
            return each
        segment = entry.driver.segment(entry.config)
        if not record.address:
            return self._from_dhcp(each, segment)
        tried: set[IPv4Address] = set()
        while segment.probe:
            address = ip_interface(each[1].address).ip
            assert isinstance(address, IPv4Address)
            found = self.segments.occupied(segment, [address])
            if address not in found:
                return each
            tried.add(address)
            each = self._next(each, address, f"on {segment.link} by {found[address]}", tried)
        return each

    def _from_cluster(self, each: AttachedEndpoint) -> AttachedEndpoint:
        """One that no container of any other host has."""
        entry, record = each
        subnet, network = entry.config.subnets[0], entry.record
        # Until there is a local row for the address: else the next turn of the cluster's thread
        # would release it again.
        with self.cluster.holding(network.id, record.sandbox):
            address = self.cluster.allocate(
                network, subnet, record.sandbox, record.owner_name, record.spec.ip
            )
            text = f"{address}/{subnet.cidr.prefixlen}"
            mac = record.mac if record.spec.mac else derive_mac(network.id, text)
            record = msgspec.structs.replace(record, address=text, mac=mac)
            with self.database.transaction():
                self.addresses.reserve(network.id, address, "lease", record.sandbox)
                self.records.save([record], PENDING)
        return AttachedEndpoint(entry, record)

    def _from_dhcp(self, each: AttachedEndpoint, segment: Segment) -> AttachedEndpoint:
        entry, record = each

        def occupied(address: IPv4Address) -> str:
            return self.segments.occupied(segment, [address]).get(address, "")

        lease = self.leases.acquire(record, segment, occupied)
        address = ip_interface(lease.address).ip
        subnets = [s.cidr for s in entry.config.subnets]
        if subnets and not any(address in cidr for cidr in subnets):
            raise Conflict(f"the DHCP server gave {address}, which is not in {subnets[0]}")
        with self.database.transaction():
            self.addresses.reserve(entry.record.id, address, "lease", record.sandbox)
            router = record.gateway or lease.router
            record = msgspec.structs.replace(record, address=lease.address, gateway=router)
            self.records.save([record], PENDING)
        return AttachedEndpoint(entry, record)

    def _next(
        self, each: AttachedEndpoint, taken: IPv4Address, where: str, tried: Collection[IPv4Address]
    ) -> AttachedEndpoint:
        entry, record = each
        if record.spec.ip:
            raise InUse(f"Address already in use: {taken} is in use {where}")
        log.warning("network %s: address %s is in use %s: skipped", entry.name, taken, where)
        subnet = entry.config.subnets[0]
        with self.database.transaction():
            self._note_foreign(entry.record.id, taken)
            address = self.take(entry, subnet, record.sandbox, tried)
            text = f"{address}/{subnet.cidr.prefixlen}"
            mac = record.mac if record.spec.mac else derive_mac(entry.record.id, text)
            record = msgspec.structs.replace(record, address=text, mac=mac)
            self.records.save([record], PENDING)
        return AttachedEndpoint(entry, record)
