"""What decides on the way of a packet besides rules: asked of the kernel, nothing changed by it.

Sources: linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h; ip-link(8), bridge(8).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from socket import AF_BRIDGE, AF_INET

from netkit.kernel import redirects, rtnl
from netkit.kernel.netlink import IFINFO, Netlink, Request, attr, attributes

LOWER_UP = 0x10000  # in the flags of a link
XDP, XDP_ATTACHED = 43, 2  # IFLA_XDP, IFLA_XDP_ATTACHED
BRPORT_STATE, FORWARDING = 1, 3
GETQDISC, TCM, TCA_KIND = 38, struct.Struct("=BxxxiIII"), 1
DECIDES = frozenset({"clsact", "ingress", "netem"})  # disciplines that may stop packets
NDA_MASTER = 9
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: tell the entry, not what becomes of it
RTA_PREFSRC, RTA_SRC = 7, 2
RTN_LOCAL = 2
REFUSED = {
    errno.ENETUNREACH: "no route", errno.EHOSTUNREACH: "an unreachable route",
    errno.EACCES: "a prohibit route", errno.EINVAL: "a blackhole route",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A link.  `hooked`: an XDP program or queueing disciplines that may stop packets."""

    seen: rtnl.SeenLink
    carrier: bool
    forwards: bool  # as a bridge port
    hooked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a route lookup.  `oif` 0: there is no way, and `why`."""

    oif: int = 0
    gateway: IPv4Address | None = None
    source: IPv4Address | None = None
    prefix: str = ""
    local: bool = False
    why: str = ""


def links(netlink: Netlink) -> list[Inspected]:
    hooked: dict[int, set[str]] = {}
    for message in netlink.dump(Request(GETQDISC, TCM.pack(0, 0, 0, 0, 0))):
        _, index, *_ = TCM.unpack_from(message)
        kind = attributes(message, TCM.size).get(TCA_KIND, b"").rstrip(b"\0").decode()
        if kind in DECIDES and not (kind == "clsact" and not redirects.others(netlink, index)):
            hooked.setdefault(index, set()).add(f"tc {kind}")
    return [_link(message, hooked) for message in netlink.dump(rtnl.all_links())]


def _link(message: bytes, hooked: dict[int, set[str]]) -> Inspected:
    _, _, index, flags, _ = IFINFO.unpack_from(message)
    a = attributes(message, 16)
    info = attributes(a.get(rtnl.IFLA_LINKINFO, b""))
    is_port = info.get(rtnl.INFO_SLAVE_KIND, b"") == b"bridge\0"
    port = attributes(info.get(rtnl.INFO_SLAVE_DATA, b"")) if is_port else {}
    words = set(hooked.get(index, ()))
    if attributes(a.get(XDP, b"")).get(XDP_ATTACHED, b"\0")[0]:
        words.add("XDP")
    return Inspected(
        seen=rtnl.seen_link(message),
        carrier=bool(flags & LOWER_UP),
        forwards=port.get(BRPORT_STATE, bytes([FORWARDING]))[0] == FORWARDING,
        hooked=", ".join(sorted(words)),
    )


def neighbours(netlink: Netlink) -> Iterator[tuple[int, IPv4Address, str]]:
    """(index, address, MAC) of the entries that packets are sent by."""
    for message in netlink.dump(Request(rtnl.GETNEIGH, rtnl.NEIGH.pack(AF_INET, 0, 0, 0, 0))):
        _, index, state, _, _ = rtnl.NEIGH.unpack_from(message)
        a = attributes(message, rtnl.NEIGH.size)
        lladdr, dst = a.get(rtnl.NDA_LLADDR), a.get(rtnl.NDA_DST, b"")
        if lladdr and len(dst) == 4 and not state & (NUD_INCOMPLETE | NUD_FAILED):
            yield index, IPv4Address(dst), lladdr.hex(":")


def forwarding(netlink: Netlink) -> Iterator[tuple[int, str, int]]:
    """(index of the bridge, MAC, index of the port) of forwarding tables."""
    for bridge, mac, index, _ in _forwarding(netlink):
        yield bridge, mac, index


def behind(netlink: Netlink) -> Iterator[tuple[int, str]]:
    """(index of the port, MAC) of who is known to be behind a bridge port, not the port itself."""
    for _, mac, index, state in _forwarding(netlink):
        if not state & rtnl.NUD_PERMANENT:
            yield index, mac


def _forwarding(netlink: Netlink) -> Iterator[tuple[int, str, int, int]]:
    for message in netlink.dump(Request(rtnl.GETNEIGH, rtnl.NEIGH.pack(AF_BRIDGE, 0, 0, 0, 0))):
        _, index, state, _, _ = rtnl.NEIGH.unpack_from(message)
        a = attributes(message, rtnl.NEIGH.size)
        if rtnl.NDA_LLADDR in a and NDA_MASTER in a:
            (bridge,) = struct.unpack("=I", a[NDA_MASTER])
            yield bridge, a[rtnl.NDA_LLADDR].hex(":"), index, state


def route(netlink: Netlink, dst: IPv4Address, src: IPv4Address | None) -> Found:
    """Where the kernel sends what goes to `dst`, from `src` if it is given: RTM_GETROUTE."""
    said = netlink.run([_lookup(dst, src, 0), _lookup(dst, src, FIB_MATCH)])
    if said[0].errno or not said[0].messages:
        return Found(why=REFUSED.get(said[0].errno, said[0].reason))
    message = said[0].messages[0]
    a = attributes(message, rtnl.ROUTE.size)
    via, own = a.get(rtnl.RTA_GATEWAY), a.get(RTA_PREFSRC)
    entry = rtnl.seen_route(said[1].messages[0]) if said[1].messages else None
    return Found(
        oif=rtnl.seen_route(message).oif,
        gateway=IPv4Address(via) if via else None,
        source=IPv4Address(own) if own else None,
        prefix=str(entry.dst) if entry else "",
        local=rtnl.ROUTE.unpack_from(message)[7] == RTN_LOCAL,
    )


def _lookup(dst: IPv4Address, src: IPv4Address | None, flags: int) -> Request:
    head = rtnl.ROUTE.pack(AF_INET, 32, 32 if src else 0, 0, 0, 0, 0, 0, flags)
    own = attr(RTA_SRC, src.packed) if src else b""
    return Request(rtnl.GETROUTE, head + attr(rtnl.RTA_DST, dst.packed) + own)
