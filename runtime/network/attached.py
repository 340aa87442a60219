"""Addresses of a container as questions about packets take them, in its resolver's order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Interface, ip_interface

from netkit.diagnose.choosing import Attached
from netkit.spec import EndpointRecord, NetworkRecord


def in_order(
    records: Iterable[EndpointRecord], networks: Iterable[NetworkRecord]
) -> list[EndpointRecord]:
    """One container's endpoints on these networks, in the order in which names are looked up."""
    known = {n.id: n for n in networks}

    def order(e: EndpointRecord) -> tuple[bool, bool, int, str]:
        return known[e.network].builtin, not e.is_default, -e.spec.gw_priority, e.network

    return sorted((e for e in records if e.network in known), key=order)


def attached(
    records: Iterable[EndpointRecord], networks: Iterable[NetworkRecord], shared: Collection[str]
) -> tuple[Attached, ...]:
    """One container's IPv4 addresses; `shared`: ids of networks that other hosts may be on."""
    known = {n.id: n for n in networks}
    return tuple(
        Attached(
            known[e.network].spec.name, str(address.ip), address.network.prefixlen,
            e.network in shared,
        )
        for e in in_order(records, known.values())
        for address in map(ip_interface, e.addresses) if isinstance(address, IPv4Interface)
    )  # fmt: skip
