"""What the overlay's core keeps: rows of bytes in one SQLite file.

One transaction a step, and a step is in the file before anything of it is sent.  What a crash tore
is as if it had never begun (write-ahead log); what a power cut must not take back is synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import StoreError
from netkit.overlay.core import Change
from netkit.store import Database

MIGRATIONS = (
    "CREATE TABLE overlay_row (place TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY (place, key)) WITHOUT ROWID",
)
PUT = (
    "INSERT INTO overlay_row VALUES (?, ?, ?)"
    " ON CONFLICT (place, key) DO UPDATE SET value = excluded.value"
)
Rows = dict[str, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Row:
    """A `Change` of the process's own."""

    table: str
    key: bytes
    value: bytes | None


class Store:
    """StoreError, with what to do, where the file is damaged; for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = Database(path)
            found = self._db.rows("PRAGMA quick_check(1)")
            if [row[0] for row in found] != ["ok"]:
                words = " ".join(found[0][0].split()) if found else "it cannot be read"
                raise StoreError(words)
            self._db.migrate("overlay", MIGRATIONS)
        except (sqlite3.Error, StoreError) as e:
            raise StoreError(
                f"the overlay's database {path} is damaged ({e}): put a copy of it back, or run"
                " `netkit weave reset`, which makes this host a new peer"
            ) from e

    def rows(self) -> Rows:
        """By table, by key."""
        found: Rows = {}
        for place, key, value in self._db.rows("SELECT place, key, value FROM overlay_row"):
            found.setdefault(place, {})[key] = value
        return found

    def write(self, changes: Collection[Change], *, sync: bool) -> None:
        """All of them or none; with `sync` they are on the disk when this returns.  StoreError."""
        if not changes:
            return
        with self._db.transaction():
            self._apply(changes)
        if sync:
            self._db.flush()

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.value is None:
                words = "DELETE FROM overlay_row WHERE place = ? AND key = ?"
                self._db.execute(words, (change.table, change.key))
            else:
                self._db.execute(PUT, (change.table, change.key, change.value))

    def close(self) -> None:
        self._db.close()
