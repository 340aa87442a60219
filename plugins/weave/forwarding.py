"""Where frames go: a view of ENDPOINT records of peers that are not dead.  Nothing is learned by
flooding.

Two endpoints of one network with one address (two hosts chose it at the same time, or one of them
lies) are a conflict: one has it, and the
other is not forwarded to and is shown.  An IP address goes to the
endpoint whose peer owns it.  MAC addresses have no owner, so a host that wanted a neighbour's
frames could say that it has the neighbour's MAC address, beside an IP address of its own.
Therefore a container's MAC address is made of its IP address (02:42, then the four bytes, as
Docker's overlay has it), and goes to the peer that owns that one, whatever others say.  Of MAC
addresses that users chose the endpoint has it whose peer owns an IP address of it.  Otherwise the
one whose (peer, key) is lower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from plugins.weave.identity import PeerId
from plugins.weave.statements import Endpoint, read
from plugins.weave.taken import RecordChange

MADE_OF_IP: Final = b"\x02\x42"
"""How MAC addresses begin that are made of an IPv4 address."""
Key = tuple[PeerId, bytes]
"""Whose endpoint, and its key."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """`loser` says it has what `winner` has: a MAC address or an IP address of `network`."""

    network: bytes
    address: bytes
    winner: Key
    loser: Key


class _Claims:
    """Who says that it has an address."""

    def __init__(self) -> None:
        self.by: dict[tuple[bytes, bytes], list[Key]] = {}

    def add(self, network: bytes, address: bytes, key: Key) -> None:
        claims = self.by.setdefault((network, address), [])
        claims.append(key)
        claims.sort()

    def drop(self, network: bytes, address: bytes, key: Key) -> None:
        claims = self.by[network, address]
        claims.remove(key)
        if not claims:
            del self.by[network, address]


class Forwarding:
    """`apply` has to be called with changes of ENDPOINT records, `refresh` with who died or came
    back, `reconsider` when what `owner` says has changed: whose an IP address of a network is."""

    def __init__(
        self, visible: Callable[[PeerId], bool],
        owner: Callable[[bytes, bytes], PeerId | None] = lambda network, address: None,
    ) -> None:  # fmt: skip
        self._visible = visible
        self.owner = owner
        self.endpoints: dict[Key, Endpoint] = {}
        """All of them, those of dead peers included."""
        self._shown: dict[Key, Endpoint] = {}
        self._by_peer: dict[PeerId, dict[bytes, None]] = {}
        self._macs, self._ips = _Claims(), _Claims()
        self._members: dict[bytes, dict[PeerId, int]] = {}
        self.touched: dict[bytes, None] = {}
        """Networks in which something has changed since they were last taken out."""
        self.moved: dict[PeerId, None] = {}
        """Peers whose endpoints came, went, or were given or lost an address since then."""

    def apply(self, change: RecordChange) -> None:
        key = (change.origin, change.key)
        endpoint = None if change.new is None else read(change.new.value, Endpoint)
        if endpoint is None:
            self.endpoints.pop(key, None)
            keys = self._by_peer.get(change.origin, {})
            keys.pop(change.key, None)
            if not keys:
                self._by_peer.pop(change.origin, None)
        else:
            self.endpoints[key] = endpoint
            self._by_peer.setdefault(change.origin, {})[change.key] = None
        self._show(key)

    def refresh(self, peer: PeerId) -> None:
        for key in list(self._by_peer.get(peer, {})):
            self._show((peer, key))

    def shown_of(self, peer: PeerId) -> list[Endpoint]:
        """Endpoints of one peer, as far as they are in the tables."""
        keys = sorted(self._by_peer.get(peer, {}))
        return [self._shown[peer, key] for key in keys if (peer, key) in self._shown]

    def shown(self) -> list[Key]:
        """All endpoints in the tables."""
        return list(self._shown)

    def held(self, key: Key) -> tuple[Endpoint, tuple[bytes, ...]] | None:
        """An endpoint, and by which IP addresses it is reached; None: frames go to another one."""
        endpoint = self._shown[key]
        network = endpoint.network
        if self._owner(self._macs, network, endpoint.mac) != key:
            return None
        owned = (a for a in endpoint.addresses if self._owner(self._ips, network, a) == key)
        return endpoint, tuple(owned)

    def peer_of(self, network: bytes, mac: bytes) -> PeerId | None:
        """Where frames to a MAC address go."""
        owner = self._owner(self._macs, network, mac)
        return None if owner is None else owner[0]

    def mac_of(self, network: bytes, address: bytes) -> bytes | None:
        """What ARP and neighbour discovery are answered with."""
        owner = self._owner(self._ips, network, address)
        return None if owner is None else self._shown[owner].mac

    def claimed(self, network: bytes, address: bytes) -> Key | None:
        """Whose endpoint has an IP address; None: of none that is there."""
        return self._owner(self._ips, network, address)

    def members(self, network: bytes) -> list[PeerId]:
        """Peers with endpoints in a network: each gets a broadcast once."""
        return sorted(self._members.get(network, {}))

    def may_send(self, peer: PeerId, network: bytes, mac: bytes, address: bytes | None) -> bool:
        """Whether a frame with this source may come from that peer; `address` None: it has none."""
        if self.peer_of(network, mac) != peer:
            return False
        return address is None or self.mac_of(network, address) == mac

    def table(self, network: bytes) -> list[tuple[PeerId, bytes, tuple[bytes, ...]]]:
        """(peer, MAC, IP addresses) of all that is forwarded to, for programming a kernel."""
        rows = []
        for key in sorted(self._shown):
            if self._shown[key].network != network:
                continue
            held = self.held(key)
            if held is not None:
                endpoint, addresses = held
                rows.append((key[0], endpoint.mac, addresses))
        return rows

    def conflicts(self) -> list[Conflict]:
        return [
            Conflict(network, address, winner, loser)
            for kind in (self._macs, self._ips)
            for (network, address), claims in sorted(kind.by.items())
            if len(claims) > 1 and (winner := self._owner(kind, network, address)) is not None
            for loser in claims
            if loser != winner
        ]

    def reconsider(self) -> None:
        """Addresses may have other owners than before."""
        for kind in (self._macs, self._ips):
            for (network, _), claims in kind.by.items():
                if len(claims) > 1:
                    self.touched[network] = None
                    self.moved |= dict.fromkeys(peer for peer, _ in claims)

    def _owner(self, claims: _Claims, network: bytes, address: bytes) -> Key | None:
        found = claims.by.get((network, address))
        if not found or len(found) == 1:
            return found[0] if found else None
        if claims is self._ips:
            return self._of(self.owner(network, address), found) or found[0]
        made_of = address.removeprefix(MADE_OF_IP) if address.startswith(MADE_OF_IP) else b""
        rightful = self._of(self.owner(network, made_of), found) if made_of else None
        return rightful or next((k for k in found if self._owns(network, k)), found[0])

    @staticmethod
    def _of(peer: PeerId | None, claims: Iterable[Key]) -> Key | None:
        return next((key for key in claims if key[0] == peer), None)

    def _owns(self, network: bytes, key: Key) -> bool:
        """Whether its peer owns an address of an endpoint."""
        return any(self.owner(network, a) == key[0] for a in self._shown[key].addresses)

    def _show(self, key: Key) -> None:
        """Have an endpoint be in the tables exactly if it should be."""
        endpoint = self.endpoints.get(key)
        visible = endpoint is not None and not endpoint.hidden and self._visible(key[0])
        new = endpoint if visible else None
        old = self._shown.get(key)
        if old is new:
            return
        if old is not None:
            del self._shown[key]
            self._count(key, old, -1)
        if new is not None:
            self._shown[key] = new
            self._count(key, new, 1)

    def _count(self, key: Key, endpoint: Endpoint, by: int) -> None:
        network = endpoint.network
        for claims, addresses in (
            (self._macs, (endpoint.mac,)), (self._ips, tuple(dict.fromkeys(endpoint.addresses))),
        ):  # fmt: skip
            for address in addresses:
                (claims.add if by > 0 else claims.drop)(network, address, key)
                rivals = claims.by.get((network, address), ())
                self.moved |= dict.fromkeys(peer for peer, _ in rivals)
        self.moved[key[0]] = None
        members = self._members.setdefault(network, {})
        members[key[0]] = members.get(key[0], 0) + by
        if not members[key[0]]:
            del members[key[0]]
        if not members:
            del self._members[network]
        self.touched[network] = None
