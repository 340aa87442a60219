"""What is stored for dockerd: its networks, endpoints, address pools and addresses.

Rows of the database that netkit's networks are in.  dockerd's ids are the keys: it sends no names,
and a call that it repeats finds the row of the first.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from netkit.store import Database

MIGRATIONS = (
    """
    CREATE TABLE docker_networks (id TEXT PRIMARY KEY,
        network TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE,
        name TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    CREATE TABLE docker_endpoints (id TEXT PRIMARY KEY, docker_network TEXT NOT NULL,
        network TEXT NOT NULL, sandbox TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE docker_pools (id TEXT PRIMARY KEY, cidr TEXT NOT NULL, range TEXT NOT NULL,
        network TEXT NOT NULL, space TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE docker_leases (holder TEXT PRIMARY KEY,
        pool TEXT NOT NULL REFERENCES docker_pools(id) ON DELETE CASCADE,
        address TEXT, kind TEXT NOT NULL, name TEXT NOT NULL, since INTEGER NOT NULL,
        UNIQUE (pool, address)) WITHOUT ROWID
    """,
)

LEASE = "lease"  # kinds of addresses: of a container;
REQUESTED, CHOSEN = "gateway", "chosen"  # of a gateway, which the user named or the pool chose


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    id: str  # dockerd's
    network: str  # netkit's id
    name: str  # in dockerd; "": not known yet


@dataclass(frozen=True, slots=True)
class DockerEndpoint:
    id: str
    docker_network: str
    network: str  # netkit's id
    sandbox: str  # id of the endpoint's sandbox
    since: int  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class PoolRow:
    id: str
    cidr: str
    range: str  # CIDR to allocate from, "": all of it
    network: str  # netkit's id; "": no network has it yet, or one that is not netkit's
    space: str
    since: int


@dataclass(frozen=True, slots=True)
class Lease:
    """An address of a pool; without one it is being allocated."""

    holder: str  # the id of the sandbox that is to have it
    pool: str
    address: str | None
    kind: str  # LEASE, REQUESTED or CHOSEN
    name: str  # of the container, where dockerd sends it
    since: int


class Tables:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.migrate("docker", MIGRATIONS)

    # networks

    def network(self, id: str) -> DockerNetwork | None:
        rows = self.database.rows("SELECT * FROM docker_networks WHERE id=?", (id,))
        return _network(rows[0]) if rows else None

    def networks(self, network: str | None = None) -> list[DockerNetwork]:
        """List all, or those that are one network of netkit's."""
        where, args = (" WHERE network=?", (network,)) if network is not None else ("", ())
        rows = self.database.rows(f"SELECT * FROM docker_networks{where} ORDER BY id", args)
        return [_network(r) for r in rows]

    def add_network(self, id: str, network: str, pools: tuple[str, ...]) -> None:
        """Store a network, and that these pools are its."""
        with self.database.transaction():
            self.database.execute(
                "INSERT OR REPLACE INTO docker_networks (id, network) VALUES (?, ?)", (id, network)
            )
            for pool in pools:
                self.database.execute(
                    "UPDATE docker_pools SET network=? WHERE id=?", (network, pool)
                )

    def name_network(self, id: str, name: str) -> None:
        self.database.execute("UPDATE docker_networks SET name=? WHERE id=?", (name, id))

    def delete_network(self, id: str) -> None:
        self.database.execute("DELETE FROM docker_networks WHERE id=?", (id,))

    # endpoints

    def endpoint(self, id: str) -> DockerEndpoint | None:
        rows = self.database.rows("SELECT * FROM docker_endpoints WHERE id=?", (id,))
        return _endpoint(rows[0]) if rows else None

    def endpoints(self, docker_network: str | None = None) -> list[DockerEndpoint]:
        where, args = "", ()
        if docker_network is not None:
            where, args = " WHERE docker_network=?", (docker_network,)  # type: ignore[assignment]
        rows = self.database.rows(f"SELECT * FROM docker_endpoints{where} ORDER BY id", args)
        return [_endpoint(r) for r in rows]

    def endpoint_of(self, sandbox: str) -> DockerEndpoint | None:
        rows = self.database.rows("SELECT * FROM docker_endpoints WHERE sandbox=?", (sandbox,))
        return _endpoint(rows[0]) if rows else None

    def add_endpoint(self, e: DockerEndpoint) -> None:
        self.database.execute(
            "INSERT OR REPLACE INTO docker_endpoints VALUES (?, ?, ?, ?, ?)",
            (e.id, e.docker_network, e.network, e.sandbox, e.since),
        )

    def delete_endpoint(self, id: str) -> None:
        self.database.execute("DELETE FROM docker_endpoints WHERE id=?", (id,))

    # pools

    def pool(self, id: str) -> PoolRow | None:
        rows = self.database.rows("SELECT * FROM docker_pools WHERE id=?", (id,))
        return _pool(rows[0]) if rows else None

    def pools(self) -> list[PoolRow]:
        return [_pool(r) for r in self.database.rows("SELECT * FROM docker_pools ORDER BY id")]

    def add_pool(self, p: PoolRow) -> None:
        self.database.execute(
            "INSERT INTO docker_pools VALUES (?, ?, ?, ?, ?, ?)",
            (p.id, p.cidr, p.range, p.network, p.space, p.since),
        )

    def delete_pool(self, id: str) -> None:
        self.database.execute("DELETE FROM docker_pools WHERE id=?", (id,))

    # addresses

    def leases(self, pool: str | None = None) -> list[Lease]:
        where, args = (" WHERE pool=?", (pool,)) if pool is not None else ("", ())
        rows = self.database.rows(f"SELECT * FROM docker_leases{where} ORDER BY holder", args)
        return [_lease(r) for r in rows]

    def lease(self, pool: str, address: str) -> Lease | None:
        rows = self.database.rows(
            "SELECT * FROM docker_leases WHERE pool=? AND address=?", (pool, address)
        )
        return _lease(rows[0]) if rows else None

    def lease_on(self, network: str, address: str) -> Lease | None:
        """Return the lease of an address on one of netkit's networks."""
        rows = self.database.rows(
            "SELECT l.* FROM docker_leases l JOIN docker_pools p ON p.id = l.pool "
            "WHERE p.network=? AND l.address=? AND l.kind='lease'",
            (network, address),
        )
        return _lease(rows[0]) if rows else None

    def add_lease(self, lease: Lease) -> bool:
        """Store it; False if another has the address, or the pool was released."""
        try:
            self.database.execute(
                "INSERT INTO docker_leases VALUES (?, ?, ?, ?, ?, ?)",
                (lease.holder, lease.pool, lease.address, lease.kind, lease.name, lease.since),
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def settle_lease(self, holder: str, address: str) -> None:
        self.database.execute(
            "UPDATE docker_leases SET address=? WHERE holder=?", (address, holder)
        )

    def delete_lease(self, holder: str) -> None:
        self.database.execute("DELETE FROM docker_leases WHERE holder=?", (holder,))


def _network(row: sqlite3.Row) -> DockerNetwork:
    return DockerNetwork(str(row["id"]), str(row["network"]), str(row["name"]))


def _endpoint(row: sqlite3.Row) -> DockerEndpoint:
    return DockerEndpoint(
        str(row["id"]), str(row["docker_network"]), str(row["network"]), str(row["sandbox"]),
        int(row["since"]),
    )  # fmt: skip


def _pool(row: sqlite3.Row) -> PoolRow:
    return PoolRow(
        str(row["id"]), str(row["cidr"]), str(row["range"]), str(row["network"]),
        str(row["space"]), int(row["since"]),
    )  # fmt: skip


def _lease(row: sqlite3.Row) -> Lease:
    return Lease(
        str(row["holder"]), str(row["pool"]), row["address"] and str(row["address"]),
        str(row["kind"]), str(row["name"]), int(row["since"]),
    )  # fmt: skip
