"""What was asked for and what was allocated: one SQLite file (WAL), usable from any thread."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from netkit.errors import StoreError

T = TypeVar("T")

log = logging.getLogger("netkit.store")


class Database:
    """One connection behind one lock: a transaction costs 0.05 ms, so nobody queues for long.

    A StoreError says what SQLite cannot do; sqlite3.IntegrityError passes through.  Each component
    declares its tables with `ensure` and owns them.  synchronous=NORMAL in WAL
    mode survives a kill of the process at any instant; a power cut may lose the last
    transactions but never the file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        _keep_private(path)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")

    def ensure(self, component: str, migrations: Sequence[str]) -> None:
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
        """Everything inside happens, or nothing.  Nests: the outermost one commits."""
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
        """Because of `error`, which stays the error; SQLite may have done so itself."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as bad:
            error.add_note(f"could not roll back: {bad}")

    def execute(self, sql: str, args: Sequence[object] = ()) -> int:
        """Run one statement; the rows it changed.  sqlite3.IntegrityError passes through."""
        with self._lock:
            return self._run(sql, args).rowcount

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

    def close(self) -> None:
        with self._lock:
            self._db.close()


_reported: set[tuple[str, str]] = set()


def readable(rows: Iterable[sqlite3.Row], decode: Callable[[bytes], T], what: str) -> list[T]:
    """The documents (column `doc`) of rows that have an `id`.

    One that cannot be decoded, because of another version or a damaged disk, is left out, and
    logged once: it must not keep the others from being listed.  `what` is for the log.
    """
    found = []
    for row in rows:
        try:
            found.append(decode(row["doc"]))
        except ValueError as error:  # msgspec.DecodeError, ValidationError, UnicodeDecodeError
            if (what, row["id"]) not in _reported:
                _reported.add((what, row["id"]))
                log.error("%s %s: its row cannot be read: %s", what, row["id"], error)
    return found


def _keep_private(path: Path) -> None:
    """Readable by its owner only, and so are the files that SQLite makes beside it."""
    path.touch(mode=0o600)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).chmod(0o600)
