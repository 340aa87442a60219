"""Which addresses a registry may send its client to.  Pure.

A registry names other hosts: where tokens are (realms), where blobs are (redirects), where uploads
go on.  Out there it must not be able to name what only this host or its network can reach.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from netkit.errors import Forbidden

_NAT64 = IPv6Network("64:ff9b::/96")


class Reach(NamedTuple):
    """Kinds of addresses, from the nearest to the farthest."""

    loopback: bool = False
    link_local: bool = False
    private: bool = False


def reach(address: str) -> Reach:
    """What kind of address it is.  Unspecified, reserved and multicast ones count as loopback."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if parsed in _NAT64:
            inner = IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return reach(str(inner))
    near = parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast
    if near or (parsed.is_reserved and parsed.version == 4):
        return Reach(loopback=True)
    if parsed.is_link_local:
        return Reach(link_local=True)
    return Reach(private=not parsed.is_global)


def check(registry: str, address: str, what: str) -> None:
    """May a registry at one address send the client to another?  Forbidden if not.

    Loopback: only from loopback.  Link-local (where clouds keep credentials): only from link-local.
    Private networks: from loopback and from private networks, not from the internet.
    """
    there = reach(address)
    here = reach(registry) if registry else Reach()
    if there.loopback and not here.loopback:
        raise Forbidden(f"{what} is on loopback ({address}), and the registry is not: refused")
    if there.link_local and not here.link_local:
        raise Forbidden(f"{what} has a link-local address ({address}): refused")
    if there.private and not any(here):
        raise Forbidden(
            f"{what} is in a private network ({address}), and the registry is not: refused"
        )
