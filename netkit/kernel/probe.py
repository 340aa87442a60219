"""Read the state of links that may stop a packet besides rules: carrier, forwarding state.

Read with `rtnl.seen_link`, as links are where containers start.
Sources: linux/rtnetlink.h, linux/if_link.h; ip-link(8), bridge(8).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netkit.kernel.netlink import bpf_redirect, rtnl
from netkit.kernel.netlink.codec import IFINFO, Netlink, Request, attributes

LOWER_UP = 0x10000  # in the flags of a link
XDP, XDP_ATTACHED = 43, 2  # IFLA_XDP, IFLA_XDP_ATTACHED
BRPORT_STATE, FORWARDING = 1, 3
GETQDISC, TCM, TCA_KIND = 38, struct.Struct("=BxxxiIII"), 1
DECIDES = frozenset({"clsact", "ingress", "netem"})  # disciplines that may stop packets


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A link.  `hooked`: an XDP program or queueing disciplines that may stop packets."""

    seen: rtnl.SeenLink
    carrier: bool
    forwards: bool  # as a bridge port
    hooked: str


def links(netlink: Netlink) -> list[Inspected]:
    hooked: dict[int, set[str]] = {}
    for message in netlink.dump(Request(GETQDISC, TCM.pack(0, 0, 0, 0, 0))):
        _, index, *_ = TCM.unpack_from(message)
        kind = attributes(message, TCM.size).get(TCA_KIND, b"").rstrip(b"\0").decode()
        if kind in DECIDES and not (kind == "clsact" and not bpf_redirect.others(netlink, index)):
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
