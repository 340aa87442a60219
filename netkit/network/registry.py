"""The networks of this host: checked, given subnets, stored, found."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

import msgspec

from netkit.driver import (
    Driver,
    MultiHost,
    Network,
    Subnet,
    TrafficPolicy,
    Traits,
    traits_of,
)
from netkit.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidSpec,
    NetkitError,
    NotFound,
)
from netkit.ipam.allocator import AddressAllocator
from netkit.ipam.pools import Pool, allocate_subnet, requested_prefix_length
from netkit.model import IPNetwork
from netkit.network.entry import MissingDriver, NetworkEntry, no_driver
from netkit.network.new_network import check_subnet, new_network, requested_subnets
from netkit.network.remote import SCOPE_GLOBAL, RemoteState, RemoteStateStore
from netkit.network.stored_network import claims, refused_by_driver, taken_by_driver
from netkit.network.validation import (
    DHCP,
    HOSTLESS,
    to_subnet_spec,
    validate_network_spec,
    with_gateway,
)
from netkit.spec import NetworkRecord, NetworkSpec
from netkit.store import Database, Kind

TABLES = (
    """
    CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
        doc BLOB NOT NULL) WITHOUT ROWID
    """,
)

UNREADABLE = "unreadable"  # no driver has this name
NETWORK = Kind("network", "networks", "remove it with `netkit net rm {id}`")
_NEVER = "0001-01-01T00:00:00Z"
log = logging.getLogger(__name__)
_record = msgspec.json.Decoder(NetworkRecord)


def _lost(row: sqlite3.Row) -> NetworkRecord:
    """Return a stand-in for a network whose row cannot be read: to list, leave and remove it."""
    spec = NetworkSpec(name=str(row["name"]), driver=UNREADABLE)
    return NetworkRecord(id=str(row["id"]), spec=spec, created=_NEVER)


class Unfinished(NamedTuple):
    """A network whose creation or removal is under way, or was cut short."""

    state: str  # pending or leaving
    entry: NetworkEntry


class _Dry(Exception):
    """Rolls back the transaction of a creation that is only planned."""


class NetworkRegistry:
    def __init__(
        self,
        database: Database,
        addresses: AddressAllocator,
        drivers: Mapping[str, Driver],
        *,
        engine: str,
        pools: Sequence[Pool],
        occupied: Callable[[], Iterable[IPNetwork]],
    ) -> None:
        self._db = database
        self._addresses = addresses
        self._drivers = drivers
        self._engine = engine
        self._pools = pools
        self._occupied = occupied
        self.remote_state = RemoteStateStore(database)
        self.on_change: Callable[[], None] = lambda: None  # a network came, went or was changed
        self._lock = threading.Lock()
        self._changing: frozenset[str] = frozenset()  # replaced, never changed
        self._refused: dict[str, str] = {}  # by id, what was logged
        self._entries: dict[str, NetworkEntry] = {}  # replaced, never changed: readers take no lock
        self._load()

    def _load(self) -> None:
        """Load the stored networks.  Of two with the same claim the newer has it on the host now.

        The older was refused by its driver, and claimed nothing, when the newer was created.
        """
        rows = self._db.rows("SELECT id, name, doc FROM networks WHERE state != 'pending'")
        found = [
            record
            for row in rows
            for record in self._db.readable([row], _record.decode, NETWORK) or [_lost(row)]
        ]
        found.sort(key=lambda r: (r.builtin, r.created), reverse=True)
        claimed: dict[str, str] = {}
        for record in found:
            entry = self._entry(record)
            own = claims(entry.driver, entry.config, entry.policy)
            if both := own & claimed.keys():
                which = min(both)
                why = Conflict(f"{which} belongs to network {claimed[which]}")
                entry = self._degraded(record, why)
            else:
                claimed |= dict.fromkeys(own, entry.name)
            self._publish(entry)

    # finding

    def all(self) -> list[NetworkEntry]:
        return sorted(self._entries.values(), key=lambda e: e.record.created)

    def get(self, id: str) -> NetworkEntry:
        entry = self._entries.get(id)
        if entry is None:
            raise NotFound(f"network {id} not found")
        return entry

    def find(self, ref: str) -> NetworkEntry:
        """By full id, name, unique id prefix; InvalidSpec if several ids begin so."""
        entries = self._entries
        if ref in entries:
            return entries[ref]
        for entry in entries.values():
            if entry.name == ref:
                return entry
        hits = [e for id, e in entries.items() if ref and id.startswith(ref)]
        if len(hits) > 1:
            raise InvalidSpec(
                f"network {ref} is ambiguous ({len(hits)} matches found based on ID prefix)"
            )
        if not hits:
            raise NotFound(f"network {ref} not found")
        return hits[0]

    # making

    def create_pending(
        self,
        spec: NetworkSpec,
        *,
        id: str,
        created: str,
        builtin: bool = False,
        chosen: bool = False,
        taken: Sequence[IPNetwork] = (),
        dry: bool = False,
    ) -> NetworkEntry:
        """Check a network, give it subnets, store it as pending; nothing is on the host yet.

        None of `taken` is chosen; `chosen`: the spec's subnet was chosen, by another host.  `dry`:
        the same checks by the same rows, which are rolled back.
        """
        driver = self.driver(spec)
        spanning = [name for name, d in self._drivers.items() if isinstance(d, MultiHost)]
        validate_network_spec(spec, driver, builtin=builtin, spanning=spanning)
        wanted = requested_subnets(spec, driver)
        net = new_network(id, spec, driver, self._engine)
        policy = driver.policy(net)
        numbered = driver.uses_ipam and (bool(wanted) or spec.ipam_driver != DHCP)
        # Before the transaction: it reads the host's routes, and the database has one connection.
        occupied = [*self._occupied(), *taken] if numbered and not wanted else []
        with suppress(_Dry), self._db.transaction():
            self._check_unique(spec, net, driver, policy, builtin=builtin)
            subnets = self._allocate_subnets(spec, wanted, policy, occupied) if numbered else ()
            record = NetworkRecord(
                id=id,
                spec=replace(spec, subnets=tuple(map(to_subnet_spec, subnets))),
                created=created,
                builtin=builtin,
                chosen=chosen or (numbered and not wanted),
            )
            self._insert(record, subnets)
            if dry:
                raise _Dry
        return NetworkEntry(record, replace(net, subnets=subnets), driver, policy)

    def _insert(self, record: NetworkRecord, subnets: Iterable[Subnet]) -> None:
        self._db.execute(
            "INSERT INTO networks VALUES (?, ?, 'pending', ?)",
            (record.id, record.spec.name, msgspec.json.encode(record)),
        )
        for subnet in subnets:
            self._addresses.add_pool(record.id, subnet)

    def driver(self, spec: NetworkSpec) -> Driver:
        """Return the spec's driver; NotFound lists those installed."""
        if spec.driver not in self._drivers:
            raise no_driver(spec.driver, self._drivers)
        return self._drivers[spec.driver]

    def traits(self, record: NetworkRecord) -> Traits:
        """What its driver declares; the defaults where that is not installed any more."""
        return traits_of(self._drivers.get(record.spec.driver))

    def _check_unique(
        self,
        spec: NetworkSpec,
        net: Network,
        driver: Driver,
        policy: TrafficPolicy | None,
        *,
        builtin: bool,
    ) -> None:
        """Inside the transaction that adds the row, so that of two at the same time one is seen."""
        if self._db.rows("SELECT id FROM networks WHERE name=?", (spec.name,)):
            raise AlreadyExists(f"network with name {spec.name} already exists")
        if traits_of(driver).single_instance and not builtin:
            raise Forbidden(f'only one instance of "{spec.driver}" network is allowed')
        mine = claims(driver, net, policy)
        # Those that come or go as well: what they have on the host is made or removed right now.
        for other in (*self._entries.values(), *(entry for _, entry in self.unfinished())):
            if both := mine & claims(other.driver, other.config, other.policy):
                raise Forbidden(
                    f"cannot create network {spec.name}: {min(both)} belongs to "
                    f"network {other.name}: give this one another"
                )

    def _allocate_subnets(
        self,
        spec: NetworkSpec,
        wanted: Sequence[Subnet],
        policy: TrafficPolicy | None,
        occupied: Sequence[IPNetwork],
    ) -> tuple[Subnet, ...]:
        """Return complete subnets, requested or chosen, with gateways."""
        taken = self._addresses.pools()
        host_address = policy is None or policy.mode not in HOSTLESS
        others = (*self._entries.values(), *(entry for _, entry in self.unfinished()))
        drivers = {each.name: each.record.spec.driver for each in others}
        for subnet in wanted:
            check_subnet(spec, self._drivers[spec.driver], subnet.cidr, taken, drivers)
        if not wanted:
            size = requested_prefix_length(spec.subnets[0]) if spec.subnets else None
            busy = [cidr for cidr, _ in taken] + list(occupied)
            # Other hosts have networks of their own, from the beginning of the same pools.
            last = spec.scope == SCOPE_GLOBAL
            wanted = (Subnet(cidr=allocate_subnet(self._pools, busy, size, last=last)),)
        return tuple(with_gateway(s) if host_address else s for s in wanted)

    def mark_ready(self, entry: NetworkEntry) -> None:
        """Mark it as existing in the kernel: from now on it is found.

        In one transaction, so that `_check_unique` sees it either unfinished or shown.
        """
        with self._db.transaction():
            self._db.execute("UPDATE networks SET state='ready' WHERE id=?", (entry.record.id,))
            self._publish(entry)

    def mark_removing(self, entry: NetworkEntry) -> None:
        """Refuse new endpoints from now on.  Forbidden while one exists."""
        with self._db.transaction():
            self.must_be_unused(entry)
            if not self._db.execute(
                "UPDATE networks SET state='leaving' WHERE id=? AND state='ready'",
                (entry.record.id,),
            ):
                raise NotFound(f"network {entry.name} not found")

    def must_be_unused(self, entry: NetworkEntry) -> None:
        """Raise Forbidden, naming them, while endpoints are on the network."""
        rows = self._db.rows(
            # An endpoint whose row cannot be decoded is on the network as well, without a name.
            "SELECT CASE WHEN json_valid(CAST(doc AS TEXT)) THEN doc ->> 'owner_name' "
            "ELSE '' END AS name, id FROM endpoints WHERE network=? "
            "ORDER BY name",
            (entry.record.id,),
        )
        if rows:
            who = ", ".join(f'name:"{r["name"]}" id:"{r["id"][:12]}"' for r in rows)
            raise Forbidden(f"network {entry.name} has active endpoints ({who})")

    def undo_removing(self, entry: NetworkEntry) -> None:
        """Mark it as ready again, after a failed removal."""
        self._db.execute("UPDATE networks SET state='ready' WHERE id=?", (entry.record.id,))

    def set_remote_state(self, id: str, around: RemoteState) -> NetworkEntry:
        """Store what other hosts have of a global network, and use it from now on."""
        record = self.get(id).record
        self.remote_state.put(id, around)
        entry = self._entry(record)
        self._publish(entry)
        return entry

    def reconfigured(self, entry: NetworkEntry, spec: NetworkSpec) -> NetworkEntry:
        """Return the network with another spec, not stored.  InvalidSpec if its driver refuses."""
        record = msgspec.structs.replace(entry.record, spec=spec)
        around = (
            self.remote_state.of(record.id) if spec.scope == SCOPE_GLOBAL else RemoteState()
        )
        return taken_by_driver(record, around, self._drivers, self._engine)

    def store(self, entry: NetworkEntry) -> None:
        """Store what was changed of a ready network, and use it from now on.  NotFound."""
        row = (msgspec.json.encode(entry.record), entry.record.id)
        if not self._db.execute("UPDATE networks SET doc=? WHERE id=? AND state='ready'", row):
            raise NotFound(f"network {entry.name} not found")
        self._publish(entry)

    def exists(self, id: str) -> bool:
        """Whether there is a row, be it of one pending or leaving."""
        return bool(self._db.rows("SELECT 1 FROM networks WHERE id=?", (id,)))

    def ids(self) -> set[str]:
        """Ids of all rows, in whatever state, readable or not."""
        return {str(row["id"]) for row in self._db.rows("SELECT id FROM networks")}

    def delete(self, id: str) -> None:
        """Delete it with its subnets and addresses; from memory first: it must not look ready."""
        with self._lock:
            self._entries = {k: e for k, e in self._entries.items() if k != id}
        self._db.execute("DELETE FROM networks WHERE id=?", (id,))
        self.on_change()

    def is_driver_missing(self, entry: NetworkEntry) -> bool:
        """Whether its driver is not installed, or refuses it."""
        return isinstance(entry.driver, MissingDriver)

    def refused(self) -> dict[str, str]:
        """Return, by name, why stored networks cannot be used."""
        return {
            e.name: e.driver.reason
            for e in self.all()
            if isinstance(e.driver, MissingDriver) and e.driver.reason
        }

    @property
    def changing(self) -> frozenset[str]:
        """Ids of networks whose stored options are not in the kernel yet: see `changes`."""
        return self._changing

    @contextmanager
    def changes(self, id: str) -> Iterator[None]:
        """A network is being changed: row first, then the kernel; guards leave it alone until then.

        For one thread for each network.
        """
        with self._lock:
            self._changing |= {id}
        try:
            yield
        finally:
            with self._lock:
                self._changing -= {id}

    def unfinished(self) -> list[Unfinished]:
        """List those whose creation or removal was cut short."""
        rows = self._db.rows("SELECT id, state, doc FROM networks WHERE state != 'ready'")
        return [
            Unfinished(str(row["state"]), self._entry(record))
            for row in rows
            for record in self._db.readable([row], _record.decode, NETWORK)
        ]

    def drop_unreadable(self) -> list[str]:
        """Delete unreadable rows of networks cut short in creation or removal; return the names.

        No endpoint is on them.  Their names would stay taken, for no command finds them.
        """
        rows = self._db.rows("SELECT id, name, doc FROM networks WHERE state != 'ready'")
        lost = [r for r in rows if not self._db.readable([r], _record.decode, NETWORK)]
        for row in lost:
            self.delete(str(row["id"]))
        return [str(row["name"]) for row in lost]

    def must_be_ready(self, entry: NetworkEntry) -> None:
        """Raise if endpoints cannot be added; for the transaction that adds one."""
        id = entry.record.id
        if isinstance(entry.driver, MissingDriver) and entry.driver.reason:
            raise Conflict(
                f"network {entry.name} cannot be used: {entry.driver.reason}; remove it, or have "
                "the host and the configuration as they were, and start netkitd again"
            )
        if self.is_driver_missing(entry):
            raise no_driver(entry.config.driver, self._drivers)
        rows = self._db.rows("SELECT 1 FROM networks WHERE id=? AND state='ready'", (id,))
        if not rows:
            raise NotFound(f"network {id} not found")

    def _publish(self, entry: NetworkEntry) -> None:
        with self._lock:
            self._entries = {**self._entries, entry.record.id: entry}
        self.on_change()

    def _entry(self, record: NetworkRecord) -> NetworkEntry:
        """Make the entry of a row; degraded, and logged, where its driver refuses it by now."""
        # Outside: what the database refuses now is not what the driver refuses for good.
        around = (
            self.remote_state.of(record.id) if record.spec.scope == SCOPE_GLOBAL else RemoteState()
        )
        try:
            return taken_by_driver(record, around, self._drivers, self._engine)
        except Exception as error:  # noqa: BLE001  drivers are plugins
            return self._degraded(record, error)

    def _degraded(self, record: NetworkRecord, error: Exception) -> NetworkEntry:
        why = f"driver {record.spec.driver} refuses it: {error}"
        if isinstance(error, Conflict):
            why = str(error)
        elif not isinstance(error, NetkitError):
            why = f"driver {record.spec.driver} fails: {type(error).__name__}: {error}"
        if self._refused.get(record.id) != why:
            log.error(
                "network %s is kept, but cannot be used: %s", record.spec.name, why,
                exc_info=None if isinstance(error, NetkitError) else error,
            )  # fmt: skip
        self._refused[record.id] = why
        return refused_by_driver(record, why, self._engine)
