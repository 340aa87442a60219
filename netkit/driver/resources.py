"""What most drivers need to say which resources there are: ends of wires and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address

from netkit.driver.values import ANYWHERE, Endpoint, Network
from netkit.model import Addr, IPAddress, Resource, Route


def address_resources(
    net: Network, ep: Endpoint, via: str | None, router: IPAddress | None
) -> Iterator[Resource]:
    """Yield addresses and routes of a container's end of a pair whose host end is `via`.

    Its addresses, and its default route by `router`, if there is one and the endpoint carries it.
    Without `via` its end is a link of its own, which the driver made in `ep.ns`.
    """
    owner = ep.owner(net)
    addresses = [
        Addr(dev=ep.ifname, address=a, ns=ep.ns, via=via, owner=owner) for a in ep.addresses
    ]
    yield from addresses
    if ep.gateway and router is not None:
        yield Route(
            dst=ANYWHERE,
            dev=ep.ifname,
            ns=ep.ns,
            gateway=router,
            via=via,
            owner=owner,
            depends_on=tuple(a.key for a in addresses),
        )


def ifname(prefix: str, id: str) -> str:
    """A link name of ours: fits IFNAMSIZ (15 characters), and shows its purpose and owner."""
    return f"{prefix}{id}"[:15]


def derive_mac(*words: str) -> str:
    """A stable, locally administered unicast MAC address from the words (RFC 7042, 2.1)."""
    raw = bytearray(hashlib.sha256("\0".join(words).encode()).digest()[:6])
    raw[0] = (raw[0] & 0xFE) | 0x02
    return raw.hex(":")


def mac_of(address: IPv4Address) -> str:
    """The MAC address that is made of an IPv4 address, as Docker's overlay has it."""
    return bytes((0x02, 0x42, *address.packed)).hex(":")
