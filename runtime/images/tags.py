"""Store of images and their names, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from netkit.errors import InvalidSpec, NotFound
from netkit.store import Database
from netkit.timestamps import rfc3339
from runtime.images.reference import DIGEST, Reference, parse
from runtime.images.repo_digests import RepoDigests

_TABLES = [
    """
    CREATE TABLE image (id TEXT PRIMARY KEY, manifest TEXT NOT NULL, added TEXT NOT NULL);
    CREATE TABLE image_name (name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES image(id)
        ON DELETE CASCADE);
    """,
    "ALTER TABLE image ADD COLUMN tagged TEXT NOT NULL DEFAULT ''",  # when it last got a name
    """
    ALTER TABLE image ADD COLUMN parent TEXT NOT NULL DEFAULT '';
    CREATE INDEX image_parent ON image (parent);
    ALTER TABLE image ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
    """,  # deleted: by force, while containers used it: it is kept for them alone
    # id of the host's boot in which it was added, while its files may be in memory only; else ""
    "ALTER TABLE image ADD COLUMN boot TEXT NOT NULL DEFAULT ''",
]


class TagStore:
    """Ids are digests of configurations; names are in familiar form, "busybox:latest"."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.migrate("images", _TABLES)
        self.digests = RepoDigests(database)

    # looking

    def find(self, ref: str) -> str:
        """Resolve an id, a name or a unique prefix of an id.  NotFound, InvalidSpec."""
        if id := self._id(ref):
            return id
        shown = ref
        if not DIGEST.fullmatch(ref) and ":" not in ref.rpartition("/")[2]:
            shown = f"{ref}:latest"
        raise NotFound(f"No such image: {shown}")

    def _id(self, ref: str) -> str | None:
        if self.has(ref) and not self.is_deleted(ref):
            return ref
        try:
            name = parse(ref)
        except InvalidSpec:
            name = None
        if name is not None and (id := self.named(name)):
            return id
        bare = ref.removeprefix("sha256:")
        # Hex digits only, so there are no wildcards of LIKE to escape.
        if bare and len(bare) <= 64 and all(c in "0123456789abcdef" for c in bare):
            rows = self._db.rows(
                "SELECT id FROM image WHERE id LIKE ? AND NOT deleted", (f"sha256:{bare}%",)
            )
            if len(rows) > 1:
                raise InvalidSpec(f"image id prefix {ref} is ambiguous: {len(rows)} images")
            if rows:
                return str(rows[0]["id"])
        if name is None:
            parse(ref)  # raises the reason why it is no name
        return None

    def named(self, name: Reference) -> str | None:
        """Id of the image with that tag or digest."""
        if name.digest:
            if found := self.digests.find(name.repository, name.digest):
                return found
            for row in self._db.rows(  # what was shown as a digest before there were registries
                "SELECT image.id FROM image JOIN image_name ON image.id=image_name.image "
                "WHERE manifest=? AND name LIKE ?",
                (name.digest, f"{name.repository}:%"),
            ):
                return str(row["id"])
            return None
        rows = self._db.rows("SELECT image FROM image_name WHERE name=?", (name.name,))
        return str(rows[0]["image"]) if rows else None

    def has(self, id: str) -> bool:
        return bool(self._db.rows("SELECT 1 FROM image WHERE id=?", (id,)))

    def is_deleted(self, id: str) -> bool:
        return bool(self._db.rows("SELECT 1 FROM image WHERE id=? AND deleted", (id,)))

    def ids(self) -> list[str]:
        """In the order in which they were added."""
        return [
            str(row["id"])
            for row in self._db.rows("SELECT id FROM image WHERE NOT deleted ORDER BY rowid")
        ]

    def count(self) -> int:
        (row,) = self._db.rows("SELECT count(*) AS n FROM image WHERE NOT deleted")
        return int(row["n"])

    def deleted_ids(self) -> list[str]:
        """Images that were deleted while containers used them, and are kept for these."""
        return [str(row["id"]) for row in self._db.rows("SELECT id FROM image WHERE deleted")]

    def parent(self, id: str) -> str:
        """Id of the image that it was made from here; "" if none, or if that is no more."""
        rows = self._db.rows(
            "SELECT above.id FROM image JOIN image AS above ON above.id=image.parent "
            "WHERE image.id=? AND NOT above.deleted", (id,)
        )  # fmt: skip
        return str(rows[0]["id"]) if rows else ""

    def children(self, id: str) -> list[str]:
        """Ids of the images that were made from it here, the oldest addition first."""
        rows = self._db.rows(
            "SELECT id FROM image WHERE parent=? AND NOT deleted ORDER BY added, id", (id,)
        )
        return [str(row["id"]) for row in rows]

    def manifest(self, id: str) -> str:
        """Digest of an image's manifest."""
        rows = self._db.rows("SELECT manifest FROM image WHERE id=?", (id,))
        if not rows:
            raise NotFound(f"No such image: {id}")
        return str(rows[0]["manifest"])

    def tagged(self, id: str) -> str:
        """When the image last got a name; "" if never."""
        rows = self._db.rows("SELECT tagged FROM image WHERE id=?", (id,))
        return str(rows[0]["tagged"]) if rows else ""

    def names(self, id: str) -> tuple[str, ...]:
        rows = self._db.rows("SELECT name FROM image_name WHERE image=? ORDER BY name", (id,))
        return tuple(row["name"] for row in rows)

    def tags_of(self, ref: str) -> list[tuple[str, str]]:
        """(image id, name) of the name, or of all tags of a repository; none for an id."""
        if self.has(ref):
            return []
        try:
            name = parse(ref)
        except InvalidSpec:
            return []
        if name.digest:
            return []
        rows = self._db.rows("SELECT name, image FROM image_name ORDER BY name")
        return [
            (str(row["image"]), str(row["name"]))
            for row in rows
            if str(row["name"]) == name.name
            or (not name.tag and str(row["name"]).rpartition(":")[0] == name.repository)
        ]

    def chosen(self, refs: Sequence[str]) -> dict[str, list[str]]:
        """Ids of the images to archive, with the names to include: none for an id, all tags for a
        repository's name.  NotFound."""
        found: dict[str, list[str]] = {}
        for ref in refs:
            for id, name in self.tags_of(ref) or [(self._typed(ref), "")]:
                names = found.setdefault(id, [])
                if name and name not in names:
                    names.append(name)
        return found

    def _typed(self, ref: str) -> str:
        """The image to save.  NotFound in the words that Docker has for each form."""
        try:
            return self.find(ref)
        except NotFound:
            name = parse(ref)
            text = (
                "reference does not exist" if name.tag or name.digest else f"No such image: {ref}"
            )
            raise NotFound(text) from None

    # changing

    def atomically(self) -> AbstractContextManager[None]:
        """All changes inside are made, or none."""
        return self._db.transaction()

    def add(
        self,
        id: str,
        manifest: str,
        names: Sequence[Reference],
        parent: str = "",
        boot: str = "",
    ) -> None:
        """Add an image, or names and a parent to an existing one, atomically.

        `boot`: of the host, if the image's files may be in memory only.
        """
        with self._db.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO image (id, manifest, added, boot) VALUES (?, ?, ?, ?)",
                (id, manifest, rfc3339(), boot),
            )
            self._db.execute("UPDATE image SET deleted=0 WHERE id=?", (id,))
            if parent:
                self._db.execute("UPDATE image SET parent=? WHERE id=?", (parent, id))
            for name in names:
                self.name(name, id)

    def name(self, name: Reference, id: str) -> None:
        """Give the image a name; an image that has it loses it."""
        if name.digest:
            raise InvalidSpec("refusing to create a tag with a digest reference")
        if name.repository == "sha256":
            raise InvalidSpec("refusing to create an ambiguous tag using digest algorithm as name")
        with self._db.transaction():
            self._db.execute("INSERT OR REPLACE INTO image_name VALUES (?, ?)", (name.name, id))
            self._db.execute("UPDATE image SET tagged=? WHERE id=?", (rfc3339(), id))

    def set_parent(self, id: str, parent: str) -> None:
        self._db.execute("UPDATE image SET parent=? WHERE id=?", (parent, id))

    def untag(self, *names: str) -> None:
        """Remove names, atomically."""
        with self._db.transaction():
            for name in names:
                self._db.execute("DELETE FROM image_name WHERE name=?", (name,))

    def remove(self, id: str) -> None:
        """Remove an image with all its names."""
        self._db.execute("DELETE FROM image WHERE id=?", (id,))

    # what a power cut leaves

    def unsynced(self) -> list[str]:
        """Ids of images whose files may be in memory only, or were lost with it."""
        return [str(row["id"]) for row in self._db.rows("SELECT id FROM image WHERE boot != ''")]

    def synced(self, ids: Sequence[str]) -> None:
        """Their files are on the disk."""
        with self._db.transaction():
            for id in ids:
                self._db.execute("UPDATE image SET boot='' WHERE id=?", (id,))

    def drop_lost(self, boot: str) -> int:
        """Remove images that another boot of the host left unsynced; their number."""
        return self._db.execute("DELETE FROM image WHERE boot NOT IN ('', ?)", (boot,))

    def flush(self) -> None:
        """Bring the rows to the disk."""
        self._db.flush()

    def keep_deleted(self, id: str) -> None:
        """Remove its names, and hide it: containers need its layers."""
        with self._db.transaction():
            self._db.execute("DELETE FROM image_name WHERE image=?", (id,))
            self._db.execute("DELETE FROM image_digest WHERE image=?", (id,))
            self._db.execute("UPDATE image SET deleted=1, parent='' WHERE id=?", (id,))
