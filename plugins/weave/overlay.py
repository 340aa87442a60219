"""A host's whole part in an overlay, sans-IO: what the overlay's process is a shell around.

    overlay = Overlay(identity=..., crypto=..., random=..., settings=..., boot=..., now=now)
    step = overlay.start(rows, now)     # table -> key -> value: what all steps have persisted
    step = overlay.prime(now)           # launched without peers
    step = overlay.connect(Address("192.0.2.7", 6783), now)
    step = overlay.receive(datagram, source, now)
    step = overlay.tick(now)            # at overlay.deadline() at the latest

Of every step first all of `persist` is written, in one transaction, then datagrams are sent (those
that are `whole` with IPv4's DF), then events are handed out, in order; then comes the next call.
Events:

    planes.PeerPath, PeerGone, Accept, AcceptNoMore, ProbeVxlan, TableChanged,
    MembersChanged, events.RelayedData      for those who carry data, and for DNS
    local.Granted, requests.Refused         the answer to `allocate` and `claim`, by ticket
    local.AddressLost                       an endpoint's address is another host's by now
    holder.Fenced                           whether endpoints of this host have to be cut off
    removal.Removed                         the answer to `remove_peer` and `leave`
    membership.WeAreRemoved                 this host has to be reset
    events.Cloned, taken.InUse              a copy of this host's state is in use elsewhere
    others                                  of use for logs only

`now`: seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME); it never goes back
but with another `boot`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from netkit.errors import InvalidSpec, NoRoom, NotFound, StoreError
from plugins.weave import local, overview
from plugins.weave.allocation import Allocation
from plugins.weave.core import TABLES as CORE_TABLES
from plugins.weave.crypto import Crypto, Random
from plugins.weave.data_plane import DataPlane
from plugins.weave.identity import Identity
from plugins.weave.local import Endpoint, Name, Network, Value
from plugins.weave.reactions import OURSELVES
from plugins.weave.record import Kind
from plugins.weave.settings import Settings
from plugins.weave.statements import encode
from plugins.weave.status import Status
from plugins.weave.step import NOTHING, Address, Change, Step
from plugins.weave.wire import WireError

TARGETS: Final = "weave_target"
"""Rows: "HOST PORT" -> the name that a user gave for it."""
TABLES: Final = (*CORE_TABLES, TARGETS)
GRAIN: Final = 0.05
"""Seconds between two looks at all paths at least."""
DAMAGED: Final = (
    "what this host keeps of the overlay is damaged ({}): `netkit weave reset` makes it a new peer"
)


class Overlay(Allocation, DataPlane):
    """One thread uses it.  What a command refuses it refuses with an error of `netkit.errors`, and
    nothing has changed then.  About addresses: `allocation`; for who carries data: `data_plane`."""

    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random, settings: Settings,
        boot: bytes, now: float,
    ) -> None:  # fmt: skip
        """See `parts.Parts`."""
        super().__init__(
            identity=identity, crypto=crypto, random=random, settings=settings, boot=boot, now=now
        )
        self._targets: dict[Address, str] = {}
        self._looked = float("-inf")

    # -- life ------------------------------------------------------------------------------------

    def start(self, rows: Mapping[str, Mapping[bytes, bytes]], now: float) -> Step:
        """Once, before all else.  StoreError: rows are damaged, so that this host has to become a
        new peer."""
        try:
            step = self.node.start(rows, now)
        except WireError as error:
            raise StoreError(DAMAGED.format(error)) from None
        self.networks.read()
        for key, name in sorted(rows.get(TARGETS, {}).items()):
            where = _target(key)
            if where is not None:
                self._targets[where] = name.decode(errors="replace")
                if not self._is_ours(where):
                    step += self.node.connect(where, now)
        return self.reactions.settle(step, now)

    def receive(self, datagram: bytes, source: Address, now: float) -> Step:
        """Any UDP payload of the port but data (type 6), by anybody; it never raises."""
        step = self.node.receive(datagram, source, now)
        return NOTHING if step is NOTHING else self.reactions.settle(step, now)

    def tick(self, now: float) -> Step:
        step = self.node.tick(now)
        self._looked = now
        probes = self.carriers.tick(now)
        return self.reactions.settle(step + self.reactions.send(probes, now), now)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity: never.  Ask anew after every call."""
        return min(self.node.deadline(), max(self.carriers.deadline(), self._looked + GRAIN))

    # -- peers -----------------------------------------------------------------------------------

    def connect(self, where: Address, now: float, name: str = "") -> Step:
        """Add a target, which is tried for ever; `name`: what the user wrote for it."""
        if not _numeric(where):
            raise InvalidSpec(f"no address and port of a peer: {where}")
        if len(self._targets) >= MOST_TARGETS and where not in self._targets:
            raise NoRoom(f"there are {MOST_TARGETS} targets already")
        self._targets[where] = name[:253]
        if self._is_ours(where):
            return Step(persist=(Change(TARGETS, _row(where), name[:253].encode()),))
        step = Step(persist=(Change(TARGETS, _row(where), name[:253].encode()),))
        return self.reactions.settle(step + self.node.connect(where, now), now)

    def _is_ours(self, where: Address) -> bool:
        """Whether a target is this host, which is listed in commands that are the same on all."""
        if where not in self.settings.addresses:
            return False
        self.reactions.failures[where] = OURSELVES
        return True

    def forget(self, where: Address, now: float) -> Step:
        """Drop a target; a session with it stays as long as it is of use.  NotFound."""
        if self._targets.pop(where, None) is None:
            raise NotFound(f"{where} is no target of this host")
        step = Step(persist=(Change(TARGETS, _row(where), None),))
        return self.reactions.settle(step + self.node.forget(where, now), now)

    def targets(self) -> dict[Address, str]:
        """With the names that were given for them."""
        return dict(self._targets)

    # -- what netkitd says of this host ----------------------------------------------------------

    def put(self, value: Value, now: float) -> Step:
        """Add or replace a network, an endpoint (`expose`: the host's own) or a name (`dns-add`).

        InvalidSpec, NoRoom.  Conflict: an address of an endpoint, outside of what the overlay gives
        out, is a live one's of another host.
        """
        kind, key, written = self._record(value)
        if isinstance(value, Endpoint):
            for address in value.addresses:
                self._free(value.network, address)
        if self._said() >= MOST_LOCAL and not self._told(kind, key):
            raise NoRoom(
                f"a host announces {MOST_LOCAL} networks, endpoints and names at most"
            )
        return self.reactions.settle(self.node.put(kind, key, written, now), now)

    def delete(self, kind: type[Value], key: bytes, now: float) -> Step:
        """What has that id, if there is something.  Addresses stay until `release`."""
        return self.reactions.settle(self.node.delete(local.KINDS[kind], key, now), now)

    def resync(
        self, now: float, *, networks: Iterable[Network], endpoints: Iterable[Endpoint],
        names: Iterable[Name],
    ) -> Step:  # fmt: skip
        """This is all there is, exactly.  InvalidSpec, NoRoom."""
        written: dict[Kind, dict[bytes, bytes]] = {
            Kind.NETWORK: {}, Kind.ENDPOINT: {}, Kind.NAME: {},
        }  # fmt: skip
        values: list[Value] = [*networks, *endpoints, *names]
        for value in values:
            kind, key, content = self._record(value)
            written[kind][key] = content
        if sum(len(records) for records in written.values()) > MOST_LOCAL:
            raise NoRoom(
                f"a host announces {MOST_LOCAL} networks, endpoints and names at most"
            )
        step = NOTHING
        for each, records in written.items():  # what is gone first: there may be no room else
            stays = {key: value for key, value in records.items() if self._told(each, key)}
            step += self.node.resync(each, stays, now)
        for each, records in written.items():
            step += self.node.resync(each, records, now)
        return self.reactions.settle(step, now)

    # -- names -----------------------------------------------------------------------------------

    def lookup(self, name: str, network: bytes | None = None) -> list[str]:
        """Addresses, IPv4 and IPv6, another one first each time; [] also for what is no name."""
        return self.node.names.lookup(name, network)

    def reverse(self, address: str) -> list[str]:
        """Full names of an address."""
        try:
            return self.node.names.reverse(address)
        except ValueError:
            return []

    # -- looking ---------------------------------------------------------------------------------

    def status(self, now: float) -> Status:
        """All that `weave status`, `status peers | connections | targets | dns | ipam` and `report`
        show."""
        return overview.status(self, now)

    def _said(self) -> int:
        """Networks, endpoints and names that others are sent, or, where they are few, more."""
        records = self.node.mesh.records
        replica = records.replica(self.me)
        if replica is not None and len(replica.live) < MOST_LOCAL:
            return len(replica.live)
        return sum(1 for kind in local.KINDS.values() for _ in records.of(self.me, kind))

    def _told(self, kind: Kind, key: bytes) -> bool:
        return self.node.mesh.records.get(self.me, kind, key) is not None

    def _record(self, value: Value) -> tuple[Kind, bytes, bytes]:
        kind, key, written = local.record_of(value)
        if isinstance(value, Endpoint):
            written = encode(self.reactions.shown(value.statement()))
        return kind, key, written


MOST_TARGETS: Final = 256
MOST_LOCAL: Final = 3000
"""Endpoints, networks and names of one host: records of one peer are 4096 in all, of which up to
512 say that peers are forgotten, and others who is suspect or removed."""


def _numeric(where: Address) -> bool:
    try:
        ip_address(where.host)
    except ValueError:
        return False
    return 0 < where.port < 2**16


def _row(where: Address) -> bytes:
    return f"{where.host} {where.port}".encode()


def _target(row: bytes) -> Address | None:
    host, _, port = row.decode(errors="replace").partition(" ")
    where = Address(host, int(port) if port.isascii() and port.isdigit() else 0)
    return where if _numeric(where) else None
