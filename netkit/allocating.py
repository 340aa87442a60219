"""What a joining container is given: endpoint and address, the default route, host ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

import msgspec

from netkit.addresses import Addresses
from netkit.catalog import Catalog
from netkit.claiming import Claiming
from netkit.converge import Converger
from netkit.driver import PortMapping, local_mac
from netkit.entry import Entry
from netkit.errors import Conflict, InvalidSpec
from netkit.joining import (
    Joined,
    arranged,
    check_want,
    gateway_of,
    interface_name,
    mac_address,
    static_address,
)
from netkit.owing import Owing
from netkit.policies import Policies
from netkit.ports import HostPorts, resolve
from netkit.records import Opened, Records
from netkit.service import Names
from netkit.spanning import GLOBAL
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox
from netkit.store import Database
from netkit.wiring import Wiring
from netkit.wishes import DHCP


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the use cases work with."""

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
        """A pending endpoint with its address.  Inside a transaction."""
        p = self._p
        p.catalog.must_be_ready(entry)
        check_want(entry, want, sandbox)
        address = self._address(sandbox, entry, want)
        # One MAC for an address: who takes it next is no stranger to neighbours' ARP caches.
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

    def arrange(self, opened: Opened, joined: list[Joined]) -> tuple[Opened, list[Joined]]:
        """Default route and ports to where they belong; host ports are held from here on."""
        first = arranged(joined, opened.wants, opened.held)
        if opened.wants:
            _refuse_bridged([(e, first[r.id]) for e, r in joined])
        main = next(((e, r) for e, r in joined if first[r.id].is_default), None)
        if main and main[0].policy and main[0].policy.translates and not opened.held:
            held = self._hold_ports(opened, main[0], main[1], main[0].policy.binding)
            opened = msgspec.structs.replace(opened, held=held)
            first = arranged(joined, opened.wants, held)
        return opened, [(e, first[r.id]) for e, r in joined]

    def _hold_ports(
        self, opened: Opened, entry: Entry, record: EndpointRecord, binding: str
    ) -> tuple[PortMapping, ...]:
        if not opened.wants or not entry.driver.publishes:
            return ()
        inside = str(ip_interface(record.address).ip)
        try:
            specs = [resolve(w, binding) for w in opened.wants]
            return self._p.ports.reserve(opened.sandbox.id, specs, inside)
        except Conflict as error:
            raise Conflict(
                "driver failed programming external connectivity on endpoint "
                f"{record.owner_name} ({record.id}): {error}"
            ) from error


def _refuse_bridged(joined: Sequence[Joined]) -> None:
    """Ports would be published nowhere, and nobody told."""
    for entry, record in joined:
        alone = len(joined) == 1 or record.is_default
        if alone and entry.policy is not None and entry.policy.mode == "bridged":
            raise InvalidSpec(
                f"network {entry.name} publishes no ports: its containers are hosts of the LAN, "
                "reached at their own addresses: leave out -p and -P, or give another network "
                "the higher gw-priority"
            )
