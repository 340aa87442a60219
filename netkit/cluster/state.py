"""The shared state, as values.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from netkit.ipam.pools import UsedSubnet
from netkit.network.remote import RemoteContainer, RemoteState
from netkit.spec import EndpointRecord, NetworkRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A host.  `id` is that of its engine."""

    id: str
    name: str
    address: str  # IPv4: where tunnels to it end

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An address allocated by this host."""

    network: str  # network id
    address: str
    holder: str  # sandbox id
    owner: str = ""  # its name, for people; "" where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """This host's state, by its own rows.  `busy`: (network, sandbox) about to get an address."""

    held: frozenset[Held] = frozenset()
    endpoints: Mapping[str, RemoteContainer] = field(default_factory=dict)  # by id
    busy: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """All shared state, as one host sees it."""

    members: Mapping[str, Member] = field(default_factory=dict)  # by id
    networks: Mapping[str, NetworkRecord] = field(default_factory=dict)  # by id
    endpoints: tuple[RemoteContainer, ...] = ()  # in order of id

    def around(self, network: str, me: str) -> RemoteState:
        """Return the other hosts and their endpoints on one network, for `me`."""
        return RemoteState(
            peers=tuple(sorted(m.address for m in self.members.values() if m.id != me)),
            neighbours=tuple(e for e in self.endpoints if e.network == network and e.host != me),
        )

    def subnets(self) -> list[UsedSubnet]:
        return [
            UsedSubnet(ip_network(s.subnet), n.spec.name)
            for n in self.networks.values()
            for s in n.spec.subnets
        ]


def endpoint_of(record: EndpointRecord, me: str) -> RemoteContainer:
    """Return an endpoint of `me` as other hosts see it."""
    return RemoteContainer(
        id=record.id,
        network=record.network,
        host=me,
        host_address="",
        sandbox=record.sandbox,
        owner=record.owner_name,
        address=record.address.partition("/")[0],
        mac=record.mac,
        names=tuple(dict.fromkeys(record.spec.names)),
    )
