"""The kernel's entries for a table: what is looked up where.  Pure.

a frame to a container elsewhere     bridge: MAC -> port; if that is VXLAN's, MAC -> peer
a broadcast frame                    VXLAN: one copy for each peer with members there
ARP for a container elsewhere        bridge: address -> MAC, answered here
a frame that comes by VXLAN          senders: outer source, network, MAC, address
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from netkit.kernel.nftables.senders import sender
from netkit.model.vxlan import ALL
from netkit.overlay.fabric.table import NetworkTable, Reach, Table

# IPv4 addresses are numbers here: an IPv4Address takes ten times as long to look up.
Place = tuple[str, str]  # bridge, MAC
Tunnel = tuple[str, str, int]  # VXLAN device, MAC or ALL, peer
Neighbour = tuple[str, int]  # bridge, address


@dataclass(slots=True)
class Rows:
    places: dict[Place, str] = field(default_factory=dict)  # the port
    tunnels: set[Tunnel] = field(default_factory=set)
    neighbours: dict[Neighbour, str] = field(default_factory=dict)  # the MAC
    senders: set[bytes] = field(default_factory=set)


def rows(table: Table, *, fastdp: bool) -> tuple[Rows, list[str]]:
    """The entries, and one line for each contradiction in the table: the first claim counts.

    Without `fastdp`, which the host may not offer, everything goes by user space.
    """
    out, wrong = Rows(), list[str]()
    for net in table.networks:
        wrong += _network(net, table.peers, out, fastdp=fastdp)
    return out, wrong


def _network(
    net: NetworkTable, peers: Mapping[str, Reach], out: Rows, *, fastdp: bool
) -> Iterator[str]:
    vxlan = net.vxlan if fastdp else None
    for m in net.members:
        reach = peers.get(m.peer)
        if reach is None:
            continue
        place = (net.bridge, m.mac)
        if place in out.places:
            yield f"{m.mac} of {m.peer} on {net.bridge} is another member's already"
            continue
        if vxlan and reach.path == "fastdp" and reach.address:
            out.places[place] = vxlan
            peer = int(reach.address)
            out.tunnels |= {(vxlan, m.mac, peer), (vxlan, ALL, peer)}
        else:
            out.places[place] = net.tap
        mine = []
        for address in m.addresses:
            key = (net.bridge, int(address))
            if key in out.neighbours:
                yield f"{address} of {m.peer} on {net.bridge} is another member's already"
                continue
            out.neighbours[key] = m.mac
            mine.append(address.packed)
        if vxlan:
            for source in reach.sources:
                first = sender(source.packed, net.vni, m.mac)
                out.senders.add(first)
                out.senders.update(first + address for address in mine)
