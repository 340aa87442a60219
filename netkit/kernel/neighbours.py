"""What the kernel learned of neighbours by asking (arp(7)), and may forget: it asks again.

All namespaces of a machine share one table of net.ipv4.neigh.default.gc_thresh3 entries, 1,024 by
default, those that are permanent not counted.  When it is full nobody is sent to who is not in it,
until entries are five seconds old (neigh_forced_gc in net/core/neighbour.c).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address

from netkit.errors import KernelError
from netkit.kernel import netns, rtnl
from netkit.kernel.netlink import Netlink, Request, attributes

NUD_NOARP = 0x40


def forget(namespaces: Iterable[str]) -> int:
    """Remove what was learned in these namespaces, by path; how many entries.

    What somebody put there stays.  A namespace that is gone has nothing.
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


def _learned(netlink: Netlink) -> Iterable[tuple[int, IPv4Address]]:
    head = rtnl.NEIGH.pack(socket.AF_INET, 0, 0, 0, 0)
    for message in netlink.dump(Request(rtnl.GETNEIGH, head)):
        _, index, state, _, _ = rtnl.NEIGH.unpack_from(message)
        dst = attributes(message, rtnl.NEIGH.size).get(rtnl.NDA_DST, b"")
        if len(dst) == 4 and not state & (rtnl.NUD_PERMANENT | NUD_NOARP):
            yield index, IPv4Address(dst)
