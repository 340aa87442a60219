"""Store sandboxes and endpoints as rows: before the kernel is changed, and after."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from netkit.driver import PortMapping
from netkit.errors import AlreadyExists
from netkit.spec import EndpointRecord, PortSpec, Sandbox
from netkit.store import Database, Kind, ReadAtOnce

PENDING, READY, LEAVING = "pending", "ready", "leaving"
SANDBOX = Kind("sandbox", "sandboxes", "restart its container, or remove it")
ENDPOINT = Kind("endpoint", "endpoints", "remove its container, and create it anew")

TABLES = (
    """
    CREATE TABLE sandboxes (id TEXT PRIMARY KEY, state TEXT NOT NULL,
        doc BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE endpoints (id TEXT PRIMARY KEY,
        network TEXT NOT NULL REFERENCES networks(id),
        sandbox TEXT NOT NULL REFERENCES sandboxes(id) ON DELETE CASCADE,
        state TEXT NOT NULL, doc BLOB NOT NULL, UNIQUE (network, sandbox)) WITHOUT ROWID;
    CREATE INDEX endpoints_sandbox ON endpoints (sandbox)
    """,
    """
    ALTER TABLE sandboxes ADD COLUMN ns TEXT;
    UPDATE sandboxes SET ns=json_extract(CAST(doc AS TEXT), '$.sandbox.ns')
        WHERE json_valid(CAST(doc AS TEXT))
    """,
)
NO_NAMESPACE = "/proc/0/ns/net"  # a path at which there is none, whatever the pid


@dataclass(frozen=True, slots=True)
class Index:
    """The key columns of an endpoint's row, which can be read whatever its document holds."""

    id: str
    network: str
    sandbox: str


class SandboxRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A sandbox with the ports it wants published and the host ports it holds."""

    sandbox: Sandbox
    wants: tuple[PortSpec, ...] = ()
    held: tuple[PortMapping, ...] = ()


class SandboxRow(NamedTuple):
    state: str  # PENDING, READY or LEAVING
    opened: SandboxRecord


_opened = msgspec.json.Decoder(SandboxRecord)
_record = msgspec.json.Decoder(EndpointRecord)
_json = msgspec.json.Encoder()


class EndpointStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("endpoints", TABLES)

    def sandbox(self, id: str) -> SandboxRow | None:
        """None if it is not open."""
        rows = self._db.rows("SELECT id, state, doc, ns FROM sandboxes WHERE id=?", (id,))
        return SandboxRow(str(rows[0]["state"]), self._opened(rows[0])) if rows else None

    def sandboxes(self) -> list[SandboxRow]:
        rows = self._db.rows("SELECT id, state, doc, ns FROM sandboxes ORDER BY id")
        return [SandboxRow(str(row["state"]), self._opened(row)) for row in rows]

    def _opened(self, row: sqlite3.Row) -> SandboxRecord:
        """Of a document that cannot be decoded, what the endpoints' rows still have of it.

        Enough to release all that the sandbox holds, which the next open of it does: the ports it
        wants, and its name if it has no endpoint, then differ from those it is opened with.
        """
        for opened in self._db.readable([row], _opened.decode, SANDBOX):
            return opened
        id, ns = str(row["id"]), row["ns"]
        endpoints = self.of_sandbox(sandbox=id)
        name = next((r.owner_name for r in endpoints), id[:12])
        return SandboxRecord(
            sandbox=Sandbox(id=id, name=name, ns=NO_NAMESPACE if ns is None else str(ns)),
            held=tuple(port for r in endpoints for port in r.ports),
        )

    def readable(self, id: str) -> bool:
        """Whether a sandbox's document could be decoded when it was last read."""
        return not self._db.omitted(SANDBOX, id)

    def save_sandbox(self, opened: SandboxRecord, state: str) -> None:
        self._db.execute(
            "INSERT INTO sandboxes (id, state, doc, ns) VALUES (?, ?, ?, ?) ON CONFLICT (id) "
            "DO UPDATE SET state=excluded.state, doc=excluded.doc, ns=excluded.ns",
            (opened.sandbox.id, state, _json.encode(opened), opened.sandbox.ns),
        )

    def mark_sandbox_removing(self, id: str) -> None:
        """Mark it and all its endpoints as leaving."""
        with self._db.transaction():
            self._db.execute("UPDATE sandboxes SET state=? WHERE id=?", (LEAVING, id))
            self._db.execute("UPDATE endpoints SET state=? WHERE sandbox=?", (LEAVING, id))

    def drop_sandbox(self, id: str) -> None:
        """Delete it with all its endpoints."""
        self._db.execute("DELETE FROM sandboxes WHERE id=?", (id,))

    def insert_pending(self, record: EndpointRecord, network: str) -> None:
        """Add a pending one.  AlreadyExists if the sandbox is on that network, called `network`."""
        try:
            self._db.execute(
                "INSERT INTO endpoints VALUES (?, ?, ?, ?, ?)",
                (record.id, record.network, record.sandbox, PENDING, _json.encode(record)),
            )
        except sqlite3.IntegrityError:
            raise AlreadyExists(
                f"endpoint with name {record.owner_name} already exists in network {network}"
            ) from None

    def save(self, records: Iterable[EndpointRecord], state: str = READY) -> None:
        for r in records:
            self._db.execute(
                "UPDATE endpoints SET state=?, doc=? WHERE id=?", (state, _json.encode(r), r.id)
            )

    def mark(self, id: str, state: str) -> None:
        self._db.execute("UPDATE endpoints SET state=? WHERE id=?", (state, id))

    def delete(self, id: str) -> None:
        self._db.execute("DELETE FROM endpoints WHERE id=?", (id,))

    def of_sandbox(
        self,
        *,
        sandbox: str | None = None,
        network: str | None = None,
        opening: str | None = None,
        ready: bool = False,
    ) -> list[EndpointRecord]:
        """List endpoints of a sandbox, of a network, or all; in order of interface name.

        `opening`: only those whose specs may mention this sandbox.
        """
        conditions = {"sandbox=?": sandbox, "network=?": network, "instr(doc, ?)": opening}
        asked = {c: v for c, v in conditions.items() if v is not None}
        where = [*asked, *(["state='ready'"] if ready else [])]
        rows = self._db.rows(
            "SELECT id, doc FROM endpoints" + (" WHERE " + " AND ".join(where) if where else ""),
            tuple(asked.values()),
        )
        found = self._db.readable(rows, _record.decode, ENDPOINT)
        return sorted(found, key=lambda r: (r.owner_name, r.sandbox, r.ifname))

    def ready(self) -> ReadAtOnce[list[EndpointRecord]]:
        """Ready endpoints of a sandbox, for who asks for many of them."""

        def every() -> dict[str, list[EndpointRecord]]:
            found: dict[str, list[EndpointRecord]] = defaultdict(list)
            for record in self.of_sandbox(ready=True):
                found[record.sandbox].append(record)
            return found

        return ReadAtOnce(self._db, every, lambda id: self.of_sandbox(sandbox=id, ready=True))

    def opened(self) -> ReadAtOnce[SandboxRow | None]:
        """As `sandbox`, for who asks for many of them."""
        return ReadAtOnce(
            self._db, lambda: {row.opened.sandbox.id: row for row in self.sandboxes()}, self.sandbox
        )

    def of_container(self, container: str) -> list[EndpointRecord]:
        """List ready endpoints of a container of another engine, by that engine's id of it."""
        found = self.of_sandbox(opening=container, ready=True)
        return [r for r in found if r.container == container]

    def of_namespace(self, ns: str) -> list[EndpointRecord]:
        """List ready endpoints whose sandboxes are in the namespace at a path."""
        rows = self._db.rows(
            "SELECT id, doc FROM endpoints WHERE state='ready' AND sandbox IN ("
            "SELECT id FROM sandboxes WHERE ns=?)",
            (ns,),
        )
        return self._db.readable(rows, _record.decode, ENDPOINT)

    def around(self, networks: Iterable[str], sandboxes: Iterable[str]) -> list[EndpointRecord]:
        """List all ready endpoints of sandboxes that are on one of `networks`, or in `sandboxes`.

        In no particular order.  Costs what these are, whatever else there is.
        """
        rows = self._db.rows(
            "SELECT id, doc FROM endpoints WHERE state='ready' AND sandbox IN ("
            "SELECT sandbox FROM endpoints WHERE state='ready' AND network IN "
            "(SELECT value FROM json_each(?)) UNION SELECT value FROM json_each(?))",
            (_json.encode(sorted(networks)).decode(), _json.encode(sorted(sandboxes)).decode()),
        )
        return self._db.readable(rows, _record.decode, ENDPOINT)

    def networks(self) -> set[str]:
        """Ids of networks that have ready endpoints."""
        rows = self._db.rows("SELECT DISTINCT network FROM endpoints WHERE state='ready'")
        return {str(row["network"]) for row in rows}

    def index(self) -> list[Index]:
        """List the key columns of all endpoints, in whatever state, readable or not."""
        rows = self._db.rows("SELECT id, network, sandbox FROM endpoints")
        return [Index(*map(str, row)) for row in rows]

    def count(self, sandbox: str) -> int:
        """Count the endpoints of a sandbox, readable or not."""
        (row,) = self._db.rows("SELECT count(*) AS n FROM endpoints WHERE sandbox=?", (sandbox,))
        return int(row["n"])

    def unfinished(self) -> list[EndpointRecord]:
        """List those whose joining or leaving was cut short while their sandbox was open."""
        rows = self._db.rows("SELECT id, doc FROM endpoints WHERE state != 'ready'")
        return self._db.readable(rows, _record.decode, ENDPOINT)
