"""Move addresses and routes of one link to another, attribute for attribute.

They are kept as the kernel's own messages, in which only the link is exchanged: flags, scope,
label, lifetimes, metric, protocol, source, and what a later kernel may add, come along.
Numbers: linux/if_addr.h, rtnetlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6

from netkit.errors import KernelError
from netkit.kernel.netlink.codec import CREATE, REPLACE, Netlink, Request, attr, attributes
from netkit.kernel.netlink.rtnl import (
    DELADDR,
    DELROUTE,
    GETROUTE,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFADDR,
    NEWADDR,
    NEWROUTE,
    ROUTE,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_TABLE,
    SCOPE_LINK,
    addresses,
)

APPEND = 0x800  # NLM_F_APPEND: after others of the same destination and metric
IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS = 3, 6, 8
# SECONDARY, DADFAILED, DEPRECATED, TENTATIVE, PERMANENT: set by the kernel, not by us
CONCLUDED = 0x01 | 0x08 | 0x20 | 0x40 | 0x80
RTA_MULTIPATH, RTA_CACHEINFO, RTA_NH_ID = 9, 12, 30
NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, interface
ONLINK = 0x4
RT_TABLE_LOCAL = 255
RTPROT_KERNEL = 2

Link = tuple[int, str]  # index and name


@dataclass(frozen=True, slots=True)
class Belongings:
    """Addresses and routes of a link, which is written as index 0 and label ""."""

    addresses: tuple[bytes, ...] = ()
    routes: tuple[bytes, ...] = ()

    @property
    def gateways(self) -> list[IPv4Address]:
        """Routers on the link, by IPv4."""
        found = (attributes(r, 12).get(RTA_GATEWAY) for r in self.routes if r[0] == AF_INET)
        return sorted({IPv4Address(g) for g in found if g})

    @property
    def ipv4(self) -> list[IPv4Address]:
        raw = (attributes(a, 8) for a in self.addresses if a[0] == AF_INET)
        return [IPv4Address(a.get(IFA_LOCAL) or a[IFA_ADDRESS]) for a in raw]

    def missing(self, there: Belongings) -> str:
        """Return what `there` lacks of this; "" if nothing.  Lifetimes are not compared."""
        lost = {_timeless(a) for a in self.addresses} - {_timeless(a) for a in there.addresses}
        routes = set(self.routes) - set(there.routes)
        return ", ".join(
            [*(f"address {_shown(a)}" for a in sorted(lost)), *map(_route_shown, sorted(routes))]
        )


def read(netlink: Netlink, link: Link) -> Belongings:
    """What was configured on a link: not its IPv6 link-local address, nor routes
    of the local table, which come by themselves.

    KernelError if some of it cannot be moved.
    """
    index, name = link
    found = netlink.dump(addresses(index))
    given = [_address(m, link, (0, "")) for m in found if _is_given(m)]
    routes = [
        _route(m, {index: 0})
        for family in (AF_INET, AF_INET6)
        for m in netlink.dump(Request(GETROUTE, ROUTE.pack(family, *[0] * 7, 0)))
        if _is_through(m, index)
    ]
    if any(RTA_NH_ID in attributes(r, 12) for r in routes):
        raise KernelError(
            f"routes of {name} use nexthop objects (ip nexthop): they cannot be moved"
        )
    # A route needs its gateway to be in reach: the narrow scopes first, then what has no gateway.
    routes.sort(key=lambda r: (-r[6], RTA_GATEWAY in attributes(r, 12)))
    return Belongings(tuple(given), tuple(routes))


def give(b: Belongings, link: Link) -> list[Request]:
    """Return requests to add these to a link, in order; EEXIST is fine."""
    return [
        *(Request(NEWADDR, _address(a, (0, ""), link), CREATE | REPLACE) for a in b.addresses),
        *(
            Request(NEWROUTE, _route(r, {0: link[0]}), CREATE | (APPEND if r[0] == AF_INET else 0))
            for r in b.routes
        ),
    ]


def take(b: Belongings, link: Link) -> list[Request]:
    """Requests to delete these from a link; ENOENT and the like are no errors then."""
    return [
        *(Request(DELROUTE, _route(r, {0: link[0]})) for r in b.routes),
        *(Request(DELADDR, _address(a, (0, ""), link)) for a in reversed(b.addresses)),
    ]


def surplus(b: Belongings, there: Belongings) -> Belongings:
    """Return routes that the kernel added with the addresses, and that were not there before."""
    own = (r for r in there.routes if r not in b.routes and r[5] == RTPROT_KERNEL)
    return Belongings(routes=tuple(own))


def _is_given(message: bytes) -> bool:
    family, _, _, scope, _ = IFADDR.unpack_from(message)
    return not (family == AF_INET6 and scope == SCOPE_LINK)


def _is_through(message: bytes, index: int) -> bool:
    family, _, _, _, table, proto, _, _, _ = ROUTE.unpack_from(message)
    a = attributes(message, 12)
    number = int.from_bytes(a.get(RTA_TABLE, bytes([table])), sys.byteorder)
    if number == RT_TABLE_LOCAL:
        return False
    if family == AF_INET6 and proto == RTPROT_KERNEL:
        return False  # comes and goes with its address
    return index in {int.from_bytes(a.get(RTA_OIF, b""), sys.byteorder), *_interfaces(a)}


def _interfaces(a: Mapping[int, bytes]) -> Iterator[int]:
    raw, at = a.get(RTA_MULTIPATH, b""), 0
    while at + NEXTHOP.size <= len(raw):
        length, _, _, index = NEXTHOP.unpack_from(raw, at)
        yield index
        at += max((length + 3) & ~3, NEXTHOP.size)


def _address(message: bytes, old: Link, new: Link) -> bytes:
    family, length, flags, scope, _ = IFADDR.unpack_from(message)
    names = {old[1].encode() + b"\0": new[1].encode() + b"\0"}
    change: Mapping[int, Callable[[bytes], bytes]] = {
        # the label eth0 is the link's name and follows it; eth0:1 was configured, and stays
        IFA_LABEL: lambda raw: names.get(raw, raw),
        IFA_FLAGS: lambda raw: (_int(raw) & ~CONCLUDED).to_bytes(4, sys.byteorder),
    }
    head = IFADDR.pack(family, length, flags & ~CONCLUDED, scope, new[0])
    return head + _rewritten(message, 8, change)


def _route(message: bytes, indexes: Mapping[int, int]) -> bytes:
    fields = list(ROUTE.unpack_from(message))
    fields[8] &= ONLINK

    def link(raw: bytes) -> bytes:
        index = _int(raw)
        return indexes.get(index, index).to_bytes(4, sys.byteorder)

    def links(raw: bytes) -> bytes:
        out, at = bytearray(raw), 0
        while at + NEXTHOP.size <= len(raw):
            length, flags, hops, index = NEXTHOP.unpack_from(raw, at)
            NEXTHOP.pack_into(out, at, length, flags & ONLINK, hops, indexes.get(index, index))
            at += max((length + 3) & ~3, NEXTHOP.size)
        return bytes(out)

    change = {RTA_OIF: link, RTA_MULTIPATH: links, RTA_CACHEINFO: lambda raw: b""}
    return ROUTE.pack(*fields) + _rewritten(message, 12, change)


def _rewritten(
    message: bytes, offset: int, change: Mapping[int, Callable[[bytes], bytes]]
) -> bytes:
    """Attributes in their order; one that becomes empty is left out."""
    found = attributes(message, offset).items()
    pairs = ((k, change[k](v) if k in change else v) for k, v in found)
    return b"".join(attr(k, v) for k, v in pairs if v)


def _timeless(address: bytes) -> bytes:
    lifetimes = {IFA_CACHEINFO: lambda raw: b""}
    return address[:8] + _rewritten(address, 8, lifetimes)


def _shown(address: bytes) -> str:
    a = attributes(address, 8)
    raw = a.get(IFA_LOCAL) or a[IFA_ADDRESS]
    text = str(IPv4Address(raw)) if len(raw) == 4 else raw.hex(":", 2)
    return f"{text}/{address[1]}"


def _route_shown(route: bytes) -> str:
    raw = attributes(route, 12).get(1, b"")
    text = str(IPv4Address(raw)) if len(raw) == 4 else raw.hex(":", 2)
    return f"route to {text}/{route[1]}" if raw else "the default route"


def _int(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)


def as_text(b: Belongings) -> dict[str, Sequence[str]]:
    """For a file."""
    return {"addresses": [a.hex() for a in b.addresses], "routes": [r.hex() for r in b.routes]}


def of_text(texts: Mapping[str, Sequence[str]]) -> Belongings:
    """What `as_text` made."""
    return Belongings(
        tuple(map(bytes.fromhex, texts["addresses"])), tuple(map(bytes.fromhex, texts["routes"]))
    )
