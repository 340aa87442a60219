"""Tables by which an overlay's frames find their peer, of links that one process keeps.

    bridge     MAC -> port                    static: nothing is learned (rtnl.new_fdb)
    VXLAN      MAC -> peer's address          one each; of the MAC address 00:00:00:00:00:00, which
                                              is for all that have no entry, one for each peer
    bridge     IPv4 address -> MAC            neighbours, by which the bridge answers ARP

Ours among the neighbours have our protocol number, which the kernel keeps since Linux 5.0.  All
that is at a port or VXLAN device of ours is ours.
Numbers: linux/neighbour.h.  Source: bridge(8); drivers/net/vxlan/vxlan_core.c.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.kernel import netns
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import CREATE, EXCL, REPLACE, Netlink, Request, attr, attributes
from netkit.kernel.netlink.codec import number as u32
from netkit.model.vxlan import ALL

APPEND = 0x800  # NLM_F_APPEND
NTF_SELF = 0x02  # the table of the device itself, not of its bridge
NUD_USABLE = rtnl.NUD_PERMANENT | rtnl.NUD_NOARP
NDA_VLAN, NDA_IFINDEX, NDA_MASTER, NDA_PROTOCOL = 5, 8, 9, 12
OURS = attr(NDA_PROTOCOL, bytes([rtnl.RTPROT_NETKIT]))


def new_tunnel(index: int, mac: str, peer: IPv4Address) -> Request:
    """Frames to `mac` go to `peer`: there alone, unless `mac` is ALL."""
    flags = CREATE | (APPEND if mac == ALL else REPLACE)
    return Request(rtnl.NEWNEIGH, _tunnel(index, mac, peer, rtnl.NUD_PERMANENT), flags)


def del_tunnel(index: int, mac: str, peer: IPv4Address) -> Request:
    return Request(rtnl.DELNEIGH, _tunnel(index, mac, peer, 0))


def _tunnel(index: int, mac: str, peer: IPv4Address, state: int) -> bytes:
    head = rtnl.NEIGH.pack(socket.AF_BRIDGE, index, state, NTF_SELF, 0)
    return head + attr(rtnl.NDA_LLADDR, _raw(mac)) + attr(rtnl.NDA_DST, peer.packed)


def new_place(port: int, mac: str, *, replace: bool) -> Request:
    """`mac` is behind this port of a bridge.  Without `replace` EEXIST if it is behind any."""
    made = rtnl.new_fdb(port, mac)
    return made if replace else Request(made.kind, made.body, CREATE | EXCL)


def new_neighbour(bridge: int, address: IPv4Address, mac: str) -> Request:
    """Takes the place of any entry for that address."""
    made = rtnl.new_neigh(bridge, address, mac)
    return Request(made.kind, made.body + OURS, made.flags)


@dataclass(frozen=True, slots=True)
class Port:
    """What is known of a port of a bridge."""

    places: frozenset[str]  # MAC addresses behind it, but its own
    tunnels: frozenset[tuple[str, int]]  # MAC and peer's address, if it is a VXLAN device


def port(netlink: Netlink, index: int) -> Port:
    """Read the entries of one port; those of no VLAN, of which each has a copy."""
    places: set[str] = set()
    tunnels: set[tuple[str, int]] = set()
    ask = rtnl.NEIGH.pack(socket.AF_BRIDGE, index, 0, 0, 0)
    for body in netlink.dump(Request(rtnl.GETNEIGH, ask)):
        _, at, state, _, _ = rtnl.NEIGH.unpack_from(body)
        a = attributes(body, rtnl.NEIGH.size)
        mac = a.get(rtnl.NDA_LLADDR, b"").hex(":")
        if at != index or NDA_VLAN in a or not mac:
            continue
        if NDA_MASTER in a:
            if not state & rtnl.NUD_PERMANENT:  # that is the port's own
                places.add(mac)
        elif len(dst := a.get(rtnl.NDA_DST, b"")) == 4:
            tunnels.add((mac, int.from_bytes(dst, "big")))
    return Port(frozenset(places), frozenset(tunnels))


def devices_up(home: str, names: Iterable[str]) -> list[str]:
    """Of the links of these names in the namespace at `home`, those that are up.  KernelError."""
    with netns.inside(home):
        netlink = Netlink()
    with netlink:
        replies = netlink.run([rtnl.get_link(name) for name in names])
        seen = [rtnl.seen_link(body) for reply in replies for body in reply.messages]
        return [link.name for link in seen if link.up]


def neighbours(netlink: Netlink, bridge: int) -> dict[int, str]:
    """MAC by IPv4 address, of those of a bridge that are ours."""
    ask = rtnl.NEIGH.pack(socket.AF_INET, 0, 0, 0, 0) + u32(NDA_IFINDEX, bridge)
    ours: dict[int, str] = {}
    for body in netlink.dump(Request(rtnl.GETNEIGH, ask)):
        _, at, state, _, _ = rtnl.NEIGH.unpack_from(body)
        a = attributes(body, rtnl.NEIGH.size)
        if at != bridge or len(dst := a.get(rtnl.NDA_DST, b"")) != 4 or not state & NUD_USABLE:
            continue
        if is_ours(body):
            ours[int.from_bytes(dst, "big")] = a.get(rtnl.NDA_LLADDR, b"").hex(":")
    return ours


def is_ours(body: bytes) -> bool:
    """Whether a neighbour bears our protocol number."""
    return attributes(body, rtnl.NEIGH.size).get(NDA_PROTOCOL) == bytes([rtnl.RTPROT_NETKIT])


def is_anothers(body: bytes) -> bool:
    """Whether it is permanent and not ours: of netkitd, for a container of this host."""
    _, _, state, _, _ = rtnl.NEIGH.unpack_from(body)
    return bool(state & rtnl.NUD_PERMANENT) and not is_ours(body)


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# Requests to delete the two others are rtnl's.
del_place, del_neighbour = rtnl.del_fdb, rtnl.del_neigh
