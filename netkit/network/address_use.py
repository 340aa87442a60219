"""How many addresses of a network are allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netkit.driver import Subnet
from netkit.ipam.allocator import AddressAllocator
from netkit.ipam.pools import assignable_range
from netkit.model import IPNetwork
from netkit.network.entry import NetworkEntry


class SubnetUse(NamedTuple):
    """Of one subnet: within the range that addresses are allocated from (`--ip-range`), and all.

    `allocated` are those of this host's containers, and reserved ones: the gateway's, auxiliary
    addresses.  Of a network that hosts share, others have more.
    """

    network: str  # id
    subnet: IPNetwork
    size: int  # addresses that can be allocated
    allocated: int  # of these
    in_use: int  # of the whole subnet; its network and broadcast address count as in use

    @property
    def free(self) -> int:
        return max(0, self.size - self.allocated)


def of_networks(
    entries: Iterable[NetworkEntry], addresses: AddressAllocator
) -> Iterator[SubnetUse]:
    for entry in entries:
        for subnet in entry.config.subnets:
            yield _use(entry.record.id, subnet, addresses)


def _use(network: str, subnet: Subnet, addresses: AddressAllocator) -> SubnetUse:
    low, high = assignable_range(subnet)
    origin = subnet.cidr.network_address
    first, last = origin + (low - int(origin)), origin + (high - int(origin))
    return SubnetUse(
        network=network,
        subnet=subnet.cidr,
        size=max(0, high - low + 1),
        allocated=addresses.count_between(network, first, last),
        in_use=addresses.count_between(network, subnet.cidr[0], subnet.cidr[-1])
        + (2 if subnet.cidr.num_addresses > 2 else 0),  # RFC 3021 for /31
    )
