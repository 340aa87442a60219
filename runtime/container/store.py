"""Store containers: documents in SQLite, objects in memory; find them by id, name, prefix."""

from __future__ import annotations

import threading

import msgspec

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.store import Database, Kind
from runtime import limits
from runtime.container.errors import BeingRemoved, NameTaken, NotRunning, Paused
from runtime.container.links import of as links_of
from runtime.container.model import Container
from runtime.container.sharing import share_strings
from runtime.footprint import Footprint

_TABLES = [
    "CREATE TABLE container (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, doc BLOB NOT NULL)"
]

CONTAINER = Kind("container", "container", "start the version of netkitd that wrote it")


class ContainerStore:
    """Reads take no lock: they see objects as operations change them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.migrate("containers", _TABLES)
        self._lock = threading.Lock()
        self._claimed: set[str] = set()  # names of containers about to be added
        rows = self._db.rows("SELECT id, name, doc FROM container")
        found = self._db.readable(rows, msgspec.json.Decoder(Container).decode, CONTAINER)
        self._by_id = {c.id: c for c in found}
        for c in found:
            share_strings(c)
        self._ids = {str(row["name"]): str(row["id"]) for row in rows}
        # Names by id of rows that cannot be read (e.g. written by a newer version): their files and
        # networks are kept, and their names stay taken.
        self.unreadable = {id: n for n, id in self._ids.items() if id not in self._by_id}
        self._relating = {c.id for c in self._by_id.values() if _relates(c)}
        self._footprint = Footprint("the configuration of a container", "remove containers")
        for row in rows:
            if row["id"] in self._by_id:
                self._footprint.note(str(row["id"]), bytes(row["doc"]))

    def all(self) -> list[Container]:
        return sorted(self._by_id.copy().values(), key=lambda c: c.created, reverse=True)

    def relating(self) -> list[Container]:
        """List those that name other containers, by links or as their network; newest first.

        Perhaps also some that did before.  Few do: a start or a stop looks at these, not at all.
        """
        found = (self._by_id.get(id) for id in self._relating.copy())
        return sorted(filter(None, found), key=lambda c: c.created, reverse=True)

    def find(self, ref: str) -> Container:
        # Docker's order: id, name, link, unique prefix of an id.
        name = ref.removeprefix("/")
        c = self._by_id.get(ref) or self._by_id.get(self._ids.get(name, ""))
        if c or (c := self._linked(name)):
            return c
        hits = [c for id, c in self._by_id.copy().items() if ref and id.startswith(ref)]
        if len(hits) > 1:
            raise InvalidSpec(f"multiple IDs found with provided prefix: {ref}")
        if not hits:
            raise NotFound(f"No such container: {ref}")
        return hits[0]

    def _linked(self, name: str) -> Container | None:
        """The child of the link PARENT/ALIAS."""
        parent, slash, alias = name.partition("/")
        c = self._by_id.get(self._ids.get(parent, "")) if slash else None
        return self._by_id.get(links_of(c).get(alias, "")) if c else None

    def find_running(self, ref: str) -> Container:
        """Find a running or paused container; else NotRunning or Conflict."""
        c = self.find(ref)
        if c.state.status == "restarting":
            raise Conflict(f"Container {c.id} is restarting, wait until the container is running")
        if not c.state.alive:
            raise NotRunning(c.id)
        return c

    def find_whole(self, ref: str, what: str) -> Container:
        """Find a container that has all its files; else BeingRemoved: one cannot `what` it."""
        c = self.find(ref)
        if c.state.status in {"removing", "dead"}:
            raise BeingRemoved(c.id, what, c.state.status)
        return c

    def find_unpaused(self, ref: str) -> Container:
        """Find a container that runs and is not paused; else as `running`, or Paused."""
        c = self.find_running(ref)
        if c.state.status == "paused":
            raise Paused(c.id)
        return c

    def get(self, id: str) -> Container | None:
        return self._by_id.get(id)

    def add(self, c: Container) -> None:
        """Add a container.  NameTaken if another one has the name; errors of `admit`."""
        with self._lock:
            if holder := self._ids.get(c.name):
                raise NameTaken(c.name, holder)
            self.admit(c)
            try:
                self._db.execute(
                    "INSERT INTO container VALUES (?, ?, ?)", (c.id, c.name, msgspec.json.encode(c))
                )
            except BaseException:
                self._footprint.release(c.id)
                raise
            share_strings(c)
            self._by_id[c.id] = c
            self._ids[c.name] = c.id
            self._note_relations(c)

    def admit(self, c: Container) -> None:
        """Check a client's change before it is saved: InvalidSpec or NoRoom beyond memory bounds.

        If it is not saved after all, the next `save` corrects the accounting.
        """
        self._footprint.take(
            c.id,
            msgspec.json.encode(c),
            one=limits.CONTAINER_BYTES,
            all=limits.CONTAINERS_BYTES,
        )

    def claim(self, name: str) -> bool:
        """Keep a generated name from others that are generated meanwhile; False if it is in use.

        `unclaim` is due, once the container has been added or not.
        """
        with self._lock:
            if name in self._ids or name in self._claimed:
                return False
            self._claimed.add(name)
            return True

    def unclaim(self, name: str) -> None:
        with self._lock:
            self._claimed.discard(name)

    def save(self, c: Container) -> None:
        document = msgspec.json.encode(c)
        self._db.execute("UPDATE container SET doc=? WHERE id=?", (document, c.id))
        self._footprint.note(c.id, document)
        self._note_relations(c)

    def flush(self) -> None:
        """What was saved survives a power cut from here on.  StoreError."""
        self._db.flush()

    def rename(self, c: Container, name: str) -> None:
        with self._lock:
            if (holder := self._ids.get(name)) and holder != c.id:
                raise NameTaken(name, holder)
            old, c.name = c.name, name
            try:
                self._db.execute(
                    "UPDATE container SET name=?, doc=? WHERE id=?",
                    (name, msgspec.json.encode(c), c.id),
                )
            except BaseException:
                c.name = old
                raise
            self._ids.pop(old, None)
            self._ids[name] = c.id

    def remove(self, c: Container) -> None:
        with self._lock:
            self._db.execute("DELETE FROM container WHERE id=?", (c.id,))
            self._by_id.pop(c.id, None)
            self._ids.pop(c.name, None)
            self._relating.discard(c.id)
            self._footprint.release(c.id)

    def _note_relations(self, c: Container) -> None:
        if _relates(c) and c.id in self._by_id:
            self._relating.add(c.id)


def _relates(c: Container) -> bool:
    return bool(links_of(c)) or c.host_config.network_of is not None
