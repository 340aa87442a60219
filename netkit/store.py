"""The local database: one SQLite file (WAL), usable from any thread."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from netkit.errors import StoreError

T = TypeVar("T")

log = logging.getLogger("netkit.store")

# msgspec.DecodeError, ValidationError, UnicodeDecodeError; NULL or a number; nested too deep
UNREADABLE = (ValueError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Kind:
    """Of rows with a document.  `remedy`: a clause on what to do about one, with {id} in it."""

    name: str
    table: str
    remedy: str
    key: str = "id"  # a column


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that cannot be decoded."""

    kind: Kind
    id: str
    error: str

    def __str__(self) -> str:
        remedy = self.kind.remedy.format(id=self.id)
        return f"{self.kind.name} {self.id} is left out, its row cannot be read: {remedy}"


class Database:
    """One connection behind one lock: a transaction costs 0.05 ms, so no thread waits long.

    A StoreError has SQLite's reason; sqlite3.IntegrityError passes through.  Each component
    declares its tables with `migrate` and owns them.  synchronous=NORMAL in WAL
    mode survives a kill of the process at any instant; a power cut may lose the last
    transactions but never the file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._omitted: dict[tuple[str, str], LeftOut] = {}  # by table and id
        _keep_private(path)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")

    def migrate(self, component: str, migrations: Sequence[str]) -> None:
        """Bring the tables of `component` up to date: migration n leads to version n+1."""
        with self.transaction():
            self._run(
                "CREATE TABLE IF NOT EXISTS schema (component TEXT PRIMARY KEY, version INTEGER)"
            )
            row = self._run("SELECT version FROM schema WHERE component=?", (component,)).fetchone()
            for statement in migrations[row["version"] if row else 0 :]:
                for part in filter(str.strip, statement.split(";")):
                    self._run(part)
            self._run("INSERT OR REPLACE INTO schema VALUES (?, ?)", (component, len(migrations)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside, or nothing.  Nests: the outermost one commits."""
        with self._lock:
            if self._depth == 0:
                self._run("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._run("COMMIT")
            except BaseException as error:
                if self._depth == 1:
                    self._roll_back(error)
                raise
            finally:
                self._depth -= 1

    def _roll_back(self, error: BaseException) -> None:
        """Roll back because of `error`, which stays the error; SQLite may have done so itself."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as bad:
            error.add_note(f"could not roll back: {bad}")

    def execute(self, sql: str, args: Sequence[object] = ()) -> int:
        """Run one statement; the rows it changed.  sqlite3.IntegrityError passes through."""
        with self._lock:
            return self._run(sql, args).rowcount

    def flush(self) -> None:
        """Bring what was committed to the disk, so that a power cut does not take it back.

        For rows whose files are to be removed next, and for what is acknowledged as stored.  Their
        place is the write-ahead log; where it was merged into the database (a checkpoint), SQLite
        has synced that.  StoreError.
        """
        try:
            with suppress(FileNotFoundError), open(f"{self._path}-wal", "rb") as log_file:
                os.fsync(log_file.fileno())
        except OSError as error:
            raise StoreError(f"the database {self._path} cannot be synced: {error}") from error

    @property
    def changes(self) -> int:
        """How many rows were inserted, updated or deleted: the same while nothing is written."""
        return self._db.total_changes

    def rows(self, sql: str, args: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock, self._failing():
            return self._db.execute(sql, tuple(args)).fetchall()

    def _run(self, sql: str, args: Sequence[object] = ()) -> sqlite3.Cursor:
        with self._failing():
            return self._db.execute(sql, tuple(args))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StoreError(f"the database {self._path} cannot be used: {error}") from error

    def readable(
        self, rows: Iterable[sqlite3.Row], decode: Callable[[bytes], T], kind: Kind
    ) -> list[T]:
        """The documents (column `doc`) of rows of the kind's table, whose key is named `id`.

        One that cannot be decoded, because of another version or a damaged disk, is left out,
        logged once and listed by `left_out`: it must not keep the others from being listed.
        """
        found = []
        for row in rows:
            key = (kind.table, str(row["id"]))
            try:
                found.append(decode(row["doc"]))
            except UNREADABLE as error:
                self._omit(key, LeftOut(kind, key[1], str(error)))
            else:
                if key in self._omitted:
                    self._readmit(key)
        return found

    def _omit(self, key: tuple[str, str], left: LeftOut) -> None:
        with self._lock:
            known = key in self._omitted
            self._omitted[key] = left
        if not known:
            log.error("%s %s: its row cannot be read: %s", left.kind.name, left.id, left.error)

    def _readmit(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._omitted.pop(key, None)

    def omitted(self, kind: Kind, id: str) -> bool:
        """Whether the row could not be decoded when it was last read."""
        with self._lock:
            return (kind.table, id) in self._omitted

    def left_out(self) -> list[LeftOut]:
        """Rows that could not be decoded when last read, and that are there still."""
        with self._lock:
            return [
                left
                for key, left in sorted(self._omitted.items())
                if self.rows(f"SELECT 1 FROM {left.kind.table} WHERE {left.kind.key}=?", key[1:])
            ]

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _keep_private(path: Path) -> None:
    """Readable by its owner only, and so are the files that SQLite makes beside it."""
    path.touch(mode=0o600)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).chmod(0o600)


class ReadAtOnce(Generic[T]):
    """Rows by a key, read by one query; each by itself once anything was written after that.

    For what is read key by key, each under a lock of its own: what is returned is as it is then.
    """

    def __init__(
        self, database: Database, every: Callable[[], Mapping[str, T]], one: Callable[[str], T]
    ) -> None:
        """`one` is also called for keys at which `every` raises KeyError."""
        self._database, self._one = database, one
        self._changes = database.changes  # before they are read
        self._every = every()

    def __call__(self, key: str) -> T:
        if self._database.changes == self._changes:
            with suppress(KeyError):
                return self._every[key]
        return self._one(key)
