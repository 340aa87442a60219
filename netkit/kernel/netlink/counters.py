"""Read what links have counted, of all links that bear a mark, in one dump.

Sources: linux/if_link.h, struct rtnl_link_stats64.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import IFINFO, Request, Tally, attributes, text_of
from netkit.kernel.session import Session
from netkit.model import HOST

IFLA_STATS64 = 23
COUNTERS = struct.Struct("=8Q")  # packets, bytes, errors, dropped: each received, transmitted


class Counters(NamedTuple):
    """Of one link since it was made, as the host sees it; of a pair's end on the host, what it
    received is what its container transmitted."""

    received_packets: int
    transmitted_packets: int
    received_bytes: int
    transmitted_bytes: int
    received_errors: int
    transmitted_errors: int
    received_drops: int
    transmitted_drops: int


class CountedLink(NamedTuple):
    name: str
    owner: str  # the mark
    kind: str  # veth, bridge, vxlan, tun ...; "": the kernel does not say
    counters: Counters

    @property
    def of(self) -> tuple[str, str]:
        """Beginnings of the ids of its network and its endpoint; "" for one of a network alone."""
        network, _, endpoint = self.owner.split(":", 2)[-1].partition(":")
        return network, endpoint


def counted_links(ns: str, prefix: str, tally: Tally | None = None) -> list[CountedLink]:
    """The links of a namespace whose owner mark begins with `prefix`.  KernelError."""
    with Session(ns, tally or Tally()) as session:
        # No RTEXT_FILTER_SKIP_STATS.  RTM_GETSTATS has no marks: it would take two dumps.
        bodies = session.netlink(HOST).dump(Request(rtnl.GETLINK, IFINFO.pack(0, 0, 0, 0, 0)))
        return list(_marked(bodies, prefix))


def _marked(bodies: Iterable[bytes], prefix: str) -> Iterable[CountedLink]:
    mark = prefix.encode()
    for body in bodies:
        if mark not in body:  # most links of a host with other tools: not decoded
            continue
        a = attributes(body, IFINFO.size)
        owner = text_of(a.get(rtnl.IFLA_IFALIAS, b""))
        raw = a.get(IFLA_STATS64, b"")
        if owner.startswith(prefix) and len(raw) >= COUNTERS.size:
            kind = attributes(a.get(rtnl.IFLA_LINKINFO, b"")).get(rtnl.INFO_KIND, b"")
            name = text_of(a.get(rtnl.IFLA_IFNAME, b""))
            yield CountedLink(name, owner, text_of(kind), Counters(*COUNTERS.unpack_from(raw)))
