"""The database keeps its first error, and can be used after it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import StoreError
from netkit.store import Database, Kind, ReadAtOnce

TABLES = [
    "CREATE TABLE a (id TEXT PRIMARY KEY, doc BLOB); "
    "CREATE TABLE b (a TEXT REFERENCES a(id) DEFERRABLE INITIALLY DEFERRED)"
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "db")
    made.migrate("test", TABLES)
    yield made
    made.close()


LARGE = "INSERT INTO a VALUES ('y', zeroblob(100000))"


def _in_one(database: Database, *statements: str) -> None:
    with database.transaction():
        for statement in statements:
            database.execute(statement)


def _count(database: Database) -> int:
    return len(database.rows("SELECT id FROM a"))


def test_a_full_disk_is_reported_and_nothing_of_the_transaction_stays(database: Database) -> None:
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


def test_rows_that_cannot_be_decoded_are_listed_while_they_are_there_and_unreadable(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    kind = Kind("thing", "a", "remove {id}")

    def read() -> list[object]:
        rows = database.rows("SELECT id, doc FROM a ORDER BY id")
        return database.readable(rows, json.loads, kind)

    for id, doc in (("good", b"1"), ("none", None), ("torn", b"{"), ("deep", b"[" * 100_000)):
        database.execute("INSERT INTO a VALUES (?, ?)", (id, doc))
    assert (read(), read()) == ([1], [1])
    assert [left.id for left in database.left_out()] == ["deep", "none", "torn"]
    assert caplog.text.count("its row cannot be read") == 3
    assert str(database.left_out()[2]).startswith("thing torn is left out, its row cannot be read")
    assert str(database.left_out()[2]).endswith(": remove torn")
    database.execute("DELETE FROM a WHERE id='deep'")
    database.execute("UPDATE a SET doc='2' WHERE id='torn'")
    assert read() == [1, 2]
    assert [left.id for left in database.left_out()] == ["none"]


def test_a_flush_syncs_the_log_that_has_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "db")
    synced: list[bytes] = []
    monkeypatch.setattr(
        "os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").resolve().read_bytes())
    )
    database.migrate("a", ["CREATE TABLE a (x TEXT)"])
    database.execute("INSERT INTO a VALUES ('acknowledged')")
    assert not synced
    database.flush()
    assert b"acknowledged" in synced[-1]
    database.close()


def test_a_flush_that_fails_says_which_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "db")
    database.migrate("a", ["CREATE TABLE a (x TEXT)"])

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(StoreError, match=r"db cannot be synced: .*Input/output error"):
        database.flush()
    database.close()


def test_rows_read_at_once_are_read_anew_once_anything_was_written(database: Database) -> None:
    database.execute("INSERT INTO a VALUES ('x', 'old'), ('y', 'old')")
    read: list[str] = []

    def every() -> dict[str, str]:
        read.append("all")
        return {str(row["id"]): str(row["doc"]) for row in database.rows("SELECT * FROM a")}

    def one(key: str) -> str:
        read.append(key)
        return "".join(row["doc"] for row in database.rows("SELECT * FROM a WHERE id=?", (key,)))

    of = ReadAtOnce(database, every, one)
    assert [of("x"), of("y"), of("nosuch")] == ["old", "old", ""]
    assert read == ["all", "nosuch"]
    database.execute("UPDATE a SET doc='new' WHERE id='x'")
    assert [of("x"), of("y")] == ["new", "old"]
    assert read == ["all", "nosuch", "x", "y"]
    database.execute("DELETE FROM a")
    assert of("x") == ""


def test_what_is_written_while_all_rows_are_read_is_seen(database: Database) -> None:
    def every() -> dict[str, str]:
        database.execute("INSERT INTO a VALUES ('x', '')")  # by another thread
        return {"x": "before"}

    assert ReadAtOnce(database, every, lambda key: "after")("x") == "after"
