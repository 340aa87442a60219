"""Allocate a joining container's endpoint: its address and the name of its interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.driver import local_mac
from netkit.ipam.allocator import Addresses
from netkit.network.address_acquirer import Claiming
from netkit.network.endpoint import (
    Joined,
    check_want,
    gateway_of,
    interface_name,
    mac_address,
    static_address,
)
from netkit.network.endpoint_store import Records
from netkit.network.entry import Entry
from netkit.network.registry import Catalog
from netkit.network.remote import GLOBAL
from netkit.network.validation import DHCP
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox


class Allocator:
    """`random` gives n random bits."""

    def __init__(
        self,
        addresses: Addresses,
        catalog: Catalog,
        claiming: Claiming,
        records: Records,
        random: Callable[[int], int],
    ) -> None:
        self._addresses = addresses
        self._catalog = catalog
        self._claiming = claiming
        self._records = records
        self._random = random

    def join(
        self, sandbox: Sandbox, entry: Entry, want: EndpointSpec, others: Sequence[Joined]
    ) -> EndpointRecord:
        """Store a pending endpoint with its address.  Inside a transaction."""
        self._catalog.must_be_ready(entry)
        check_want(entry, want, sandbox)
        address = self._address(sandbox, entry, want)
        # One MAC for an address: neighbours' ARP entries stay valid for its next owner.
        mac = mac_address(want.mac) or local_mac(entry.record.id, address or sandbox.id)
        record = EndpointRecord(
            id=f"{self._random(256):064x}",
            network=entry.record.id,
            sandbox=sandbox.id,
            owner_name=sandbox.name,
            spec=want,
            address=address,
            ifname=interface_name(entry, want, {r.ifname for _, r in others})
            if entry.driver.addresses
            else "",
            gateway=gateway_of(entry),
            mac=mac if entry.driver.addresses else "",
        )
        self._records.add(record, entry.name)
        return record

    def _address(self, sandbox: Sandbox, entry: Entry, want: EndpointSpec) -> str:
        spec = entry.record.spec
        if not entry.driver.addresses or spec.ipam_driver == DHCP or spec.scope == GLOBAL:
            return ""  # until it is settled
        if want.ip:
            subnet, address = static_address(entry, want.ip)
            self._claiming.doubt(entry.record.id, address)
            self._addresses.claim(entry.record.id, address, "lease", sandbox.id)
        else:
            subnet = entry.net.subnets[0]
            address = self._claiming.take(entry, subnet, sandbox.id)
        return f"{address}/{subnet.cidr.prefixlen}"
