"""Which addresses the frames of a peer may come from: those of its own containers.

A host that holds the network's key can seal any frame.  So the source addresses of each frame that
is received are compared with what the control plane says of the peer that sealed it, and of the
network it is in.  IPv6 addresses of link-local scope (RFC 4291, 2.5.6) are a host's own affair: the
MAC address is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from netkit.overlay.sleeve import vnet

SENDER = slice(vnet.NETWORK + 12, vnet.NETWORK + 16)  # of IPv4: most frames
LINK_LOCAL = b"\xfe\x80"
UNSPECIFIED = frozenset({bytes(4), bytes(16)})  # of who has no address yet: DHCP, DAD


@dataclass(slots=True)
class Owner:
    """Of a MAC address in one network."""

    peer: int
    addresses: frozenset[bytes]  # packed, IPv4 and IPv6

    def has(self, address: bytes | None) -> bool:
        """Whatever it is of link-local scope; None belongs to no one."""
        return address is None or address in self.addresses or address[:2] == LINK_LOCAL


@dataclass(slots=True)
class Sources:
    """Of one network: MAC address -> who has it."""

    owners: dict[bytes, Owner] = field(default_factory=dict)

    def put(self, mac: bytes, peer: int, addresses: Iterable[bytes]) -> None:
        self.owners[mac] = Owner(peer, frozenset(addresses) | UNSPECIFIED)

    def drop(self, mac: bytes) -> None:
        self.owners.pop(mac, None)

    def allows(self, peer: int, frame: memoryview) -> bool:
        """May this peer send this frame, which begins with its virtio header?"""
        head = frame[: vnet.LOOKED_AT].tobytes()
        owner = self.owners.get(head[vnet.SOURCE])
        if owner is None or owner.peer != peer:
            return False
        if head[vnet.ETHERTYPE : vnet.NETWORK] == vnet.IPV4 and head[SENDER] in owner.addresses:
            return True
        address = vnet.source_address(head)
        if address is None:
            return True
        if len(address) == 16 and not owner.has(vnet.advertised(head)):
            return False
        return address in owner.addresses or owner.has(address)
