"""Networks that are on several hosts: what one host knows of the others, and what it asks of them.

The book of this host (SQLite) stays the truth about this host.  What is shared is decided in the
cluster: the names and subnets of global networks, and who has which address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from typing import Protocol

import msgspec

from netkit.driver import Known, Subnet
from netkit.errors import Conflict
from netkit.model import IPAddress, IPNetwork
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord
from netkit.store import Database

GLOBAL = "global"

TABLES = (
    """
    CREATE TABLE around (network TEXT PRIMARY KEY REFERENCES networks(id) ON DELETE CASCADE,
        doc BLOB NOT NULL) WITHOUT ROWID
    """,
)


class Neighbour(msgspec.Struct, kw_only=True, frozen=True):
    """A container on another host."""

    id: str  # of its endpoint
    network: str  # network id
    host: str  # id of its engine
    at: str  # the address of that host
    sandbox: str
    owner: str  # its name
    address: str  # without prefix length
    mac: str
    names: tuple[str, ...] = ()

    def record(self) -> EndpointRecord:
        """As an endpoint of ours, for whoever makes no difference."""
        return EndpointRecord(
            id=self.id,
            network=self.network,
            sandbox=self.sandbox,
            owner_name=self.owner,
            spec=EndpointSpec(network=self.network, names=self.names),
            address=self.address,
            mac=self.mac,
        )


class Around(msgspec.Struct, kw_only=True, frozen=True):
    """What surrounds this host on one global network."""

    peers: tuple[str, ...] = ()  # addresses of the other hosts, sorted
    neighbours: tuple[Neighbour, ...] = ()  # sorted by id

    def known(self) -> tuple[Known, ...]:
        return tuple(
            Known(address=IPv4Address(n.address), mac=n.mac, peer=IPv4Address(n.at))
            for n in self.neighbours
            if n.address and n.at in self.peers
        )


class Surroundings:
    """As last heard, so that a start without the cluster changes nothing."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.ensure("around", TABLES)

    def of(self, network: str) -> Around:
        rows = self._db.rows("SELECT doc FROM around WHERE network=?", (network,))
        return msgspec.json.decode(rows[0]["doc"], type=Around) if rows else Around()

    def put(self, network: str, around: Around) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO around VALUES (?, ?)", (network, msgspec.json.encode(around))
        )

    def records(self) -> list[EndpointRecord]:
        """Containers of other hosts."""
        rows = self._db.rows("SELECT doc FROM around ORDER BY network")
        told = (msgspec.json.decode(row["doc"], type=Around) for row in rows)
        return [n.record() for around in told for n in around.neighbours]


class Cluster(Protocol):
    """What networks of scope global ask of the hosts they are on.

    Thread-safe, and may take seconds: nobody holds a transaction when calling.  KernelError
    where the cluster does not answer, Conflict where there is none.
    """

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        """The network exists for all.  AlreadyExists; Forbidden if it overlaps with another."""
        ...

    def remove(self, record: NetworkRecord) -> None:
        """For all.  Forbidden while a container of any host is on it; fine if it is gone."""
        ...

    def subnets(self) -> list[tuple[IPNetwork, str]]:
        """Those of global networks, with the networks' names."""
        ...

    def take(
        self, record: NetworkRecord, subnet: Subnet, holder: str, owner: str, ip: str = ""
    ) -> IPAddress:
        """The address `ip`, or the lowest free one, is this holder's; fine if it has it.

        Conflict if none is left, InUse if `ip` is another's.
        """
        ...

    def claiming(self, network: str, holder: str) -> AbstractContextManager[None]:
        """While inside, what `holder` took and is not in this host's book is not given back."""
        ...

    def stir(self) -> None:
        """The book has changed: what is not in it any more is given back, soon."""
        ...


class NoCluster:
    """For hosts that are in none."""

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        raise alone()

    def remove(self, record: NetworkRecord) -> None:
        raise alone()

    def subnets(self) -> list[tuple[IPNetwork, str]]:
        raise alone()

    def take(
        self, record: NetworkRecord, subnet: Subnet, holder: str, owner: str, ip: str = ""
    ) -> IPAddress:
        raise alone()

    @contextmanager
    def claiming(self, network: str, holder: str) -> Iterator[None]:
        yield

    def stir(self) -> None:
        return None


def alone() -> Conflict:
    """What is said where a cluster is needed and there is none."""
    return Conflict(
        "this host is in no cluster, which networks of scope global need: use netkit cluster "
        "init or join, or start netkitd with --cluster"
    )
