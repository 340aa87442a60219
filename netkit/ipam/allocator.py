"""Allocate addresses to endpoints, in SQLite.

Its primary key on (network, address) arbitrates between threads.  Messages are Docker's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from ipaddress import ip_network
from typing import TYPE_CHECKING

from netkit.driver import ROUTER, Subnet
from netkit.errors import Conflict, InUse
from netkit.ipam.pools import UsedSubnet, assignable_range
from netkit.model import IPAddress, IPNetwork

if TYPE_CHECKING:
    from netkit.store import Database


class AddressAllocator:
    """Allocated addresses.  A `lease` ends with its sandbox, other kinds are configured."""

    TABLES = (
        """
        CREATE TABLE pools (cidr TEXT PRIMARY KEY,
            network TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE) WITHOUT ROWID;
        CREATE TABLE addresses (network TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE,
            address BLOB NOT NULL, kind TEXT NOT NULL, holder TEXT NOT NULL,
            PRIMARY KEY (network, address)) WITHOUT ROWID;
        CREATE INDEX addresses_holder ON addresses (holder)
        """,
    )
    CHUNK = 64  # rows looked at in one go when searching for a gap

    def __init__(
        self, database: Database, called: Callable[[str], str] = lambda _: "a container"
    ) -> None:
        """`called` names a holder in messages: "container web"."""
        self._db = database
        self._called = called
        self._db.migrate("ipam", self.TABLES)
        # (network, first address) to (low, taken): nothing below low is free.  Where low was
        # taken, that holds only if it still is: a transaction may have been rolled back.
        self._low: dict[tuple[str, int], tuple[int, bool]] = {}

    def pools(self) -> list[UsedSubnet]:
        """List every subnet in use."""
        rows = self._db.rows(
            "SELECT cidr, name FROM pools JOIN networks ON networks.id = pools.network"
        )
        return [UsedSubnet(ip_network(r["cidr"]), r["name"]) for r in rows]

    def add_pool(self, network: str, subnet: Subnet) -> None:
        """Note a network's subnet with what is reserved in it."""
        self._db.execute("INSERT INTO pools VALUES (?, ?)", (str(subnet.cidr), network))
        if subnet.gateway is not None:
            self.reserve(network, subnet.gateway, "gateway", network)
        for name, address in subnet.aux:
            if address != subnet.gateway:
                kind = "aux" if name != ROUTER else "gateway"
                self.reserve(network, address, kind, network)

    def allocate(self, network: str, subnet: Subnet, holder: str, name: str) -> IPAddress:
        """Allocate the lowest free address, as a lease.  Conflict when there is none."""
        first, last = assignable_range(subnet)
        with self._db.transaction():
            start = self._start(network, subnet.cidr, first)
            for low in dict.fromkeys((start, first)):
                free = self._first_free(network, subnet.cidr, low, last)
                if free is not None:
                    self.reserve(network, free, "lease", holder)
                    self._low[network, first] = (int(free), True)
                    return free
        raise Conflict(
            f"no available IPv4 addresses on this network's address pools: {name} ({network[:12]})"
        )

    def allocate_gateway(self, network: str, subnet: Subnet) -> IPAddress:
        """Reserve the lowest free address for the host.  Conflict when there is none."""
        first, last = assignable_range(subnet)
        with self._db.transaction():
            free = self._first_free(network, subnet.cidr, first, last)
            if free is None:
                raise Conflict(f"no address of subnet {subnet.cidr} is free for the host")
            self.reserve(network, free, "gateway", network)
        return free

    def give_back(self, network: str, address: IPAddress) -> None:
        """Release an address that was the host's."""
        self._db.execute(
            "DELETE FROM addresses WHERE network=? AND address=? AND kind='gateway'",
            (network, address.packed),
        )
        for key in [k for k in self._low if k[0] == network]:
            del self._low[key]

    def _start(self, network: str, cidr: IPNetwork, first: int) -> int:
        low, taken = self._low.get((network, first), (first, False))
        address = cidr.network_address + (low - int(cidr.network_address))
        return low if not taken or self._holder(network, address) else first

    def _first_free(self, network: str, cidr: IPNetwork, start: int, last: int) -> IPAddress | None:
        base, origin = cidr.network_address, int(cidr.network_address)
        at = start
        while at <= last:
            rows = self._db.rows(
                "SELECT address FROM addresses WHERE network=? AND address>=? "
                "ORDER BY address LIMIT ?",
                (network, (base + (at - origin)).packed, self.CHUNK),
            )
            for row in rows:
                if int.from_bytes(row["address"], "big") != at:
                    break
                at += 1
            else:
                if len(rows) == self.CHUNK:
                    continue
            return base + (at - origin) if at <= last else None
        return None

    def reserve(self, network: str, address: IPAddress, kind: str, holder: str) -> None:
        """Allocate this address.  Fine if `holder` has it already; InUse if another has."""
        try:
            self._db.execute(
                "INSERT INTO addresses VALUES (?, ?, ?, ?)",
                (network, address.packed, kind, holder),
            )
        except sqlite3.IntegrityError:
            row = self._holder(network, address)
            if row is None or row["holder"] != holder:
                raise self._in_use(address, row) from None
            if kind == "static":
                self._db.execute(
                    "UPDATE addresses SET kind='static' WHERE network=? AND address=?",
                    (network, address.packed),
                )

    def must_be_free(self, network: str, address: IPAddress, holder: str) -> None:
        """InUse if another than `holder` has it."""
        row = self._holder(network, address)
        if row is not None and row["holder"] != holder:
            raise self._in_use(address, row)

    def _in_use(self, address: IPAddress, row: sqlite3.Row | None) -> InUse:
        if row is not None and row["kind"] in {"lease", "static"}:
            who = self._called(row["holder"])
        else:
            who = f"the network ({row['kind'] if row else 'another'})"
        return InUse(f"Address already in use: {address} is held by {who}")

    def _holder(self, network: str, address: IPAddress) -> sqlite3.Row | None:
        rows = self._db.rows(
            "SELECT kind, holder FROM addresses WHERE network=? AND address=?",
            (network, address.packed),
        )
        return rows[0] if rows else None

    def release(self, holder: str, *, network: str | None = None, kind: str = "lease") -> None:
        """Release the addresses of `holder`, of one kind, on one network or on all."""
        where = "holder=? AND kind=?" + (" AND network=?" if network else "")
        args = (holder, kind, network) if network else (holder, kind)
        self._delete(where, args)

    def release_others(self, network: str, holder: str, kept: Collection[IPAddress]) -> None:
        """Release what `holder` has on a network, except these."""
        marks = ", ".join("?" * len(kept))
        self._delete(
            f"holder=? AND network=? AND address NOT IN ({marks})",
            (holder, network, *(address.packed for address in kept)),
        )

    def _delete(self, where: str, args: tuple[str | bytes, ...]) -> None:
        freed = self._db.rows(
            f"DELETE FROM addresses WHERE {where} RETURNING network, address", args
        )
        for row in freed:
            at = int.from_bytes(row["address"], "big")
            for hint, (low, _) in self._low.items():
                if hint[0] == row["network"] and hint[1] <= at <= low:
                    self._low[hint] = (at, False)

    def count(self, network: str) -> int:
        """Count the allocated addresses of a network, reserved ones included."""
        rows = self._db.rows("SELECT count(*) AS n FROM addresses WHERE network=?", (network,))
        return int(rows[0]["n"])

    def count_between(self, network: str, first: IPAddress, last: IPAddress) -> int:
        """Count the allocated addresses of a network from `first` to `last`, both included."""
        rows = self._db.rows(
            "SELECT count(*) AS n FROM addresses WHERE network=? AND address BETWEEN ? AND ?",
            (network, first.packed, last.packed),
        )
        return int(rows[0]["n"])
