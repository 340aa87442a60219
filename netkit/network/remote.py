"""Networks on several hosts: what one host stores of the others, and requests of them.

The others are hosts of a cluster, for networks of scope global, or peers of an overlay.

The local database (SQLite) stays the truth about this host.  What is shared is decided in the
cluster: the names and subnets of global networks, and the owners of addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol

import msgspec

from netkit.driver import RemoteEndpoint, Subnet
from netkit.errors import Conflict
from netkit.ipam.pools import UsedSubnet
from netkit.model import IPAddress
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord
from netkit.store import Database, Kind

SCOPE_GLOBAL = "global"
AROUND = Kind(
    "what other hosts have on network",
    "around",
    "it is written again once the cluster answers",
    key="network",
)

TABLES = (
    """
    CREATE TABLE around (network TEXT PRIMARY KEY REFERENCES networks(id) ON DELETE CASCADE,
        doc BLOB NOT NULL) WITHOUT ROWID
    """,
)


class RemoteContainer(msgspec.Struct, kw_only=True, frozen=True):
    """A container on another host."""

    id: str  # of its endpoint
    network: str  # network id
    host: str  # id of its engine
    host_address: str = msgspec.field(name="at")  # the address of that host
    sandbox: str
    owner: str  # its name
    address: str  # without prefix length
    mac: str
    names: tuple[str, ...] = ()
    more_addresses: tuple[str, ...] = ()  # without prefix length, too

    def record(self) -> EndpointRecord:
        """As an endpoint record like a local one, for callers that make no difference."""
        return EndpointRecord(
            id=self.id,
            network=self.network,
            sandbox=self.sandbox,
            owner_name=self.owner,
            spec=EndpointSpec(network=self.network, names=self.names),
            address=self.address,
            more_addresses=self.more_addresses,
            mac=self.mac,
        )


class RemoteHost(msgspec.Struct, kw_only=True, frozen=True):
    """A peer of an overlay with containers on a network."""

    id: str
    name: str
    address: str  # "": not known


class AddedName(msgspec.Struct, kw_only=True, frozen=True):
    """A name that a user added to an overlay's network, on this host or another."""

    name: str  # relative to the network's domain
    addresses: tuple[str, ...]


class RemoteState(msgspec.Struct, kw_only=True, frozen=True):
    """The other hosts and their endpoints on one global network, or one of an overlay."""

    peers: tuple[str, ...] = ()  # addresses of the other hosts, sorted
    neighbours: tuple[RemoteContainer, ...] = ()  # sorted by id
    # Of an overlay:
    hosts: tuple[RemoteHost, ...] = ()  # sorted by name
    names: tuple[AddedName, ...] = ()  # sorted

    def known(self) -> tuple[RemoteEndpoint, ...]:
        return tuple(
            RemoteEndpoint(
                address=IPv4Address(n.address), mac=n.mac, peer=IPv4Address(n.host_address)
            )
            for n in self.neighbours
            if n.address and n.host_address in self.peers
        )


_around = msgspec.json.Decoder(RemoteState)


class _Decoded(NamedTuple):
    doc: object  # the row's
    state: RemoteState
    records: list[EndpointRecord]


class RemoteStateStore:
    """Stored as last received, so that a start without the cluster changes nothing."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._decoded: dict[str, _Decoded] = {}
        database.migrate("around", TABLES)

    def of(self, network: str) -> RemoteState:
        """Nothing if the row cannot be read."""
        found = self._read("WHERE network=?", network).get(network)
        return found.state if found else RemoteState()

    def unreadable(self) -> set[str]:
        """Ids of networks whose row cannot be read."""
        rows = self._db.rows("SELECT network FROM around")
        return {str(row["network"]) for row in rows} - self._read().keys()

    def complete(self) -> bool:
        """Can all rows be read?"""
        return not self.unreadable()

    def put(self, network: str, around: RemoteState) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO around VALUES (?, ?)", (network, msgspec.json.encode(around))
        )

    def records(self) -> list[EndpointRecord]:
        """Containers of other hosts."""
        return [record for found in self._read().values() for record in found.records]

    def _read(self, where: str = "", *args: str) -> dict[str, _Decoded]:
        """By network: rows that can be read, which may be megabytes: each is decoded once."""
        known, found = dict(self._decoded), {}
        rows = self._db.rows(
            f"SELECT network AS id, doc FROM around {where} ORDER BY network", args
        )
        for row in rows:
            network, doc = str(row["id"]), row["doc"]
            one = known.pop(network, None)
            if one is not None and one.doc == doc:
                found[network] = one
                continue
            for state in self._db.readable([row], _around.decode, AROUND):
                found[network] = _Decoded(doc, state, [n.record() for n in state.neighbours])
        self._decoded = {**known, **found} if where else found
        return found


class Cluster(Protocol):
    """The shared state of networks of scope global.

    Thread-safe, and may take seconds: do not call within a transaction.  KernelError
    where the cluster does not answer, Conflict where there is none.
    """

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        """Create it on all hosts.  AlreadyExists; Forbidden if it overlaps with another."""
        ...

    def remove(self, record: NetworkRecord) -> None:
        """Remove it on all hosts.  Forbidden while a container of any is on it; fine if removed."""
        ...

    def subnets(self) -> list[UsedSubnet]:
        """Those of global networks."""
        ...

    def allocate(
        self, record: NetworkRecord, subnet: Subnet, holder: str, owner: str, ip: str = ""
    ) -> IPAddress:
        """Allocate the address `ip`, or the lowest free one, to a holder; fine if it has it.

        Conflict if none is left, InUse if `ip` is another's.
        """
        ...

    def holding(self, network: str, holder: str) -> AbstractContextManager[None]:
        """While inside, do not release what `holder` took and has no row here yet."""
        ...

    def notify_changed(self) -> None:
        """Notify of changed rows: addresses without one any more are released soon."""
        ...


class NoCluster:
    """The cluster of hosts that are in none."""

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        raise not_in_cluster()

    def remove(self, record: NetworkRecord) -> None:
        raise not_in_cluster()

    def subnets(self) -> list[UsedSubnet]:
        raise not_in_cluster()

    def allocate(
        self, record: NetworkRecord, subnet: Subnet, holder: str, owner: str, ip: str = ""
    ) -> IPAddress:
        raise not_in_cluster()

    @contextmanager
    def holding(self, network: str, holder: str) -> Iterator[None]:
        yield

    def notify_changed(self) -> None:
        return None


def not_in_cluster() -> Conflict:
    """The error where a cluster is needed and there is none."""
    return Conflict(
        "this host is in no cluster, which networks of scope global need: use netkit cluster "
        "init or join, or start netkitd with --cluster"
    )
