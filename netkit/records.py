"""Sandboxes and endpoints as rows: what is intended, before and after it is true."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from netkit.driver import PortMapping
from netkit.errors import AlreadyExists
from netkit.spec import EndpointRecord, PortSpec, Sandbox
from netkit.store import Database, readable

PENDING, READY, LEAVING = "pending", "ready", "leaving"

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
)


class Opened(msgspec.Struct, kw_only=True, frozen=True):
    """A sandbox with the ports it wants published and the host ports it holds."""

    sandbox: Sandbox
    wants: tuple[PortSpec, ...] = ()
    held: tuple[PortMapping, ...] = ()


_opened = msgspec.json.Decoder(Opened)
_record = msgspec.json.Decoder(EndpointRecord)
_json = msgspec.json.Encoder()


class Records:
    def __init__(self, database: Database) -> None:
        self._db = database
        database.ensure("endpoints", TABLES)

    def sandbox(self, id: str) -> tuple[str, Opened] | None:
        """(state, sandbox), or None if it is not open, or its row cannot be read."""
        rows = self._db.rows("SELECT id, state, doc FROM sandboxes WHERE id=?", (id,))
        found = readable(rows, _opened.decode, "sandbox")
        return (rows[0]["state"], found[0]) if found else None

    def sandboxes(self) -> list[tuple[str, Opened]]:
        rows = self._db.rows("SELECT id, state, doc FROM sandboxes ORDER BY id")
        states = {str(r["id"]): str(r["state"]) for r in rows}
        found = readable(rows, _opened.decode, "sandbox")
        return [(states[opened.sandbox.id], opened) for opened in found]

    def save_sandbox(self, opened: Opened, state: str) -> None:
        self._db.execute(
            "INSERT INTO sandboxes VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET state=excluded.state, doc=excluded.doc",
            (opened.sandbox.id, state, _json.encode(opened)),
        )

    def leave_sandbox(self, id: str) -> None:
        """It and all its endpoints are on their way out."""
        with self._db.transaction():
            self._db.execute("UPDATE sandboxes SET state=? WHERE id=?", (LEAVING, id))
            self._db.execute("UPDATE endpoints SET state=? WHERE sandbox=?", (LEAVING, id))

    def drop_sandbox(self, id: str) -> None:
        """With all its endpoints."""
        self._db.execute("DELETE FROM sandboxes WHERE id=?", (id,))

    def add(self, record: EndpointRecord, network: str) -> None:
        """As pending.  AlreadyExists if the sandbox is on that network; `network` is its name."""
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

    def drop(self, id: str) -> None:
        self._db.execute("DELETE FROM endpoints WHERE id=?", (id,))

    def of(
        self,
        *,
        sandbox: str | None = None,
        network: str | None = None,
        opening: str | None = None,
        ready: bool = False,
    ) -> list[EndpointRecord]:
        """Endpoints of a sandbox, of a network, or all; in order of interface name.

        `opening`: only those whose wishes may mention this sandbox.
        """
        conditions = {"sandbox=?": sandbox, "network=?": network, "instr(doc, ?)": opening}
        asked = {c: v for c, v in conditions.items() if v is not None}
        where = [*asked, *(["state='ready'"] if ready else [])]
        rows = self._db.rows(
            "SELECT id, doc FROM endpoints" + (" WHERE " + " AND ".join(where) if where else ""),
            tuple(asked.values()),
        )
        found = readable(rows, _record.decode, "endpoint")
        return sorted(found, key=lambda r: (r.owner_name, r.sandbox, r.ifname))

    def unfinished(self) -> list[EndpointRecord]:
        """Those whose joining or leaving was cut short while their sandbox was open."""
        rows = self._db.rows("SELECT id, doc FROM endpoints WHERE state != 'ready'")
        return readable(rows, _record.decode, "endpoint")
