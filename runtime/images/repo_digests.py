"""What registries call the images that are here: RepoDigests, in the database.

A digest is a manifest's or an index's, as it is in the registry; the pull of a name, or a push to
it, records it.  Images that were made here, and never pushed, have none.
"""

from __future__ import annotations

from netkit.store import Database

_TABLES = [
    """
    CREATE TABLE image_digest (repository TEXT NOT NULL, digest TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
        PRIMARY KEY (repository, digest));
    CREATE INDEX image_digest_image ON image_digest (image);
    CREATE INDEX image_digest_digest ON image_digest (digest);
    """
]


class RepoDigests:
    """Repositories are in familiar form.  After TagStore: it refers to the table of images."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.migrate("image digests", _TABLES)

    def names(self, id: str) -> tuple[str, ...]:
        """All of an image, as "busybox@sha256:..."."""
        rows = self._db.rows(
            "SELECT repository, digest FROM image_digest WHERE image=? "
            "ORDER BY repository, digest", (id,),
        )  # fmt: skip
        return tuple(f"{row['repository']}@{row['digest']}" for row in rows)

    def find(self, repository: str, digest: str) -> str | None:
        """Id of the image."""
        rows = self._db.rows(
            "SELECT image FROM image_digest WHERE repository=? AND digest=?", (repository, digest)
        )
        return str(rows[0]["image"]) if rows else None

    def anywhere(self, digest: str) -> list[str]:
        """Ids of the images that some repository calls so."""
        rows = self._db.rows(
            "SELECT DISTINCT image FROM image_digest WHERE digest=? ORDER BY image", (digest,)
        )
        return [str(row["image"]) for row in rows]

    def record(self, repository: str, digest: str, id: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO image_digest VALUES (?, ?, ?)", (repository, digest, id)
        )

    def forget(self, repository: str, digest: str) -> None:
        self._db.execute(
            "DELETE FROM image_digest WHERE repository=? AND digest=?", (repository, digest)
        )

    def forget_all(self, repository: str, id: str) -> list[str]:
        """Remove those of an image in one repository; what was removed, as `names` shows it."""
        rows = self._db.rows(
            "SELECT digest FROM image_digest WHERE repository=? AND image=? ORDER BY digest",
            (repository, id),
        )
        for row in rows:
            self.forget(repository, str(row["digest"]))
        return [f"{repository}@{row['digest']}" for row in rows]
