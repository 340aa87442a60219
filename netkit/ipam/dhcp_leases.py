"""Leases from DHCP servers for endpoints: acquired, renewed, and released with them.

A lease is written down before it is used, with the link it is on, so that a netkit that starts
again goes on renewing it.  One whose endpoint was removed, however, is released.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from typing import Protocol

import msgspec

from netkit import threads
from netkit.driver import Segment
from netkit.errors import Conflict, InUse, KernelError
from netkit.ipam.dhcp.client import Client, Lease, Stage
from netkit.ipam.dhcp.message import Datagram
from netkit.spec import EndpointRecord
from netkit.store import Database, Kind

PATIENCE = 15.0  # seconds for a lease; servers that ping first take three
RENEWAL = 4.0  # seconds to wait for the answer to one request for more time
OFFERS = 3  # addresses in use by another host, until we give up
TABLES = ("CREATE TABLE dhcp_leases (endpoint TEXT PRIMARY KEY, doc BLOB NOT NULL) WITHOUT ROWID",)
LEASE = Kind(
    "DHCP lease of endpoint",
    "dhcp_leases",
    "restart its container, or the address is lost when the lease ends",
    key="endpoint",
)

log = logging.getLogger(__name__)


class DhcpTransport(Protocol):
    """Send and receive DHCP on the links of a host."""

    def exchange(self, link: str, client: Client, seconds: float) -> None:
        """Exchange messages until the client is bound, has lost its lease, or the time is over."""
        ...

    def send(self, link: str, d: Datagram) -> None: ...


class NoWire:
    """A host without DHCP."""

    def exchange(self, link: str, client: Client, seconds: float) -> None:
        return None

    def send(self, link: str, d: Datagram) -> None:
        return None


class StoredLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease with what its renewal needs."""

    endpoint: str
    link: str
    mac: str
    hostname: str
    lease: Lease


_held = msgspec.json.Decoder(StoredLease)


class DhcpLeases:
    """Thread-safe.  `on_lost` is called, on a thread of ours, with an endpoint whose lease expired,
    and again a little later if it raises.

    `now` is of a clock that goes on while netkit does not run, and begins anew with the host:
    CLOCK_BOOTTIME.  Not to be called within a transaction.
    """

    def __init__(
        self,
        database: Database,
        wire: DhcpTransport,
        *,
        now: Callable[[], float],
        random: Callable[[int], int],
        lost: Callable[[str], None] = lambda endpoint: None,
    ) -> None:
        database.migrate("dhcp", TABLES)
        self._db = database
        self._wire = wire
        self._now = now
        self._random = random
        self.on_lost = lost
        self._clients: dict[str, Client] = {}
        self._failing: dict[str, str] = {}  # by endpoint, so that a reason is logged once
        self._wake = threading.Condition()
        self._closed = False
        self._stirred = False  # there is something new to look at
        self._thread: threading.Thread | None = None

    def acquire(
        self,
        record: EndpointRecord,
        segment: Segment,
        occupied: Callable[[IPv4Address], str],
    ) -> Lease:
        """Acquire a lease for a pending endpoint.  Blocks up to PATIENCE seconds.

        `occupied` finds addresses in use; such a one is declined.  KernelError if no server
        answers, InUse if a static address cannot be had.
        """
        requested = record.spec.ip
        for _ in range(OFFERS):
            client = self._client(record.mac, record.owner_name, requested=requested)
            self._wire.exchange(segment.link, client, PATIENCE)
            lease = client.lease
            if lease is None:
                raise KernelError(
                    f"no DHCP server on {segment.link} gave an address in {PATIENCE:g} s"
                )
            address = IPv4Interface(lease.address).ip
            if who := occupied(address):
                log.warning(
                    "DHCP on %s gave %s, which %s has: declined", segment.link, address, who
                )
                self._send(segment.link, client.decline())
                continue
            if requested and str(address) != requested:
                self._send(segment.link, client.release())
                raise InUse(f"the DHCP server does not give {requested}, but {address}")
            try:
                self._keep(record, segment.link, lease, client)
            except BaseException:
                self._send(segment.link, client.release())
                raise
            return lease
        raise Conflict(f"DHCP on {segment.link} gave {OFFERS} addresses that others have")

    def release_orphans(self) -> None:
        """Release the leases of removed endpoints."""
        with self._db.transaction():  # rows that were not read through stay, for the next time
            rows = self._db.rows(
                "DELETE FROM dhcp_leases WHERE endpoint NOT IN (SELECT id FROM endpoints) "
                "RETURNING endpoint AS id, doc"
            )
            over = self._db.readable(rows, _held.decode, LEASE)
        for held in over:
            with self._wake:
                self._clients.pop(held.endpoint, None)
            if held.lease.until and held.lease.until <= self._now():
                continue  # it is not ours any more
            client = self._client(held.mac, held.hostname, lease=held.lease)
            self._send(held.link, client.release())

    def start(self) -> None:
        """Start renewing the stored leases."""
        if self._all():
            self._wake_renewal_thread()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(RENEWAL + 1)

    def _client(
        self, mac: str, hostname: str, *, requested: str = "", lease: Lease | None = None
    ) -> Client:
        return Client(
            mac,
            hostname=hostname,
            now=self._now(),
            random=self._random,
            requested=requested,
            lease=lease,
        )

    def _keep(self, record: EndpointRecord, link: str, lease: Lease, client: Client) -> None:
        held = StoredLease(
            endpoint=record.id, link=link, mac=record.mac, hostname=record.owner_name, lease=lease
        )
        self._db.execute(
            "INSERT INTO dhcp_leases VALUES (?, ?)", (held.endpoint, msgspec.json.encode(held))
        )
        with self._wake:
            self._clients[held.endpoint] = client
        self._wake_renewal_thread()

    def _all(self) -> list[StoredLease]:
        """List stored leases, but for unreadable ones, which expire."""
        rows = self._db.rows("SELECT endpoint AS id, doc FROM dhcp_leases ORDER BY endpoint")
        return self._db.readable(rows, _held.decode, LEASE)

    def _send(self, link: str, d: Datagram | None) -> None:
        if d is not None:
            what = "giving back a DHCP lease, which now ends by itself,"
            threads.attempt(what, lambda: self._wire.send(link, d))

    # -- renewing, on a thread of its own ---------------------------------------

    def _wake_renewal_thread(self) -> None:
        with self._wake:
            if self._thread is None and not self._closed:
                self._thread = threads.looping("netkit-dhcp", self._loop, over=lambda: self._closed)
                self._thread.start()
            self._stirred = True
            self._wake.notify()

    def _loop(self) -> None:
        while True:
            due = [self._attempted(held) for held in self._all()]
            waits = [d for d in due if d is not None]
            if not self._rest(min(waits) if waits else None):
                return

    def _rest(self, until: float | None) -> bool:
        """Wait until a lease is due; False once closed."""
        with self._wake:
            if not self._closed and not self._stirred:
                self._wake.wait(None if until is None else max(until - self._now(), 0.05))
            self._stirred = False
            return not self._closed

    def _attempted(self, held: StoredLease) -> float | None:
        """As `_renewed`; what fails for one lease is reported, and tried again soon."""
        try:
            return self._renewed(held)
        except Exception as error:  # noqa: BLE001  others are renewed all the same
            if self._failing.get(held.endpoint) != str(error):
                threads.report(f"renewing the lease of {held.lease.address}", error)
            self._failing[held.endpoint] = str(error)
            return self._now() + RENEWAL

    def _renewed(self, held: StoredLease) -> float | None:
        """Renew the lease if it is due; return the time of the next look."""
        with self._wake:
            if self._closed:
                return None
            client = self._clients.get(held.endpoint)
            if client is None:
                client = self._client(held.mac, held.hostname, lease=held.lease)
                self._clients[held.endpoint] = client
        deadline = client.deadline()
        if client.stage is not Stage.LOST:
            if deadline is None or deadline > self._now():
                return deadline
            self._wire.exchange(held.link, client, RENEWAL)
        if client.stage is Stage.LOST:
            self._ended(held)
            return None
        if client.lease is not None and client.lease != held.lease:
            self._note(held, client.lease)
        self._failing.pop(held.endpoint, None)
        return client.deadline()

    def _ended(self, held: StoredLease) -> None:
        """Disconnect the endpoint from its network; may be repeated, also by the next daemon."""
        now = self._now()
        if not held.lease.until or held.lease.until > now:
            log.error("lease of %s for %s has ended", held.lease.address, held.hostname)
            ended = msgspec.structs.replace(held.lease, until=now, renew=now, rebind=now)
            self._note(held, ended)
        self.on_lost(held.endpoint)
        self._db.execute("DELETE FROM dhcp_leases WHERE endpoint=?", (held.endpoint,))
        self._failing.pop(held.endpoint, None)

    def _note(self, held: StoredLease, lease: Lease) -> None:
        self._db.execute(
            "UPDATE dhcp_leases SET doc=? WHERE endpoint=?",  # unless it was released meanwhile
            (msgspec.json.encode(msgspec.structs.replace(held, lease=lease)), held.endpoint),
        )
