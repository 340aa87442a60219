"""Global networks on this host: materialise the cluster's, share this host's endpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import NamedTuple

from netkit.errors import NetkitError
from netkit.locks import KeyedLocks
from netkit.model import Key, Resource
from netkit.network.context import NetworkContext
from netkit.network.endpoint import static_address, validate_endpoint_spec
from netkit.network.lifecycle import NetworkLifecycle
from netkit.network.registry import NetworkRegistry
from netkit.network.remote import SCOPE_GLOBAL, Cluster, RemoteState
from netkit.network.sandbox import SandboxController
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord

log = logging.getLogger(__name__)


class HeldAddress(NamedTuple):
    network: str  # its id
    address: str  # without prefix length
    sandbox: str  # its id


class GlobalNetworks:
    """This host's side of `cluster.Following`; used by one thread at a time."""

    def __init__(
        self,
        parts: NetworkContext,
        lifecycle: NetworkLifecycle,
        sandboxes: SandboxController,
        locks: KeyedLocks,
    ) -> None:
        self._p = parts
        self._lifecycle = lifecycle
        self._sandboxes = sandboxes
        self._locks = locks
        self._owed: dict[str, dict[Key, Resource]] = {}  # what may be there and should not

    # the networks

    def present(self) -> dict[str, NetworkRecord]:
        """Global networks this host has, by id."""
        return {e.record.id: e.record for e in self._p.registry.all() if e.config.shared}

    def exists(self, id: str) -> bool:
        """Whether there is one, be it pending or leaving."""
        return self._p.registry.exists(id)

    def adopt(self, record: NetworkRecord) -> None:
        """Create a network here that another host created.  Conflict, Forbidden if it can't."""
        self._lifecycle.adopt(record)

    def remove(self, id: str) -> None:
        """Remove one that was removed elsewhere.  Forbidden while a container of ours is on it."""
        try:
            self._lifecycle.abandon(self._p.registry.get(id), self._owed.get(id, {}))
        finally:
            if id not in self.present():
                self._owed.pop(id, None)

    # what is around them

    def set_remote_state(self, id: str, around: RemoteState) -> None:
        """Update a network's tunnels and flows to the other hosts and endpoints in `around`."""
        p = self._p
        before = p.registry.remote_state.of(id)
        if around == before and id not in self._owed:
            return
        with self._locks.hold(id):
            if id not in self.present():
                return
            changed = {*before.neighbours} ^ {*around.neighbours}
            if id in self._owed:  # the last time failed: what was changed then may be unknown
                changed |= {*around.neighbours}
            old = {**self._owed.get(id, {}), **p.desired_state.of_network(p.registry.get(id))}
            self._owed[id] = old
            new = p.registry.set_remote_state(id, around)
            records = [n.record() for n in sorted(changed, key=lambda n: n.id)]
            p.names.publish(records[:1], ())
            p.converger.converge(Change.of(p.desired_state.of_network(new), old))
            del self._owed[id]
        self._sandboxes.policy_sync.endpoints_changed(records, own=False)

    def remote_endpoints(self) -> list[EndpointRecord]:
        """List containers of other hosts on global networks."""
        return self._p.registry.remote_state.records()

    # what is ours on them

    def held(self) -> list[HeldAddress]:
        """List the addresses that containers of this host have."""
        rows = self._p.database.rows(
            "SELECT a.network, a.address, a.holder FROM addresses a JOIN networks n "
            "ON n.id = a.network WHERE CASE WHEN json_valid(CAST(n.doc AS TEXT)) "
            "THEN n.doc ->> '$.spec.scope' END = ? "
            "AND a.kind IN ('lease', 'static')",
            (SCOPE_GLOBAL,),
        )
        return [HeldAddress(r["network"], str(ip_address(r["address"])), r["holder"]) for r in rows]

    def endpoints(self) -> list[EndpointRecord]:
        there = self.present()
        return [e for e in self._p.records.of_sandbox(ready=True) if e.network in there]

    def evict(self, network: str, sandbox: str) -> None:
        """Disconnect a container whose address another host has."""
        for record in self._p.records.of_sandbox(network=network, sandbox=sandbox, ready=True):
            log.error(
                "%s loses %s: the cluster gave it to another host's container",
                record.owner_name,
                record.address,
            )
            self._sandboxes.evict(record.id)


@contextmanager
def reserve_in_cluster(
    registry: NetworkRegistry, cluster: Cluster, sandbox: str, wants: Sequence[EndpointSpec]
) -> Iterator[None]:
    """Static addresses on global networks are had of the cluster; inside, they are written down."""
    with ExitStack() as stack:
        for want in wants:
            entry = registry.get(want.network)
            if not want.ip or not entry.config.shared:
                continue
            validate_endpoint_spec(entry, want)
            subnet, address = static_address(entry, want.ip, allocated=want.allocated)
            stack.enter_context(cluster.holding(entry.record.id, sandbox))
            cluster.allocate(entry.record, subnet, sandbox, sandbox[:12], str(address))
        try:
            yield
        except NetkitError:
            cluster.notify_changed()
            raise
