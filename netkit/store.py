"""What was asked for and what was allocated: one SQLite file (WAL), usable from any thread."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger("netkit.store")


class Database:
    """One connection behind one lock: a transaction costs 0.05 ms, so nobody queues for long.

    Each component declares its tables with `ensure` and owns them.  synchronous=NORMAL in WAL
    mode survives a kill of the process at any instant; a power cut may lose the last
    transactions but never the file (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
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
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS schema (component TEXT PRIMARY KEY, version INTEGER)"
            )
            row = self._db.execute(
                "SELECT version FROM schema WHERE component=?", (component,)
            ).fetchone()
            for statement in migrations[row["version"] if row else 0 :]:
                for part in filter(str.strip, statement.split(";")):
                    self._db.execute(part)
            self._db.execute(
                "INSERT OR REPLACE INTO schema VALUES (?, ?)", (component, len(migrations))
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing.  Nests: the outermost one commits."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    def execute(self, sql: str, args: Sequence[object] = ()) -> int:
        """Run one statement; the rows it changed.  sqlite3.IntegrityError passes through."""
        with self._lock:
            return self._db.execute(sql, tuple(args)).rowcount

    def rows(self, sql: str, args: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, tuple(args)).fetchall()

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
