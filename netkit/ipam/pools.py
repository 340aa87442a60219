"""Choose subnets for networks, and the addresses that may be allocated of them.  Pure.

What was given is kept by `netkit.ipam.allocator`.  Rules and messages are Docker's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from netkit.driver import Subnet
from netkit.errors import Conflict, Forbidden, InvalidSpec, NotSupported
from netkit.model import IPAddress, IPNetwork

if TYPE_CHECKING:
    from netkit.spec import SubnetSpec


@dataclass(frozen=True, slots=True)
class Pool:
    """A range to cut networks of one prefix length from."""

    base: IPv4Network
    size: int  # prefix length of each network


DEFAULT_POOLS = (
    *(Pool(IPv4Network(f"172.{n}.0.0/16"), 16) for n in (17, 18, 19)),
    *(Pool(IPv4Network(f"172.{n}.0.0/14"), 16) for n in (20, 24, 28)),
    Pool(IPv4Network("192.168.0.0/16"), 20),
)


def parse_pool(base: str, size: int) -> Pool:
    """`--default-address-pool base=,size=`; InvalidSpec with the reason."""
    try:
        network = ip_network(base)
    except ValueError as bad:
        raise InvalidSpec(f"invalid base pool {base!r}: {bad}") from None
    if isinstance(network, IPv6Network):
        raise NotSupported(f"IPv6 is not supported yet: leave out the address pool {base}")
    if not network.prefixlen <= size <= 30:
        raise InvalidSpec(f"invalid pool size {size} for {base}: {network.prefixlen} to 30")
    return Pool(network, size)


def allocate_subnet(
    pools: Sequence[Pool],
    taken: Sequence[IPNetwork],
    size: int | None = None,
    *,
    last: bool = False,
) -> IPv4Network:
    """Choose the first subnet of the pools that overlaps nothing in `taken`; or the `last`."""
    busy = sorted(_ends(t) for t in taken if isinstance(t, IPv4Network))
    begins = [begin for begin, _ in busy]
    ends = list(accumulate((end for _, end in busy), max))  # the farthest up to each
    for first, length in _candidates(pools, size, last):
        before = bisect_right(begins, first + (1 << 32 - length) - 1)
        if not before or ends[before - 1] < first:
            return IPv4Network((first, length))
    raise Conflict(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to "
        "assign to the network: remove unused networks, give --subnet, or add address pools"
    )


def _ends(network: IPv4Network) -> tuple[int, int]:
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def _candidates(pools: Sequence[Pool], size: int | None, last: bool) -> Iterator[tuple[int, int]]:
    """First addresses, with the length of their prefixes."""
    for pool in reversed(pools) if last else pools:
        length = pool.size if size is None else size
        if length >= pool.base.prefixlen:
            first, step = int(pool.base.network_address), 1 << 32 - length
            starts = range(first, first + pool.base.num_addresses, step)
            for start in reversed(starts) if last else starts:
                yield start, length


def requested_prefix_length(spec: SubnetSpec) -> int | None:
    """The prefix length, where "0.0.0.0/24" asks for any subnet of that size."""
    address, _, length = spec.subnet.partition("/")
    if address == "0.0.0.0" and length.isdigit() and 0 < int(length) <= 32:
        return int(length)
    return None


def parse_subnets(specs: Iterable[SubnetSpec]) -> tuple[Subnet, ...]:
    """Parse and check the user's subnets; all problems in one InvalidSpec, in Docker's words."""
    problems: list[str] = []
    subnets = [s for spec in specs if (s := _parse(spec, problems)) is not None]
    for i, one in enumerate(subnets):
        for other in subnets[:i]:
            if one.cidr.overlaps(other.cidr):
                problems.append(f"invalid subnet {one.cidr}: it overlaps with {other.cidr}")
    if problems:
        raise InvalidSpec("invalid network config:\n" + "\n".join(problems))
    return tuple(subnets)


def _parse(spec: SubnetSpec, problems: list[str]) -> Subnet | None:
    cidr = _network("subnet", spec.subnet, problems)
    if cidr is None:
        return None
    span = _network("ip-range", spec.ip_range, problems) if spec.ip_range else None
    if span is not None and not _within(span, cidr):
        problems.append(f"invalid ip-range {span}: parent subnet {cidr} doesn't contain ip-range")
    gateway = _address("gateway", spec.gateway, cidr, problems) if spec.gateway else None
    aux = [
        (name, _address("auxiliary address", text, cidr, problems))
        for name, text in sorted(spec.aux.items())
    ]
    return Subnet(
        cidr=cidr,
        gateway=gateway,
        ip_range=span,
        aux=tuple((name, a) for name, a in aux if a is not None),
    )


def _network(what: str, text: str, problems: list[str]) -> IPNetwork | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None or "/" not in text:
        problems.append(f"invalid {what} {text}: invalid CIDR block notation")
        return None
    if isinstance(network, IPv6Network):
        raise NotSupported(f"IPv6 is not supported yet: leave out {what} {text}")
    if ip_address(text.split("/", maxsplit=1)[0]) != network.network_address:
        problems.append(f"invalid {what} {text}: it should be {network}")
        return None
    return network


def _address(what: str, text: str, cidr: IPNetwork, problems: list[str]) -> IPAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        problems.append(f"invalid {what} {text}: invalid address")
        return None
    if address not in cidr:
        problems.append(f"invalid {what} {text}: parent subnet {cidr} doesn't contain this address")
    elif address in (cidr[0], cidr[-1]) and cidr.num_addresses > 2:
        problems.append(f"invalid {what} {text}: it is the network or broadcast address of {cidr}")
    return address


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and (
        inner.network_address in outer and inner.broadcast_address in outer
    )


class SubnetOverlap(Forbidden):
    """403, as Docker has it."""


class UsedSubnet(NamedTuple):
    cidr: IPNetwork
    network: str  # the name of the network that has it


def check_overlap(wanted: IPNetwork, taken: Iterable[UsedSubnet]) -> None:
    """Raise SubnetOverlap if another network has some of these addresses."""
    for cidr, name in taken:
        if cidr.version == wanted.version and wanted.overlaps(cidr):
            raise SubnetOverlap(
                "invalid pool request: Pool overlaps with other one on this address space: "
                f"{wanted} and {cidr} of network {name}"
            )


def assignable_range(subnet: Subnet) -> tuple[int, int]:
    """Return the first and last allocatable address, as numbers.

    A network and broadcast address exist where there are more than two (RFC 3021 for /31).
    """
    low, high = int(subnet.cidr[0]), int(subnet.cidr[-1])
    if subnet.cidr.num_addresses > 2:
        low, high = low + 1, high - 1
    if subnet.ip_range is not None:
        low = max(low, int(subnet.ip_range[0]))
        high = min(high, int(subnet.ip_range[-1]))
    return low, high
