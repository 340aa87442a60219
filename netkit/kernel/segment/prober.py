"""Probe and announce addresses on the segments of the host's links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from netkit.driver import Segment
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.segment import arp_probe
from netkit.kernel.segment.announce import Announcer
from netkit.kernel.session import Session
from netkit.model import HOST


class HostSegments:
    """Implements netkit.network.address_acquirer.ArpProber for the namespace at `home`."""

    def __init__(self, home: str = HOST) -> None:
        self._home = home
        self._announcer = Announcer(arp_probe.announce)

    def occupied(
        self, segment: Segment, addresses: Sequence[IPv4Address]
    ) -> Mapping[IPv4Address, str]:
        with Session(self._home, Tally()) as session:
            link = session.link(HOST, segment.link)
            if link is None:
                return {}  # the resync creates it again
            seen = session.netlink(HOST).dump(rtnl.addresses(link.index))
            own = {a.address.ip: link.mac for a in map(rtnl.seen_addr, seen)}
        mine = {a: own[a] for a in addresses if a in own}
        left = [a for a in addresses if a not in mine]
        return mine | arp_probe.occupants(self._home, segment.link, left, segment.probe)

    def announce(self, ns: str, link: str, address: IPv4Address) -> None:
        self._announcer.soon(ns, link, address)
