"""Addresses in a pool of dockerd's, as text.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, ip_address

from netkit.driver import Subnet
from netkit.errors import Conflict, InvalidSpec
from netkit.frontends.libnetwork.messages import short
from netkit.frontends.libnetwork.tables import PoolRow
from netkit.ipam.pools import assignable_range
from netkit.network.validation import with_gateway
from netkit.spec import SubnetSpec


def lowest_free(pool: PoolRow, taken: Collection[str]) -> str:
    """The lowest assignable address that is not `taken`.  Conflict: there is none."""
    subnet = _subnet(pool)
    first, last = assignable_range(subnet)
    for number in range(first, last + 1):
        if (text := str(IPv4Address(number))) not in taken:
            return text
    raise Conflict(f"no available IPv4 addresses in pool {pool.cidr}")


def _subnet(pool: PoolRow) -> Subnet:
    span = IPv4Network(pool.range) if pool.range else None
    return Subnet(cidr=IPv4Network(pool.cidr), ip_range=span)


def gateway_of(spec: SubnetSpec) -> str:
    """The network's gateway; without one an address by which dockerd can call it."""
    return spec.gateway or str(with_gateway(Subnet(cidr=IPv4Network(spec.subnet))).gateway)


def parse(pool: PoolRow, text: str) -> str:
    """A requested address in normal form; "" is any.  InvalidSpec."""
    if not text:
        return ""
    try:
        found = ip_address(text)
    except ValueError:
        raise InvalidSpec(f"invalid address {short(text)}") from None
    if found not in IPv4Network(pool.cidr):
        raise InvalidSpec(f"address {found} is not in pool {pool.cidr}")
    return str(found)


def with_length(address: str, pool: PoolRow) -> str:
    """With the prefix length of the pool, as in 10.1.2.3/16: what dockerd takes."""
    return f"{address}/{IPv4Network(pool.cidr).prefixlen}"
