"""Plans of what would be done with networks, by the planner of the real operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.errors import AlreadyExists, Forbidden
from netkit.ipam.pools import check_overlap
from netkit.locks import KeyedLocks
from netkit.network.context import NetworkContext
from netkit.network.drift import DriftRepair
from netkit.network.driver_options import unread
from netkit.network.entry import NetworkEntry
from netkit.network.lifecycle import NetworkLifecycle
from netkit.network.planned import PlannedNetwork, PlannedRepair
from netkit.network.remote import SCOPE_GLOBAL, Cluster
from netkit.reconcile.converge import Change
from netkit.reconcile.plan import Plan
from netkit.spec import NetworkRecord, NetworkSpec


class NetworkPlans:
    """Implements netkit.network.planned.Plans.  `sandboxes`: the locks of open sandboxes."""

    def __init__(
        self,
        parts: NetworkContext,
        lifecycle: NetworkLifecycle,
        cluster: Cluster,
        sandboxes: KeyedLocks,
    ) -> None:
        self._parts, self._lifecycle = parts, lifecycle
        self._cluster, self._sandboxes = cluster, sandboxes

    def create(self, spec: NetworkSpec) -> PlannedNetwork:
        p = self._parts
        driver = p.registry.driver(spec)
        warnings = unread(spec.options, driver.options, f"the {spec.driver} driver")
        entry = self._lifecycle.pending(spec, dry=True)
        if spec.scope == SCOPE_GLOBAL:
            self._check_shared(entry)
        steps = self._dry(lambda: Change.of(p.desired_state.networks([entry])))
        return PlannedNetwork(record=entry.record, warnings=warnings, steps=steps)

    def _check_shared(self, entry: NetworkEntry) -> None:
        """Refuse what the cluster would: its transaction is the creation itself."""
        taken = self._cluster.subnets()
        if any(used.network == entry.name for used in taken):
            raise AlreadyExists(f"network with name {entry.name} already exists in the cluster")
        for subnet in entry.config.subnets:
            check_overlap(subnet.cidr, taken)

    def remove(self, ref: str) -> tuple[NetworkRecord, Plan]:
        entry = self._parts.registry.find(ref)
        refuse_builtin(entry)
        self._parts.registry.must_be_unused(entry)
        return entry.record, self._dry(lambda: self._lifecycle.removal(entry))

    def repair(self, refs: Sequence[str] = ()) -> PlannedRepair:
        ids = {self._parts.registry.find(ref).record.id for ref in refs}
        networks = DriftRepair(
            self._parts, self._sandboxes, lambda record: not ids or record.id in ids
        )
        firewall = DriftRepair(self._parts, self._sandboxes)

        def change() -> Change:
            one = networks.desired_change()
            if ids:
                return one
            rules = firewall.desired_change()  # with those that no row needs any more
            return Change(
                {**rules.desired, **one.desired}, rules.scope | one.scope,
                {**rules.known, **one.known},
            )  # fmt: skip

        steps = self._dry(change)
        return PlannedRepair(steps=steps, busy=networks.had_operations or firewall.had_operations)

    def _dry(self, change: Callable[[], Change]) -> Plan:
        return self._parts.converger.converge_lazily(change, dry=True)


def refuse_builtin(entry: NetworkEntry) -> None:
    """Forbidden for the removal of bridge, host and none."""
    if entry.record.builtin:
        raise Forbidden(f"{entry.name} is a pre-defined network and cannot be removed")
