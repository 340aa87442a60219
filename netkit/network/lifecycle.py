"""Create and remove networks: row first, then the kernel, and all undone where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from netkit.errors import Conflict, Foreign, NetkitError, NotFound, nothing_applied
from netkit.ipam.pools import SubnetOverlap
from netkit.locks import KeyedLocks
from netkit.model import State
from netkit.network.config import DOCKER0, NetworkConfig, predefined_networks
from netkit.network.context import NetworkContext
from netkit.network.entry import NetworkEntry
from netkit.network.remote import SCOPE_GLOBAL, Cluster
from netkit.network.restore import stay, undo_later, undo_network
from netkit.network.unreadable_rows import left_by
from netkit.network.validation import wants_any_subnet
from netkit.reconcile.converge import Change
from netkit.spec import NetworkRecord, NetworkSpec

WAYS_ON = (
    "Docker makes a docker0 of its own: beside it, give netkitd another bridge (ip link add nk0 "
    "type bridge && ip addr add 172.30.0.1/16 dev nk0 && ip link set nk0 up; netkitd --bridge nk0) "
    "or no default network (netkitd --bridge none); where Docker was removed, remove its bridge "
    "(ip link del docker0)"
)
SUBNET_ATTEMPTS = 8  # subnets tried that other hosts may have taken first

log = logging.getLogger(__name__)


class NetworkLifecycle:
    """`now_ns`: nanoseconds since the epoch."""

    def __init__(
        self,
        parts: NetworkContext,
        cluster: Cluster,
        locks: KeyedLocks,
        settings: NetworkConfig,
        now_ns: Callable[[], int],
    ) -> None:
        self._parts, self._cluster, self._locks = parts, cluster, locks
        self._settings, self._now_ns = settings, now_ns

    def create(self, spec: NetworkSpec) -> NetworkEntry:
        """Create all of it or nothing.  Conflict, Forbidden, AlreadyExists or KernelError."""
        ours_to_choose = not spec.subnets or wants_any_subnet(spec)
        for _ in range(SUBNET_ATTEMPTS):
            try:
                return self._create(spec)
            except SubnetOverlap:  # another host of the cluster chose the same meanwhile
                if not ours_to_choose:
                    raise
        return self._create(spec)

    def _create(self, spec: NetworkSpec, *, builtin: bool = False) -> NetworkEntry:
        self._parts.retries.run_now(spec.name)
        entry = self.pending(spec, builtin=builtin)
        return self._materialise(entry, announce=entry.config.shared)

    def pending(
        self, spec: NetworkSpec, *, builtin: bool = False, dry: bool = False
    ) -> NetworkEntry:
        """Check a new network and store it as pending; `dry` leaves no row of it."""
        p = self._parts
        shared = spec.scope == SCOPE_GLOBAL
        return p.registry.create_pending(
            spec,
            id=f"{p.random(256):064x}",
            created=_rfc3339(self._now_ns()),
            builtin=builtin,
            taken=[cidr for cidr, _ in self._cluster.subnets()] if shared else (),
            dry=dry,
        )

    def adopt(self, record: NetworkRecord) -> NetworkEntry:
        """Create a network here that another host created.  Conflict, Forbidden if it can't."""
        entry = self._parts.registry.create_pending(
            record.spec, id=record.id, created=record.created, chosen=record.chosen
        )
        return self._materialise(entry, announce=False)

    def _materialise(self, entry: NetworkEntry, *, announce: bool) -> NetworkEntry:
        """Make a pending network ready, here and, with `announce`, in the cluster; or undo it."""
        p = self._parts
        try:
            if announce:
                # First: the cluster refuses a name or subnet that another host has taken.
                self._cluster.create(entry.record, entry.config.subnets)
            p.converger.converge(Change.of(p.desired_state.networks([entry])))
            # Last: no caller finds a network that does not exist in the kernel yet.
            p.registry.mark_ready(entry)
        except BaseException as error:
            self._rollback(error, entry, announced=announce)
            raise
        return entry

    def _rollback(self, error: BaseException, entry: NetworkEntry, *, announced: bool) -> None:
        p = self._parts
        try:
            if announced:
                with suppress(NetkitError):  # if it does not answer and has it, we adopt it later
                    self._cluster.remove(entry.record)
            undo_network(p, entry, touched=not nothing_applied(error))
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up network {entry.name}, will try again: {bad}")

    def remove(self, entry: NetworkEntry) -> None:
        """Remove it.  InUse while a container is on it; KernelError leaves it as it was."""
        self._parts.retries.run_now(entry.record.id)
        self._dismantle(entry, announce=entry.config.shared)

    def abandon(self, entry: NetworkEntry, leftovers: State) -> None:
        """Remove a network from this host that was removed elsewhere, with what is left of it.

        Forbidden while a container of this host is on it.
        """
        self._dismantle(entry, announce=False, leftovers=leftovers)

    def _dismantle(
        self, entry: NetworkEntry, *, announce: bool, leftovers: State = MappingProxyType({})
    ) -> None:
        """Remove a ready network, on the host and, with `announce`, in the cluster; or it stays."""
        p = self._parts
        with self._locks.hold(entry.record.id):
            p.registry.mark_removing(entry)
            try:
                if announce:
                    self._cluster.remove(entry.record)
                p.converger.converge(self.removal(entry, leftovers))
            except BaseException as error:
                stay(p, entry, error)
                raise
            try:
                # Nothing of it is on the host any more, so it cannot stay: if this fails, a retry
                # deletes the row.
                p.registry.delete(entry.record.id)
            except Exception as error:
                undo_later(p, entry, error)
                raise

    def removal(
        self, entry: NetworkEntry, leftovers: State = MappingProxyType({})
    ) -> Change:
        """What the removal of a network does to the host, with `leftovers` beside it."""
        p = self._parts
        lost = [entry.config.owner] if p.registry.is_driver_missing(entry) else []
        remains = left_by(p.converger, p.desired_state.prefix, lost)
        return Change.of({}, {**leftovers, **remains, **p.desired_state.of_network(entry)})

    def ensure_predefined(self) -> None:
        """Create or renew bridge, host and none by the settings; not while containers use it."""
        wanted = {spec.name: spec for spec in predefined_networks(self._settings)}
        for name in ("bridge", "host", "none"):
            spec = wanted.get(name)
            entry = self._found(name)
            lost = entry is not None and self._parts.registry.is_driver_missing(entry)
            if entry is not None and (lost or spec is None or not _same(spec, entry.record)):
                if any(r.network == entry.record.id for r in self._parts.records.index()):
                    log.warning("settings of network %s wait: a container is on it", name)
                    continue
                self.remove(entry)
                entry = None
            if entry is None and spec is not None:
                self._create(spec, builtin=True)

    def _found(self, name: str) -> NetworkEntry | None:
        try:
            return self._parts.registry.find(name)
        except NotFound:
            return None


@contextmanager
def foreign_docker0() -> Iterator[None]:
    """Add to a Foreign error what to do about another engine's docker0."""
    try:
        yield
    except Foreign as error:
        if DOCKER0 not in error.found:
            raise
        raise Conflict(f"no default network: {error.found}. {WAYS_ON}") from error


def _same(spec: NetworkSpec, record: NetworkRecord) -> bool:
    """Whether the stored network fits these settings.  A chosen subnet may stay."""
    stored = record.spec
    if record.chosen and not spec.subnets:
        stored = replace(stored, subnets=())
    elif len(spec.subnets) == len(stored.subnets) == 1:
        one, two = spec.subnets[0], stored.subnets[0]
        stored = replace(stored, subnets=(replace(two, gateway=one.gateway or two.gateway),))
        spec = replace(spec, subnets=(replace(one, gateway=one.gateway or two.gateway),))
    return spec == stored


def _rfc3339(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"
