"""This host's networks: who else is on them, whose addresses count, what has to be carried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plugins.weave import prefixes
from plugins.weave.identity import PeerId
from plugins.weave.local import Network, network_of
from plugins.weave.mesh import Mesh
from plugins.weave.path import Need
from plugins.weave.prefixes import Place, Prefix
from plugins.weave.record import Kind
from plugins.weave.space import Space


@dataclass(frozen=True, slots=True)
class Common:
    """What there is between us and one peer."""

    need: Need | None
    encrypted: bool
    """One of the networks is."""


class Networks:
    def __init__(self, mesh: Mesh, range_: Prefix) -> None:
        """`range_`: of addresses, as long as no other is known."""
        self._mesh = mesh
        self._forwarding, self._me, self._range = mesh.forwarding, mesh.me, range_
        self.here: dict[bytes, Network] = {}

    def read(self) -> None:
        """What our own records say."""
        records = self._mesh.records.of(self._me, Kind.NETWORK)
        found = (network_of(record) for record in records)
        self.here = {network.id: network for network in found if network is not None}

    # -- others ----------------------------------------------------------------------------------

    def members(self, network: bytes) -> list[PeerId]:
        """Other peers with endpoints in it."""
        return [peer for peer in self._forwarding.members(network) if peer != self._me]

    def encrypted(self, network: Network) -> bool:
        """Whether anybody who is on it has it so."""
        return network.encrypted or any(
            said is not None and said.encrypted
            for said in (self.of(peer, network.id) for peer in self.members(network.id))
        )

    def of(self, peer: PeerId, network: bytes) -> Network | None:
        """As a peer has it."""
        return network_of(self._mesh.records.get(peer, Kind.NETWORK, network))

    def differing(self, network: Network) -> Iterator[tuple[PeerId, tuple[str, ...]]]:
        """Live peers that have it with other subnets, and with which."""
        ours = _texts(network.subnets)
        for peer in self._live():
            there = self.of(peer, network.id)
            theirs = _texts(there.subnets) if there is not None else ()
            if theirs and ours and theirs != ours:
                yield peer, theirs

    def called(self, name: str) -> Iterator[tuple[str, ...]]:
        """Subnets of networks of that name, of live peers."""
        for peer in self._live():
            for record in self._mesh.records.of(peer, Kind.NETWORK):
                network = network_of(record)
                if network is not None and network.name == name and _texts(network.subnets):
                    yield _texts(network.subnets)

    def _live(self) -> list[PeerId]:
        """Without this host."""
        return sorted(peer for peer in self._mesh.membership.live if peer != self._me)

    def common(self) -> dict[PeerId, Common]:
        """All peers that data is exchanged with: on networks where both have endpoints."""
        found: dict[PeerId, Common] = {}
        macs = self._own_macs()
        for network in self.here.values():
            mac = macs.get(network.id)
            if mac is None:
                continue
            encrypted = self.encrypted(network)
            need = None if encrypted else Need(network.id, network.vni, network.mtu, mac)
            for peer in self.members(network.id):
                before = found.get(peer, Common(None, False))
                needs = [each for each in (before.need, need) if each is not None]
                most = max(needs, key=lambda each: (each.mtu, each.network), default=None)
                found[peer] = Common(most, before.encrypted or encrypted)
        return found

    def _own_macs(self) -> dict[bytes, bytes]:
        """Network -> MAC address of an endpoint of ours."""
        found: dict[bytes, bytes] = {}
        for endpoint in self._forwarding.shown_of(self._me):
            found.setdefault(endpoint.network, endpoint.mac)
        return found

    # -- addresses -------------------------------------------------------------------------------

    def place(self, network: bytes, prefix: Prefix) -> Place | None:
        """The subnet of a network of ours that contains a prefix; None: there is none."""
        here = self.here.get(network)
        for text in here.subnets if here else ():
            subnet = _parse(text)
            if subnet is not None and subnet.contains(prefix):
                return Place(network, subnet)
        return None

    def nested(self, network: bytes, wanted: Prefix | None) -> tuple[Prefix, ...]:
        """Subnets of other networks of ours inside of one, or of the range (None), without those
        that are all of it."""
        found = {
            subnet
            for other in self.here.values() if other.id != network
            for subnet in map(_parse, other.subnets)
            if subnet is not None and subnet != wanted and (not wanted or wanted.contains(subnet))
        }  # fmt: skip
        return tuple(sorted(found, key=lambda each: (each.first, each.length)))

    def given_out(self, space: Space, network: bytes, address: Prefix) -> bool:
        """Whether an address is one that the overlay gives out: of the range, or of a subnet."""
        if self.place(network, address) is not None:
            return True
        main = space.council.replica.ledger.main.range if space.council else self._range
        return main.contains(address)


def _texts(subnets: Iterable[str]) -> tuple[str, ...]:
    """As this host writes them; without those that are none."""
    return tuple(sorted(str(each) for each in map(_parse, subnets) if each is not None))


def _parse(text: str) -> Prefix | None:
    try:
        return prefixes.parse(text)
    except ValueError:
        return None
