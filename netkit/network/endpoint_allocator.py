"""Allocate a joining container's endpoint: its address and the name of its interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netkit.driver import local_mac
from netkit.ipam.allocator import Addresses
from netkit.network.address_acquirer import Claiming
from netkit.network.api import Names
from netkit.network.desired import Wiring
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
from netkit.network.policy import Policies
from netkit.network.registry import Catalog
from netkit.network.remote import GLOBAL
from netkit.network.validation import DHCP
from netkit.portallocator import HostPorts
from netkit.reconcile.converge import Converger
from netkit.reconcile.retry import Owing
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox
from netkit.store import Database


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Collaborators of the use cases."""

    database: Database
    catalog: Catalog
    addresses: Addresses
    records: Records
    ports: HostPorts
    wiring: Wiring
    policies: Policies
    converger: Converger
    names: Names
    claiming: Claiming
    owing: Owing
    random: Callable[[int], int]  # n random bits


class Allocator:
    def __init__(self, parts: Parts) -> None:
        self._p = parts

    def join(
        self, sandbox: Sandbox, entry: Entry, want: EndpointSpec, others: Sequence[Joined]
    ) -> EndpointRecord:
        """Store a pending endpoint with its address.  Inside a transaction."""
        p = self._p
        p.catalog.must_be_ready(entry)
        check_want(entry, want, sandbox)
        address = self._address(sandbox, entry, want)
        # One MAC for an address: neighbours' ARP entries stay valid for its next owner.
        mac = mac_address(want.mac) or local_mac(entry.record.id, address or sandbox.id)
        record = EndpointRecord(
            id=f"{p.random(256):064x}",
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
        p.records.add(record, entry.name)
        return record

    def _address(self, sandbox: Sandbox, entry: Entry, want: EndpointSpec) -> str:
        spec = entry.record.spec
        if not entry.driver.addresses or spec.ipam_driver == DHCP or spec.scope == GLOBAL:
            return ""  # until it is settled
        addresses = self._p.addresses
        if want.ip:
            subnet, address = static_address(entry, want.ip)
            self._p.claiming.doubt(entry.record.id, address)
            addresses.claim(entry.record.id, address, "lease", sandbox.id)
        else:
            subnet = entry.net.subnets[0]
            address = self._p.claiming.take(entry, subnet, sandbox.id)
        return f"{address}/{subnet.cidr.prefixlen}"
