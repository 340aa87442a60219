"""List listening and unconnected sockets of any network namespace by NETLINK_SOCK_DIAG, as ss(8).

Source: linux/inet_diag.h, linux/sock_diag.h; the formats are pyroute2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP

from netkit.kernel import netns
from netkit.kernel.netlink import messages
from netkit.kernel.netlink.codec import Netlink

NETLINK_SOCK_DIAG, BY_FAMILY = 4, 20
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
    """List sockets for IPv4 in the namespace at `ns`, also sockets of :: that are for both."""
    from pyroute2.netlink.diag import inet_diag_msg, inet_diag_req  # 0.3 s to import

    found = []
    with netns.inside(ns), Netlink(NETLINK_SOCK_DIAG) as netlink:
        for family in (AF_INET, AF_INET6):
            for proto, (number, state) in WAITING.items():
                asked = {"sdiag_family": family, "sdiag_protocol": number,
                         "idiag_states": 1 << state}  # fmt: skip
                for m in messages.dump(netlink, BY_FAMILY, inet_diag_req(), inet_diag_msg, asked):
                    if (address := _ipv4(m)) is not None:
                        found.append(
                            Waiting(
                                proto=proto,
                                address=address,
                                port=m["idiag_sport"],
                                index=m["idiag_if"],
                                inode=m["idiag_inode"],
                            )
                        )
    return found


def _ipv4(message: messages.Message) -> IPv4Address | None:
    """The IPv4 address a socket takes packets for; None for one of IPv6 only."""
    if message["idiag_family"] == AF_INET:
        return IPv4Address(message["idiag_src"])
    address = IPv6Address(message["idiag_src"])
    if message.get_attr("INET_DIAG_SKV6ONLY"):
        return None
    return IPv4Address(0) if address == IPv6Address(0) else address.ipv4_mapped
