"""The engine's id: generated once, and part of every owner mark in the kernel."""

from __future__ import annotations

import secrets

from netkit.store import Database

_META = ["CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"]


def identity(database: Database) -> str:
    """Return the id of the engine whose database this is: 12 hex digits."""
    database.migrate("meta", _META)
    rows = database.rows("SELECT value FROM meta WHERE key='engine'")
    if rows:
        return str(rows[0]["value"])
    fresh = secrets.token_hex(6)
    database.execute("INSERT INTO meta VALUES ('engine', ?)", (fresh,))
    return fresh
