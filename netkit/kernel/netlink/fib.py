"""Read routes and rules of a namespace, and look up a packet's route (RTM_GETROUTE).

Source: linux/rtnetlink.h, linux/fib_rules.h; the formats are pyroute2's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from socket import AF_INET

from netkit.kernel.netlink import messages, rtnl
from netkit.kernel.netlink.codec import Netlink, Request

GETRULE = 34
FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: answer with the entry, not with what becomes of it
RTN_UNICAST, RTN_LOCAL = 1, 2
RTN_PROHIBIT = 8  # the last that ends a lookup; RTN_THROW goes on with the next table
REFUSED = {
    errno.ENETUNREACH: "no route", errno.EHOSTUNREACH: "an unreachable route",
    errno.EACCES: "a prohibit route", errno.EINVAL: "a blackhole route",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a route lookup.  `oif` 0: there is no way, and `why`."""

    oif: int = 0
    gateway: IPv4Address | None = None
    source: IPv4Address | None = None
    prefix: str = ""
    local: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A route of the main table.  `oif` 0: it refuses, or has several next hops."""

    dst: IPv4Network
    oif: int
    gateway: IPv4Address | None
    source: IPv4Address | None
    metric: int


def lookup(netlink: Netlink, dst: IPv4Address, src: IPv4Address | None) -> Found:
    """Look up the kernel's route to `dst`, from `src` if it is given."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg  # 0.3 s to import

    answer, match = netlink.run([_question(dst, src, 0), _question(dst, src, FIB_MATCH)])
    found, entry = messages.first(answer, rtmsg), messages.first(match, rtmsg)
    if found is None:
        return Found(why=REFUSED.get(answer.errno, answer.reason))
    return Found(
        oif=found.get_attr("RTA_OIF") or 0,
        gateway=_address(found, "RTA_GATEWAY"),
        source=_address(found, "RTA_PREFSRC"),
        prefix=str(_prefix(entry)) if entry is not None else "",
        local=found["type"] == RTN_LOCAL,
    )


def _question(dst: IPv4Address, src: IPv4Address | None, flags: int) -> Request:
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    attrs = [("RTA_DST", str(dst)), *([("RTA_SRC", str(src))] if src else [])]
    fields = {"family": AF_INET, "dst_len": 32, "src_len": 32 if src else 0, "flags": flags,
              "attrs": attrs}  # fmt: skip
    return messages.request(rtnl.GETROUTE, rtmsg(), fields)


def entries(netlink: Netlink) -> Iterator[Entry]:
    """List the IPv4 routes of the main table."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    main = {"family": AF_INET, "table": rtnl.RT_TABLE_MAIN,
            "attrs": [("RTA_TABLE", rtnl.RT_TABLE_MAIN)]}  # fmt: skip
    for m in messages.dump(netlink, rtnl.GETROUTE, rtmsg(), rtmsg, main):
        if m["type"] <= RTN_PROHIBIT:
            yield Entry(
                dst=_prefix(m),
                oif=(m.get_attr("RTA_OIF") or 0) if m["type"] == RTN_UNICAST else 0,
                gateway=_address(m, "RTA_GATEWAY"),
                source=_address(m, "RTA_PREFSRC"),
                metric=m.get_attr("RTA_PRIORITY") or 0,
            )


def own(netlink: Netlink) -> list[IPv4Network]:
    """What the table `local` has as the host's own: 127.0.0.0/8, and each address."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    table = {"family": AF_INET, "table": rtnl.RT_TABLE_LOCAL,
             "attrs": [("RTA_TABLE", rtnl.RT_TABLE_LOCAL)]}  # fmt: skip
    found = messages.dump(netlink, rtnl.GETROUTE, rtmsg(), rtmsg, table)
    return [_prefix(m) for m in found if m["type"] == RTN_LOCAL]


def rules(netlink: Netlink) -> int:
    """Count the rules of IPv4 that choose a table; a namespace is born with three."""
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    return len(netlink.dump(messages.request(GETRULE, fibmsg(), {"family": AF_INET})))


def _prefix(route: messages.Message) -> IPv4Network:
    return IPv4Network((route.get_attr("RTA_DST") or 0, route["dst_len"]))


def _address(route: messages.Message, name: str) -> IPv4Address | None:
    """An attribute; None where there is none, or a gateway is of IPv6 (RTA_VIA)."""
    value = route.get_attr(name)
    return IPv4Address(value) if value else None
