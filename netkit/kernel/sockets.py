"""Sockets that wait for anybody, in any network namespace: NETLINK_SOCK_DIAG, as ss(8) asks.

    inet_diag_req_v2   family 1 | protocol 1 | ext 1 | pad 1 | states 4 | id 48
    inet_diag_msg      family 1 | state 1 | timer 1 | retrans 1 | id 48 | 16 more | inode 4 | …
    id                 port 2 | far port 2 | address 16 | far address 16 | interface 4 | cookie 8

Source: linux/inet_diag.h, linux/sock_diag.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP

from netkit.kernel import netns
from netkit.kernel.netlink import Netlink, Request, attributes

NETLINK_SOCK_DIAG, BY_FAMILY = 4, 20
REQUEST = struct.Struct("=BBBBI48x")
SIZE = 72  # of inet_diag_msg
SKV6ONLY = 11
LISTEN, CLOSE = 10, 7  # states of TCP; a UDP socket that is bound and not connected is in CLOSE
WAITING = {"tcp": (IPPROTO_TCP, LISTEN), "udp": (IPPROTO_UDP, CLOSE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Of IPv4: 0.0.0.0 is any address.  `index` 0: on all interfaces."""

    proto: str
    address: IPv4Address
    port: int
    index: int
    inode: int = 0


def waiting(ns: str) -> list[Waiting]:
    """Those that take IPv4, in the namespace at `ns`; also sockets of :: that are for both."""
    with netns.inside(ns), Netlink(NETLINK_SOCK_DIAG) as netlink:
        return [
            found
            for family in (AF_INET, AF_INET6)
            for proto, (number, state) in WAITING.items()
            for message in netlink.dump(
                Request(BY_FAMILY, REQUEST.pack(family, number, 0, 0, 1 << state))
            )
            for found in _seen(message, proto)
        ]


def _seen(message: bytes, proto: str) -> Iterator[Waiting]:
    (port,) = struct.unpack_from("!H", message, 4)
    (index,) = struct.unpack_from("=I", message, 40)
    (inode,) = struct.unpack_from("=I", message, 68)
    raw = message[8:24]
    if message[0] == AF_INET:
        address = IPv4Address(raw[:4])
        yield Waiting(proto=proto, address=address, port=port, index=index, inode=inode)
        return
    only = attributes(message, SIZE).get(SKV6ONLY, b"\0")[0]
    far = IPv6Address(raw)
    mapped = far.ipv4_mapped or (IPv4Address(0) if far == IPv6Address(0) else None)
    if not only and mapped is not None:
        yield Waiting(proto=proto, address=mapped, port=port, index=index, inode=inode)
