"""Attachments as rows: which network, container and interface name ADD was called with."""

from __future__ import annotations

import msgspec

from netkit.spec import PortSpec
from netkit.store import Database, Kind

PENDING, READY = "pending", "ready"
KIND = Kind("CNI attachment", "cni_attachments", "remove its container")
TABLES = (
    """
    CREATE TABLE cni_attachments (id TEXT PRIMARY KEY, container TEXT NOT NULL,
        name TEXT NOT NULL, state TEXT NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX cni_attachments_container ON cni_attachments (container);
    CREATE INDEX cni_attachments_name ON cni_attachments (name)
    """,
)


class Attachment(msgspec.Struct, kw_only=True, frozen=True):
    """One ADD.  `name` is that of the configuration, `network` the id of netkit's network."""

    container: str
    name: str
    ifname: str
    network: str
    sandbox: str
    ports: tuple[PortSpec, ...] = ()  # that this ADD asked to publish
    state: str = PENDING

    @property
    def id(self) -> str:
        return f"{self.container}/{self.ifname}/{self.name}"


_json = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Attachment).decode


class AttachmentStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("cni", TABLES)

    def save(self, each: Attachment) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO cni_attachments VALUES (?, ?, ?, ?, ?)",
            (each.id, each.container, each.name, each.state, _json.encode(each)),
        )

    def delete(self, each: Attachment) -> None:
        self._db.execute("DELETE FROM cni_attachments WHERE id=?", (each.id,))

    def of_container(self, container: str) -> list[Attachment]:
        return self._where("container=?", container)

    def of_name(self, name: str) -> list[Attachment]:
        """Those by configurations of this name."""
        return self._where("name=?", name)

    def all(self) -> list[Attachment]:
        return self._where("?=1", 1)

    def _where(self, condition: str, value: object) -> list[Attachment]:
        rows = self._db.rows(
            f"SELECT id, doc FROM cni_attachments WHERE {condition} ORDER BY id", (value,)
        )
        return self._db.readable(rows, _decode, KIND)
