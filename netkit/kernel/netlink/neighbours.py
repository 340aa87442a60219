"""Read neighbours and forwarding tables, in pyroute2's formats.

What the kernel learned by asking (arp(7)) it may forget: it asks again.  All namespaces of a
machine share one table of net.ipv4.neigh.default.gc_thresh3 entries, 1,024 by default, those that
are permanent not counted.  When it is full no packet is sent to addresses not in it, until entries
are five seconds old (neigh_forced_gc in net/core/neighbour.c).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.netlink import messages, rtnl
from netkit.kernel.netlink.codec import Netlink

NUD_INCOMPLETE, NUD_FAILED, NUD_NOARP = 0x01, 0x20, 0x40  # linux/neighbour.h


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingEntry:
    """Frames to `mac` leave a bridge by a port; both are indexes of links."""

    bridge: int
    mac: str
    port: int
    own: bool  # the port's own address, not that of one behind it


def neighbours(netlink: Netlink) -> Iterator[tuple[int, IPv4Address, str]]:
    """(index, address, MAC) of the entries that packets are sent by."""
    for m in _entries(netlink, socket.AF_INET):
        mac, address = m.get_attr("NDA_LLADDR"), m.get_attr("NDA_DST")
        if mac and address and not m["state"] & (NUD_INCOMPLETE | NUD_FAILED):
            yield m["ifindex"], IPv4Address(address), mac


def forwarding(netlink: Netlink) -> Iterator[ForwardingEntry]:
    """The forwarding tables of all bridges."""
    for m in _entries(netlink, socket.AF_BRIDGE):
        mac, bridge = m.get_attr("NDA_LLADDR"), m.get_attr("NDA_MASTER")
        if mac and bridge:
            own = bool(m["state"] & rtnl.NUD_PERMANENT)
            yield ForwardingEntry(bridge=bridge, mac=mac, port=m["ifindex"], own=own)


def forget(namespaces: Iterable[str]) -> int:
    """Remove what was learned in these namespaces, by path; return the number of entries.

    Entries of other tools stay.  A deleted namespace has none.
    """
    count = 0
    for path in namespaces:
        with suppress(KernelError):
            with netns.inside(path):
                netlink = Netlink(socket.NETLINK_ROUTE)
            with netlink:
                doomed = list(_learned(netlink))
                netlink.run([rtnl.del_neigh(index, address) for index, address in doomed])
                count += len(doomed)
    return count


def _learned(netlink: Netlink) -> Iterator[tuple[int, IPv4Address]]:
    for m in _entries(netlink, socket.AF_INET):
        address = m.get_attr("NDA_DST")
        if address and not m["state"] & (rtnl.NUD_PERMANENT | NUD_NOARP):
            yield m["ifindex"], IPv4Address(address)


def _entries(netlink: Netlink, family: int) -> Iterator[messages.Message]:
    from pyroute2.netlink.rtnl.ndmsg import ndmsg  # 0.3 s to import

    return messages.dump(netlink, rtnl.GETNEIGH, ndmsg(), ndmsg, {"family": family})
