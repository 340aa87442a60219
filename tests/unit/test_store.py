"""The database keeps its first error, and can be used after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import StoreError
from netkit.store import Database

TABLES = [
    "CREATE TABLE a (id TEXT PRIMARY KEY, doc BLOB); "
    "CREATE TABLE b (a TEXT REFERENCES a(id) DEFERRABLE INITIALLY DEFERRED)"
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "db")
    made.ensure("test", TABLES)
    yield made
    made.close()


LARGE = "INSERT INTO a VALUES ('y', zeroblob(100000))"


def _in_one(database: Database, *statements: str) -> None:
    with database.transaction():
        for statement in statements:
            database.execute(statement)


def _count(database: Database) -> int:
    return len(database.rows("SELECT id FROM a"))


def test_a_full_disk_is_said_and_nothing_of_the_transaction_stays(database: Database) -> None:
    (pages,) = database.rows("PRAGMA page_count")[0]
    database.rows(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match="database or disk is full"):
        _in_one(database, "INSERT INTO a VALUES ('x', '')", LARGE)
    assert _count(database) == 0
    database.rows("PRAGMA max_page_count=100000")
    with database.transaction():
        database.execute("INSERT INTO a VALUES ('x', '')")
    assert _count(database) == 1


def test_a_commit_that_fails_leaves_no_transaction_open(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        _in_one(database, "INSERT INTO a VALUES ('x', '')", "INSERT INTO b VALUES ('nosuch')")
    assert _count(database) == 0
    with database.transaction():
        database.execute("INSERT INTO a VALUES ('x', '')")
    assert _count(database) == 1


def test_where_sqlite_has_rolled_back_by_itself_the_first_error_stays(database: Database) -> None:
    with pytest.raises(StoreError, match="no such table: nosuch"):
        _in_one(database, "INSERT INTO a VALUES ('x', '')", "ROLLBACK", "DELETE FROM nosuch")
    assert _count(database) == 0
