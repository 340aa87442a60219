"""What is known of blobs in registries, in the database.

Where a blob was seen: a push to another repository of the registry can mount it.  What the
compressed form of a layer is: a push need not compress it to know whether the registry has it.
"""

from __future__ import annotations

from netkit.store import Database
from netkit.timestamps import rfc3339
from runtime import limits
from runtime.registry.endpoints import Repository

_TABLES = [
    """
    CREATE TABLE registry_blob (digest TEXT NOT NULL, registry TEXT NOT NULL, path TEXT NOT NULL,
        seen TEXT NOT NULL, PRIMARY KEY (digest, registry, path));
    CREATE TABLE compressed_layer (diff_id TEXT PRIMARY KEY, digest TEXT NOT NULL,
        size INTEGER NOT NULL);
    """
]


class KnownBlobs:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.migrate("registries", _TABLES)

    def seen(self, digest: str, where: Repository) -> None:
        """The blob is in that repository; the oldest of many places are forgotten."""
        with self._db.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO registry_blob VALUES (?, ?, ?, ?)",
                (digest, where.registry, where.path, rfc3339()),
            )
            self._db.execute(
                "DELETE FROM registry_blob WHERE digest=? AND rowid NOT IN (SELECT rowid FROM "
                "registry_blob WHERE digest=? ORDER BY seen DESC LIMIT ?)",
                (digest, digest, limits.REGISTRY_PLACES),
            )

    def places(self, digest: str, where: Repository) -> list[str]:
        """Other repositories of the registry that have the blob, the last seen first."""
        rows = self._db.rows(
            "SELECT path FROM registry_blob WHERE digest=? AND registry=? AND path<>? "
            "ORDER BY seen DESC", (digest, where.registry, where.path),
        )  # fmt: skip
        return [str(row["path"]) for row in rows]

    def gone(self, digest: str, registry: str, path: str) -> None:
        self._db.execute(
            "DELETE FROM registry_blob WHERE digest=? AND registry=? AND path=?",
            (digest, registry, path),
        )

    def compressed(self, diff_id: str) -> tuple[str, int] | None:
        """Digest and size of the layer as a push compressed it."""
        rows = self._db.rows(
            "SELECT digest, size FROM compressed_layer WHERE diff_id=?", (diff_id,)
        )
        return (str(rows[0]["digest"]), int(rows[0]["size"])) if rows else None

    def compressed_to(self, diff_id: str, digest: str, size: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO compressed_layer VALUES (?, ?, ?)", (diff_id, digest, size)
        )

    def keep_only(self, digests: set[str], diff_ids: set[str]) -> None:
        """Forget all other blobs and layers, at the start: what was removed here."""
        with self._db.transaction():
            blobs = [str(r["digest"]) for r in self._db.rows("SELECT digest FROM registry_blob")]
            for digest in set(blobs) - digests:
                self._db.execute("DELETE FROM registry_blob WHERE digest=?", (digest,))
            rows = self._db.rows("SELECT diff_id FROM compressed_layer")
            for diff_id in {str(row["diff_id"]) for row in rows} - diff_ids:
                self._db.execute("DELETE FROM compressed_layer WHERE diff_id=?", (diff_id,))
