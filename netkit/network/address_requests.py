"""Requests for addresses of one endpoint, in weave's grammar.  Pure.

    10.2.1.1/24, ip:10.2.1.1/24   this address, in a subnet of this length
    net:10.2.1.0/24               any address of this subnet
    net:default                   any address of the network's first subnet

An endpoint that has an address of the subnet already gets no other one by `net:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, ip_interface

from netkit.errors import InvalidSpec, NotSupported
from netkit.spec import NetworkRecord

OPTION = "netkit.addresses"
"""The key in the Engine API's DriverOpts: requests, separated by commas or blanks."""
MOST = 8
"""Addresses of one endpoint (`netkit.overlay.verbs.Addresses`)."""
DEFAULT = "default"
IP, NET = "ip:", "net:"
GRAMMAR = "write 10.2.1.1/24, net:10.2.1.0/24 or net:default"


@dataclass(frozen=True, slots=True)
class ThisAddress:
    interface: IPv4Interface

    def __str__(self) -> str:
        return str(self.interface)


@dataclass(frozen=True, slots=True)
class FromSubnet:
    subnet: IPv4Network | None = None  # None: the network's first

    def __str__(self) -> str:
        return f"{NET}{self.subnet or DEFAULT}"


AddressRequest = ThisAddress | FromSubnet


def split(text: str) -> tuple[str, ...]:
    """Split the value of the option `OPTION`."""
    return tuple(filter(None, re.split(r"[\s,]+", text)))


def parse(texts: Iterable[str]) -> tuple[AddressRequest, ...]:
    """Parse all requests of one endpoint.  InvalidSpec names the bad one, and what to write."""
    return checked(tuple(map(_parsed, texts)))


def checked(requests: tuple[AddressRequest, ...]) -> tuple[AddressRequest, ...]:
    """Return them, unless they contradict each other or are too many.  InvalidSpec."""
    if len(requests) > MOST:
        raise InvalidSpec(f"{len(requests)} addresses for one endpoint: {MOST} at most")
    seen: set[object] = set()
    for request in requests:
        what = request.interface.ip if isinstance(request, ThisAddress) else request
        if what in seen:
            raise InvalidSpec(f"invalid address {request}: it is given twice")
        seen.add(what)
    return requests


def in_other_subnets(
    requests: Iterable[AddressRequest], network: NetworkRecord, there: Iterable[NetworkRecord]
) -> list[str]:
    """Warn of addresses that lie in a subnet of another network, a line each.

    Not where the subnet of its own network that has the address is the smaller one.
    """
    others = [each for each in there if each.id != network.id]
    found = []
    for ip in (r.interface.ip for r in requests if isinstance(r, ThisAddress)):
        own = max((s.prefixlen for s in _subnets(network) if ip in s), default=-1)
        found += [
            f"address {ip} is in the subnet {subnet} of network {other.spec.name}: who is on both "
            "networks may look for it there"
            for other in others for subnet in _subnets(other)
            if ip in subnet and subnet.prefixlen > own
        ]  # fmt: skip
    return found


def _subnets(network: NetworkRecord) -> list[IPv4Network]:
    written = (s.subnet for s in network.spec.subnets)
    return [IPv4Network(each) for each in written if each and ":" not in each]


def _parsed(text: str) -> AddressRequest:
    if text.startswith(NET):
        rest = text.removeprefix(NET)
        return FromSubnet() if rest == DEFAULT else FromSubnet(_subnet(text, rest))
    return ThisAddress(_address(text, text.removeprefix(IP)))


def _interface(text: str, written: str) -> IPv4Interface:
    if "/" not in written:
        raise InvalidSpec(f"invalid address {text!r}: it has no prefix length: {GRAMMAR}")
    try:
        found = ip_interface(written)
    except ValueError:
        raise InvalidSpec(f"invalid address {text!r}: {GRAMMAR}") from None
    if not isinstance(found, IPv4Interface):
        raise NotSupported(f"IPv6 is not supported yet: leave out address {text}")
    if not written.partition("/")[2].isdigit():  # a netmask
        raise InvalidSpec(f"invalid address {text!r}: {GRAMMAR}")
    return found


def _subnet(text: str, written: str) -> IPv4Network:
    found = _interface(text, written)
    if found.ip != found.network.network_address:
        raise InvalidSpec(f"invalid subnet {text!r}: it should be {NET}{found.network}")
    return found.network


def _address(text: str, written: str) -> IPv4Interface:
    found = _interface(text, written)
    network = found.network
    # In a /31 and a /32 every address is a host's (RFC 3021).
    if network.num_addresses > 2 and found.ip in (network[0], network[-1]):
        raise InvalidSpec(
            f"invalid address {text!r}: it is the network or broadcast address of {network}; "
            f"any address of it is {NET}{network}"
        )
    first = found.ip.packed[0]
    # RFC 6890: this host, loopback; multicast and reserved ones.
    if first in {0, 127} or first >= 224:
        raise InvalidSpec(f"invalid address {text!r}: it is no address of one host")
    return found


def assigned(
    requests: Sequence[AddressRequest], have: Sequence[IPv4Interface], default: IPv4Network
) -> list[tuple[AddressRequest, IPv4Interface | None]]:
    """Return for each request the address that meets it, of those that an endpoint has.

    `default` is the network's first subnet.  One address may meet several requests.
    """
    return [(request, _meets(request, have, default)) for request in requests]


def _meets(
    request: AddressRequest, have: Sequence[IPv4Interface], default: IPv4Network
) -> IPv4Interface | None:
    if isinstance(request, ThisAddress):
        return request.interface if request.interface in have else None
    subnet = request.subnet or default
    return next((a for a in have if a.ip in subnet), None)
