"""Networks on several hosts: what one host stores of the others, and requests of them.

The local database (SQLite) stays the truth about this host.  What is shared is decided in the
cluster: the names and subnets of global networks, and the owners of addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from typing import Protocol

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

    def record(self) -> EndpointRecord:
        """As an endpoint record like a local one, for callers that make no difference."""
        return EndpointRecord(
            id=self.id,
            network=self.network,
            sandbox=self.sandbox,
            owner_name=self.owner,
            spec=EndpointSpec(network=self.network, names=self.names),
            address=self.address,
            mac=self.mac,
        )


class RemoteState(msgspec.Struct, kw_only=True, frozen=True):
    """The other hosts and their endpoints on one global network."""

    peers: tuple[str, ...] = ()  # addresses of the other hosts, sorted
    neighbours: tuple[RemoteContainer, ...] = ()  # sorted by id

    def known(self) -> tuple[RemoteEndpoint, ...]:
        return tuple(
            RemoteEndpoint(
                address=IPv4Address(n.address), mac=n.mac, peer=IPv4Address(n.host_address)
            )
            for n in self.neighbours
            if n.address and n.host_address in self.peers
        )


_around = msgspec.json.Decoder(RemoteState)


class RemoteStateStore:
    """Stored as last received, so that a start without the cluster changes nothing."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("around", TABLES)

    def of(self, network: str) -> RemoteState:
        """Nothing if the row cannot be read."""
        rows = self._db.rows("SELECT network AS id, doc FROM around WHERE network=?", (network,))
        found = self._db.readable(rows, _around.decode, AROUND)
        return found[0] if found else RemoteState()

    def unreadable(self) -> set[str]:
        """Ids of networks whose row cannot be read."""
        rows = self._db.rows("SELECT network AS id, doc FROM around")
        return {r["id"] for r in rows if not self._db.readable([r], _around.decode, AROUND)}

    def complete(self) -> bool:
        """Can all rows be read?"""
        return not self.unreadable()

    def put(self, network: str, around: RemoteState) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO around VALUES (?, ?)", (network, msgspec.json.encode(around))
        )

    def records(self) -> list[EndpointRecord]:
        """Containers of other hosts."""
        rows = self._db.rows("SELECT network AS id, doc FROM around ORDER BY network")
        found = self._db.readable(rows, _around.decode, AROUND)
        return [n.record() for around in found for n in around.neighbours]


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
