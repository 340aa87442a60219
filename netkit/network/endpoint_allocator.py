"""Allocate a joining container's endpoint: its address and the name of its interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.driver import derive_mac
from netkit.ipam.allocator import AddressAllocator
from netkit.network.address_acquirer import AddressAcquirer
from netkit.network.endpoint import (
    AttachedEndpoint,
    interface_name,
    mac_address,
    network_gateway,
    static_address,
    validate_endpoint_spec,
)
from netkit.network.endpoint_store import EndpointStore
from netkit.network.entry import NetworkEntry
from netkit.network.registry import NetworkRegistry
from netkit.network.remote import SCOPE_GLOBAL
from netkit.network.requested_addresses import has_any_address
from netkit.network.validation import DHCP
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox


class EndpointAllocator:
    """`random` gives n random bits."""

    def __init__(
        self,
        addresses: AddressAllocator,
        registry: NetworkRegistry,
        acquirer: AddressAcquirer,
        records: EndpointStore,
        random: Callable[[int], int],
    ) -> None:
        self._addresses = addresses
        self._registry = registry
        self._acquirer = acquirer
        self._records = records
        self._random = random

    def create_pending(
        self,
        sandbox: Sandbox,
        entry: NetworkEntry,
        want: EndpointSpec,
        others: Sequence[AttachedEndpoint],
    ) -> EndpointRecord:
        """Store a pending endpoint with its address.  Inside a transaction."""
        self._registry.must_be_ready(entry)
        validate_endpoint_spec(entry, want, sandbox)
        address = self._address(sandbox, entry, want)
        # One MAC for an address: neighbours' ARP entries stay valid for its next owner.
        mac = mac_address(want.mac) or derive_mac(entry.record.id, address or sandbox.id)
        record = EndpointRecord(
            id=f"{self._random(256):064x}",
            network=entry.record.id,
            sandbox=sandbox.id,
            owner_name=sandbox.name,
            engine=sandbox.engine,
            container=sandbox.container,
            spec=want,
            address=address,
            ifname=interface_name(entry, want, {r.ifname for _, r in others})
            if entry.driver.uses_ipam and not sandbox.handover
            else "",  # its engine names it: `netkit.network.handover.seen_name`
            gateway=network_gateway(entry),
            mac=mac if entry.driver.uses_ipam else "",
        )
        self._records.insert_pending(record, entry.name)
        return record

    def _address(self, sandbox: Sandbox, entry: NetworkEntry, want: EndpointSpec) -> str:
        spec = entry.record.spec
        if not entry.driver.uses_ipam or spec.ipam_driver == DHCP or spec.scope == SCOPE_GLOBAL:
            return ""  # until it is settled
        if has_any_address(entry):
            return ""
        if want.ip:
            subnet, address = static_address(entry, want.ip, allocated=want.allocated)
            self._acquirer.forget_conflict(entry.record.id, address)
            self._addresses.reserve(entry.record.id, address, "lease", sandbox.id)
        else:
            subnet = entry.config.subnets[0]
            address = self._acquirer.take(entry, subnet, sandbox.id)
        return f"{address}/{subnet.cidr.prefixlen}"
