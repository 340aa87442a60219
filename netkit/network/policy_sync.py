"""Update access rules while the containers they name come, go and change addresses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import msgspec

from netkit.errors import (
    Conflict,
    KernelError,
    NetkitError,
    NotConverged,
    Unreachable,
    nothing_applied,
)
from netkit.locks import KeyedLocks
from netkit.model import Rule, State
from netkit.model.nftables import NftRule
from netkit.network.context import NetworkContext
from netkit.network.desired import DesiredState
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import READY
from netkit.network.entry import NetworkEntry
from netkit.reconcile.converge import Change, Converger
from netkit.spec import EndpointRecord, LinkedPorts

log = logging.getLogger(__name__)


def converge_with_networks(
    converger: Converger,
    desired_state: DesiredState,
    change: Change,
    entries: Iterable[NetworkEntry],
) -> None:
    """Touch what is a sandbox's own; only if that fails, put its networks right as well.

    So the cost of a start does not depend on what else is on the host, and a bridge, chain or set
    that another tool deleted comes back with the next change.
    """
    try:
        converger.converge(change)
    except Unreachable:  # its networks would not make that answer
        raise
    except (Conflict, KernelError, NotConverged) as first:
        base = desired_state.networks({e.record.id: e for e in entries}.values())
        if not base:
            raise
        log.warning("a change failed, retrying it with the networks it needs: %s", first)
        wider: State = {**base, **change.desired}
        known = {**change.known, **base}
        scope = frozenset({*change.scope, *base})
        try:
            converger.converge(Change(wider, scope, known))
        except NetkitError as second:
            # Only if neither attempt touched the host there is nothing to clean up.
            if isinstance(second, KernelError):
                second.nothing_applied &= nothing_applied(first)
            raise second from first


class PolicySync:
    """Called without any sandbox's lock held: it takes that of each sandbox it changes."""

    def __init__(
        self,
        parts: NetworkContext,
        locks: KeyedLocks,
        joined: Callable[[Sequence[EndpointRecord]], list[AttachedEndpoint]],
    ) -> None:
        self._p = parts
        self._locks = locks
        self._joined = joined

    def endpoints_changed(self, records: Sequence[EndpointRecord], *, own: bool = True) -> None:
        """Render anew the rules of other endpoints that name these, which came, changed or went.

        And, if they still are, `own` once more: another may have come at the same time and not
        have been seen.  The one stored last sees the other.
        """
        concerned = self._p.policies.affected_sandboxes(records)
        if own:
            concerned |= {r.sandbox for r in records}
        for sandbox_id in sorted(concerned):
            self.sync_sandbox(sandbox_id)

    def sync_sandbox(self, sandbox_id: str) -> None:
        """Make the rules on an open sandbox what they should be now; nothing if it is not open.

        Or on those of a container of another engine, by the engine's id of it.
        """
        p = self._p
        for id in {r.sandbox for r in p.records.of_container(sandbox_id)}:
            self.sync_sandbox(id)
        with self._locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None or row.state != READY:
                return
            records = p.records.of_sandbox(sandbox=sandbox_id, ready=True)
            joined = self._joined(records)
            access, before = p.policies.resolve(joined), p.policies.applied(records)
            changed = [j for j in joined if access[j.record.id] != before[j.record.id]]
            if not changed:
                return
            change = Change.of(
                p.desired_state.endpoints(row.opened.sandbox, changed, access),
                p.desired_state.endpoints(row.opened.sandbox, changed, before),
            )
            converge_with_networks(p.converger, p.desired_state, change, [e for e, _ in changed])
            p.policies.set_applied(access)

    def set_linked_ports(
        self, sandbox_id: str, network_id: str, opens: tuple[LinkedPorts, ...]
    ) -> None:
        """Change which ports of its neighbours a sandbox may reach."""
        p = self._p
        with self._locks.hold(sandbox_id):
            records = p.records.of_sandbox(sandbox=sandbox_id, network=network_id, ready=True)
            for record in records:
                spec = replace(record.spec, opens=opens)
                p.records.save([msgspec.structs.replace(record, spec=spec)])
        before = {o.sandbox for r in records for o in r.spec.opens}
        for neighbour in sorted({o.sandbox for o in opens} | before):
            self.sync_sandbox(neighbour)

    def rule_origins(self, sandboxes: Iterable[str]) -> dict[str, str]:
        """Return ids of access rules on these sandboxes, by the digests of their rules."""
        p = self._p
        out: dict[str, str] = {}
        ids = set(sandboxes)
        ids |= {r.sandbox for id in ids for r in p.records.of_container(id)}
        for row in map(p.records.sandbox, sorted(ids)):
            if row is None or row.state != READY:
                continue
            sandbox = row.opened.sandbox
            joined = self._joined(p.records.of_sandbox(sandbox=sandbox.id, ready=True))
            made = p.desired_state.endpoints(sandbox, joined, p.policies.resolve(joined))
            rules = (r for r in made.values() if isinstance(r, Rule | NftRule))
            out |= {r.digest: r.origin for r in rules if r.origin}
        return out
