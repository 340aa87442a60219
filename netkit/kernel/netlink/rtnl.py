"""rtnetlink messages of links, addresses, routes and neighbours, as requests and as values.

Kinds of links other than veth, and their options, are in `kinds`.
Numbers: linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h, net_namespace.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from socket import AF_BRIDGE, AF_INET, AF_INET6
from typing import Any

from netkit.kernel.netlink import kinds
from netkit.kernel.netlink.codec import (
    CREATE,
    EXCL,
    IFF_UP,
    IFINFO,
    REPLACE,
    Request,
    attr,
    attributes,
    nest,
    number,
    string,
    text_of,
)
from netkit.model import IPAddress, IPInterface, IPNetwork

RTPROT_NETKIT = 110  # free in /etc/iproute2/rt_protos; marks our routes, and our addresses
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWNETCONF = 80
NEWNSID, GETNSID = 88, 90

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD = 18, 20, 27, 28
IFLA_EXT_MASK, IFLA_LINK_NETNSID, IFLA_GSO_MAX_SIZE, IFLA_TARGET_NETNSID = 29, 37, 41, 46
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
# IFLA_BRPORT_*, by the name of the field of Link; older kernels pass over those they do not know
BRPORT = {
    "hairpin": 4, "isolated": 33, "locked": 39, "learning": 8, "flood": 9, "mcast_flood": 27,
    "bcast_flood": 30, "neigh_suppress": 32,
}  # fmt: skip
BRPORT_FLUSH = 24
# IFLA_BR_NF_CALL_IPTABLES, _MCAST_SNOOPING; absent where the kernel was built without
BRIDGE = {"filtered": 36, "snooping": 23}
SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS

IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_PROTO = 1, 2, 4, 11
ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, proto, scope, type
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
RTPROT_KERNEL = 2
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE, RTN_UNICAST = 0, 253, 255, 1
NEIGH = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80
NUD_NOARP = 0x40  # in a forwarding table: "static"
NTF_MASTER, NTF_STICKY = 0x04, 0x40  # the table of the port's bridge; never moved to another port
NETNSA_NSID, NETNSA_FD = 1, 3


@dataclass(frozen=True, slots=True)
class SeenLink:
    """A link as dumped by the kernel.  `link` is IFLA_LINK: the parent's index, a veth's peer's."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    gso: int | None  # gso_max_size
    mac: str
    alias: str
    master: int  # 0: none
    link: int  # 0: none
    nsid: int | None  # of the namespace where `link` is; None: the same
    port: Mapping[str, Any]  # bool: its flags as a bridge port, by name; {}: it is none
    bridge: Mapping[str, Any]  # bool: its settings as a bridge, by name; {}: it is none
    options: kinds.Options | None  # of its kind


@dataclass(frozen=True, slots=True)
class SeenAddr:
    address: IPInterface
    proto: int


@dataclass(frozen=True, slots=True)
class SeenRoute:
    dst: IPNetwork
    oif: int
    gateway: IPAddress | None
    proto: int
    metric: int


# -- links ---------------------------------------------------------------------


def veth(
    name: str, index: int, peer: bytes, *, mtu: int | None, mac: str | None, gso: int | None = None
) -> Request:  # fmt: skip
    """Create both ends at once; `peer` is made by `far_end`."""
    far = nest(INFO_DATA, attr(VETH_INFO_PEER, peer))
    return _new(name, index, "veth", mtu, mac, far, _limited(gso))


def far_end(
    name: str, index: int, ns: int | None, *, mtu: int | None, mac: str | None,
    gso: int | None = None,
) -> bytes:  # fmt: skip
    """The peer of a veth, created in the namespace of descriptor `ns` with its name and address.

    The kernel honours `index` only if the near end's is given as well.  It cannot be created up:
    the two ends are not one pair yet (drivers/net/veth.c, veth_open: ENOTCONN).
    """
    where = number(IFLA_NET_NS_FD, ns) if ns is not None else b""
    settings = _sized(mtu, mac) + _limited(gso)
    return IFINFO.pack(0, 0, index, 0, 0) + string(IFLA_IFNAME, name) + where + settings


def link(
    name: str,
    index: int,
    kind: str,
    *,
    mtu: int | None,
    mac: str | None,
    data: bytes = b"",
    parent: int | None = None,
    parent_nsid: int | None = None,
) -> Request:
    """A link of a kind in `kinds`, with `data` as `kinds.encode` makes it.

    `parent` is the index of its parent; `parent_nsid` is where that is: None is the namespace
    the request is sent in, else the one with this id in it (`new_nsid`).
    """
    hangs = number(IFLA_LINK, parent) if parent is not None else b""
    if parent_nsid is not None:
        hangs += number(IFLA_LINK_NETNSID, parent_nsid)
    return _new(name, index, kind, mtu, mac, data, hangs)


def _new(
    name: str,
    index: int,
    kind: str,
    mtu: int | None,
    mac: str | None,
    data: bytes,
    more: bytes = b"",
) -> Request:
    info = nest(IFLA_LINKINFO, string(INFO_KIND, kind), data)
    # The index is ours to choose, not the kernel's: requests behind this one in the same send can
    # name the link before there is a reply (netkit.kernel.netlink.apply).
    body = IFINFO.pack(0, 0, index, 0, 0) + string(IFLA_IFNAME, name) + _sized(mtu, mac)
    return Request(NEWLINK, body + more + info, CREATE | EXCL)


def _sized(mtu: int | None, mac: str | None) -> bytes:
    out = number(IFLA_MTU, mtu) if mtu is not None else b""
    return out + (attr(IFLA_ADDRESS, _lladdr(mac)) if mac is not None else b"")


def _limited(gso: int | None) -> bytes:
    return number(IFLA_GSO_MAX_SIZE, gso) if gso is not None else b""


def set_link(
    index: int,
    *,
    alias: str | None = None,
    master: int | None = None,
    mtu: int | None = None,
    gso: int | None = None,
    mac: str | None = None,
    up: bool | None = None,
) -> Request:
    """Change what is not None; master 0 takes it out of its bridge, `gso` is gso_max_size."""
    # With no flag in ifi_change, the mask, and none in ifi_flags the kernel changes no flag.
    flags, mask = (IFF_UP if up else 0), (IFF_UP if up is not None else 0)
    body = IFINFO.pack(0, 0, index, flags, mask) + _sized(mtu, mac) + _limited(gso)
    if alias is not None:
        body += attr(IFLA_IFALIAS, alias.encode())
    if master is not None:
        body += number(IFLA_MASTER, master)
    return Request(SETLINK, body)


def set_port(index: int, flags_by_name: Mapping[str, bool]) -> Request:
    """Set flags of a bridge port, see bridge(8); locking it flushes what it learned."""
    flags = [attr(BRPORT[name], bytes([on])) for name, on in flags_by_name.items()]
    if flags_by_name.get("locked"):
        flags.append(attr(BRPORT_FLUSH, b""))
    info = nest(IFLA_LINKINFO, string(INFO_SLAVE_KIND, "bridge"), nest(INFO_SLAVE_DATA, *flags))
    return Request(NEWLINK, IFINFO.pack(0, 0, index, 0, 0) + info)


def set_bridge(index: int, settings: Mapping[str, bool]) -> Request:
    """Set those of a bridge that BRIDGE names, see ip-link(8)."""
    each = (attr(BRIDGE[name], bytes([on])) for name, on in settings.items())
    data = nest(INFO_DATA, *each)
    info = nest(IFLA_LINKINFO, string(INFO_KIND, "bridge"), data)
    return Request(NEWLINK, IFINFO.pack(0, 0, index, 0, 0) + info)


def del_link(index: int) -> Request:
    return Request(DELLINK, IFINFO.pack(0, 0, index, 0, 0))


def join_group(index: int, group: int) -> Request:
    return Request(SETLINK, IFINFO.pack(0, 0, index, 0, 0) + number(IFLA_GROUP, group))


def del_group(group: int) -> Request:
    """Delete all links of a group: one wait for the network stack, 14 ms, not one for each."""
    return Request(DELLINK, IFINFO.pack(0, 0, 0, 0, 0) + number(IFLA_GROUP, group))


def get_link(which: str | int) -> Request:
    """By name, or by index."""
    mask = number(IFLA_EXT_MASK, SKIP_STATISTICS)
    if isinstance(which, int):
        return Request(GETLINK, IFINFO.pack(0, 0, which, 0, 0) + mask)
    return Request(GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + string(IFLA_IFNAME, which) + mask)


def get_link_in(nsid: int, index: int) -> Request:
    """By index, in the namespace that this one knows by the number `nsid`."""
    return Request(
        GETLINK,
        IFINFO.pack(0, 0, index, 0, 0)
        + attr(IFLA_TARGET_NETNSID, struct.pack("=i", nsid))
        + number(IFLA_EXT_MASK, SKIP_STATISTICS),
    )


def links_in(nsid: int, kind: str) -> Request:
    """Of a kind, in the namespace that this one knows by the number `nsid`."""
    return Request(
        GETLINK,
        IFINFO.pack(0, 0, 0, 0, 0)
        + attr(IFLA_TARGET_NETNSID, struct.pack("=i", nsid))
        + number(IFLA_EXT_MASK, SKIP_STATISTICS)
        + nest(IFLA_LINKINFO, string(INFO_KIND, kind)),
    )


def del_link_in(nsid: int, index: int) -> Request:
    """As `get_link_in`."""
    target = attr(IFLA_TARGET_NETNSID, struct.pack("=i", nsid))
    return Request(DELLINK, IFINFO.pack(0, 0, index, 0, 0) + target)


def all_links(master: int = 0) -> Request:
    """With `master`, those that have the link with this index as their master."""
    of = number(IFLA_MASTER, master) if master else b""
    return Request(
        GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + number(IFLA_EXT_MASK, SKIP_STATISTICS) + of
    )


def seen_link(message: bytes) -> SeenLink:
    _, _, index, flags, _ = IFINFO.unpack_from(message)
    a = attributes(message, 16)
    info = attributes(a.get(IFLA_LINKINFO, b""))
    port = attributes(info.get(INFO_SLAVE_DATA, b"")) if _is_port(info) else {}
    kind = kinds.named(text_of(info.get(INFO_KIND, b"")), info.get(INFO_DATA, b""))
    bridge = attributes(info.get(INFO_DATA, b"")) if kind == "bridge" else {}
    nsid, gso = a.get(IFLA_LINK_NETNSID), a.get(IFLA_GSO_MAX_SIZE)
    return SeenLink(
        index=index,
        name=text_of(a[IFLA_IFNAME]),
        kind=kind,
        up=bool(flags & IFF_UP),
        mtu=_int(a[IFLA_MTU]),
        gso=_int(gso) if gso is not None else None,
        mac=a.get(IFLA_ADDRESS, b"").hex(":"),
        alias=text_of(a.get(IFLA_IFALIAS, b"")),
        master=_int(a.get(IFLA_MASTER, b"\0")),
        link=_int(a.get(IFLA_LINK, b"\0")),
        nsid=_int(nsid) if nsid is not None else None,
        port={name: bool(port[n][0]) for name, n in BRPORT.items() if n in port},
        bridge={name: bool(bridge[n][0]) for name, n in BRIDGE.items() if n in bridge},
        options=kinds.decode(kind, info.get(INFO_DATA, b"")),
    )


def _is_port(info: dict[int, bytes]) -> bool:
    return info.get(INFO_SLAVE_KIND, b"") == b"bridge\0"


def get_nsid(fd: int) -> Request:
    """Get the nsid that this namespace has of the one of descriptor `fd`."""
    return Request(GETNSID, bytes(4) + number(NETNSA_FD, fd))


def all_nsids() -> Request:
    """Those that this namespace has of others."""
    return Request(GETNSID, bytes(4))


def new_nsid(fd: int) -> Request:
    """Assign the namespace of descriptor `fd` an nsid in this one; EEXIST: it has one."""
    return Request(
        NEWNSID, bytes(4) + struct.pack("=HHi", 8, NETNSA_NSID, -1) + number(NETNSA_FD, fd)
    )


def seen_nsid(message: bytes) -> int:
    """Return the nsid; -1: none."""
    (value,) = struct.unpack("=i", attributes(message, 4)[NETNSA_NSID])
    return int(value)


# -- addresses, routes, neighbours ---------------------------------------------


def new_addr(index: int, address: IPInterface) -> Request:
    raw = address.packed
    body = _addr(index, address) + attr(IFA_PROTO, bytes([RTPROT_NETKIT]))
    # A /31 (RFC 3021) and a /32 have no broadcast address.
    if address.version == 4 and address.network.prefixlen < 31:
        body += attr(IFA_BROADCAST, address.network.broadcast_address.packed)
    return Request(NEWADDR, body + attr(IFA_ADDRESS, raw), CREATE | EXCL)


def del_addr(index: int, address: IPInterface) -> Request:
    return Request(DELADDR, _addr(index, address) + attr(IFA_ADDRESS, address.packed))


def _addr(index: int, address: IPInterface) -> bytes:
    head = IFADDR.pack(_family(address), address.network.prefixlen, 0, SCOPE_UNIVERSE, index)
    return head + attr(IFA_LOCAL, address.packed)


def addresses(index: int = 0) -> Request:
    """All of one link, or of all links."""
    return Request(GETADDR, IFADDR.pack(0, 0, 0, 0, index))


def seen_addr(message: bytes) -> SeenAddr:
    _, length, _, _, _ = IFADDR.unpack_from(message)
    a = attributes(message, 8)
    # IFA_ADDRESS is the peer's where the address has one; IPv6 has IFA_LOCAL only then.
    raw = a.get(IFA_LOCAL) or a[IFA_ADDRESS]
    return SeenAddr(ip_interface((raw, length)), a.get(IFA_PROTO, b"\0")[0])


def link_of_addr(message: bytes) -> int:
    """Return the index of the link that an address is on."""
    return int(IFADDR.unpack_from(message)[4])


def new_route(dst: IPNetwork, oif: int, gateway: IPAddress | None, *, replace: bool) -> Request:
    # IPv4 reaches a gateway only by a route of narrower scope than the route that names it
    # (net/ipv4/fib_semantics.c), here by the on-link ones; IPv6 has no scopes.
    scope = SCOPE_UNIVERSE if gateway or dst.version == 6 else SCOPE_LINK
    body = _route(dst, oif, gateway, scope)
    return Request(NEWROUTE, body, CREATE | (REPLACE if replace else EXCL))


def connected_route(index: int, address: IPInterface) -> Request:
    """Add the route that the kernel adds with an address; it goes with the address again.

    Source: net/ipv4/fib_frontend.c, fib_add_ifaddr.
    """
    dst = address.network
    head = ROUTE.pack(
        _family(dst), dst.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_KERNEL, SCOPE_LINK, RTN_UNICAST, 0
    )
    body = head + attr(RTA_DST, dst.network_address.packed) + number(RTA_OIF, index)
    return Request(NEWROUTE, body + attr(RTA_PREFSRC, address.packed), CREATE | EXCL)


def del_route(dst: IPNetwork, oif: int, gateway: IPAddress | None) -> Request:
    """Delete a route of ours: the protocol number must match, too."""
    # Scope nowhere matches any scope: net/ipv4/fib_trie.c, fib_table_delete.
    return Request(DELROUTE, _route(dst, oif, gateway, SCOPE_NOWHERE))


def _route(dst: IPNetwork, oif: int, gateway: IPAddress | None, scope: int) -> bytes:
    kind = RTN_UNICAST
    head = ROUTE.pack(
        _family(dst), dst.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_NETKIT, scope, kind, 0
    )
    via = attr(RTA_GATEWAY, gateway.packed) if gateway else b""
    return head + attr(RTA_DST, dst.network_address.packed) + number(RTA_OIF, oif) + via


def routes(version: int, proto: int = 0) -> Request:
    """Dump the main table; all of it, or the routes of one protocol."""
    # With NETLINK_GET_STRICT_CHK (codec) the kernel itself filters the dump by table and protocol.
    family = AF_INET if version == 4 else AF_INET6
    head = ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, proto, 0, 0, 0)
    return Request(GETROUTE, head + number(RTA_TABLE, RT_TABLE_MAIN))


def seen_route(message: bytes) -> SeenRoute:
    family, length, _, _, _, proto, _, _, _ = ROUTE.unpack_from(message)
    a = attributes(message, 12)
    raw = a.get(RTA_DST) or bytes(4 if family == AF_INET else 16)
    gateway = a.get(RTA_GATEWAY)
    return SeenRoute(
        dst=ip_network((raw, length)),
        oif=_int(a.get(RTA_OIF, b"\0")),
        gateway=ip_address(gateway) if gateway else None,
        proto=proto,
        metric=_int(a.get(RTA_PRIORITY, b"\0")),
    )


def new_neigh(index: int, address: IPAddress, mac: str) -> Request:
    """Takes the place of what the kernel learned by itself."""
    head = NEIGH.pack(_family(address), index, NUD_PERMANENT, 0, 0)
    body = head + attr(NDA_DST, address.packed) + attr(NDA_LLADDR, _lladdr(mac))
    return Request(NEWNEIGH, body, CREATE | REPLACE)


def del_neigh(index: int, address: IPAddress) -> Request:
    head = NEIGH.pack(_family(address), index, 0, 0, 0)
    return Request(DELNEIGH, head + attr(NDA_DST, address.packed))


def get_neigh(index: int, address: IPAddress) -> Request:
    head = NEIGH.pack(_family(address), index, 0, 0, 0)
    return Request(GETNEIGH, head + attr(NDA_DST, address.packed))


def seen_neigh(message: bytes) -> str | None:
    """The hardware address of a permanent entry; None for one the kernel learned."""
    _, _, state, _, _ = NEIGH.unpack_from(message)
    lladdr = attributes(message, 12).get(NDA_LLADDR)
    return lladdr.hex(":") if lladdr and state & NUD_PERMANENT else None


def new_fdb(port: int, mac: str) -> Request:
    """Takes the place of what the bridge learned by itself."""
    head = NEIGH.pack(AF_BRIDGE, port, NUD_NOARP, NTF_MASTER | NTF_STICKY, 0)
    return Request(NEWNEIGH, head + attr(NDA_LLADDR, _lladdr(mac)), CREATE | REPLACE)


def del_fdb(port: int, mac: str) -> Request:
    head = NEIGH.pack(AF_BRIDGE, port, 0, NTF_MASTER, 0)
    return Request(DELNEIGH, head + attr(NDA_LLADDR, _lladdr(mac)))


def get_fdb(port: int, mac: str) -> Request:
    """Get an entry; the reply names its port, which may be another one of the bridge."""
    head = NEIGH.pack(AF_BRIDGE, port, 0, NTF_MASTER, 0)
    return Request(GETNEIGH, head + attr(NDA_LLADDR, _lladdr(mac)))


def seen_fdb(message: bytes) -> int | None:
    """The index of the port of a static, sticky entry; None for others."""
    _, index, state, flags, _ = NEIGH.unpack_from(message)
    return int(index) if state & NUD_NOARP and flags & NTF_STICKY else None


def _family(address: IPAddress | IPInterface | IPNetwork) -> int:
    return AF_INET if address.version == 4 else AF_INET6


def _lladdr(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _int(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
