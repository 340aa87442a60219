"""Store of volumes: documents in SQLite, and in memory."""

from __future__ import annotations

import msgspec

from netkit.store import Database, Kind
from runtime import limits
from runtime.footprint import Footprint
from runtime.volumes.model import Volume

_TABLES = ["CREATE TABLE volume (name TEXT PRIMARY KEY, doc BLOB NOT NULL)"]

VOLUME = Kind("volume", "volume", "start the version of netkitd that wrote it", key="name")


class VolumeStore:
    """Callers serialize changes; reads take no lock."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.migrate("volumes", _TABLES)
        rows = self._db.rows("SELECT name AS id, doc FROM volume")
        decoder = msgspec.json.Decoder(Volume)
        self._volumes = {v.name: v for v in self._db.readable(rows, decoder.decode, VOLUME)}
        # Rows that cannot be read (e.g. written by a newer version): their directories stay.
        self.unreadable = {str(row["id"]) for row in rows} - self._volumes.keys()
        self._footprint = Footprint("the configuration of a volume", "remove volumes")
        for row in rows:
            if row["id"] in self._volumes:
                self._footprint.note(str(row["id"]), bytes(row["doc"]))

    def all(self) -> list[Volume]:
        return list(self._volumes.copy().values())

    def get(self, name: str) -> Volume | None:
        return self._volumes.get(name)

    def save(self, volume: Volume) -> None:
        """Add or replace; InvalidSpec or NoRoom beyond memory bounds."""
        document = msgspec.json.encode(volume)
        bounds = {"one": limits.VOLUME_BYTES, "all": limits.VOLUMES_BYTES}
        self._footprint.take(volume.name, document, **bounds)
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO volume VALUES (?, ?)", (volume.name, document)
            )
        except BaseException:
            if volume.name not in self._volumes:
                self._footprint.release(volume.name)
            raise
        self._volumes[volume.name] = volume

    def flush(self) -> None:
        """What was saved survives a power cut from here on.  StoreError."""
        self._db.flush()

    def remove(self, name: str) -> None:
        self._db.execute("DELETE FROM volume WHERE name=?", (name,))
        self._volumes.pop(name, None)
        self._footprint.release(name)
