"""Renew a container's network between two of its runs: a new namespace, the same endpoints.

What the last run did to its namespace ends with it: addresses, routes, neighbours, rules of any
back end, queueing disciplines, sysctls, links.  To enumerate all that would miss what the next
kernel has.  Endpoints keep their rows, and with them addresses, MAC addresses, host ports, names
and rules.  Another part of `SandboxController`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netkit.model import HOST
from netkit.network.context import NetworkContext
from netkit.network.endpoint_store import READY, SandboxRecord
from netkit.network.teardown import Teardown
from netkit.reconcile.converge import Change
from netkit.spec import EndpointSpec, PortSpec, Sandbox


class Renewing:
    def __init__(self, parts: NetworkContext, sandboxes: Teardown) -> None:
        self._p = parts
        self._s = sandboxes
        self._unused: set[str] = set()  # ids of sandboxes in whose namespace nothing has run yet

    def adapt(
        self,
        sandbox: Sandbox,
        wants: Sequence[EndpointSpec],
        ports: Sequence[PortSpec],
        *,
        shared: bool,
    ) -> None:
        """Close it if it is open with other endpoints or ports than the specs have now.

        A container may be connected, disconnected and renamed while it waits for its restart.  If
        its namespace is `shared`, the endpoints change and the namespace stays.
        """
        row = self._p.records.sandbox(sandbox.id)
        if row is None or row.state != READY:
            return
        have = {r.network: r.spec for r in self._s.endpoints(sandbox.id)}
        same = row.opened.sandbox == sandbox and row.opened.wants == tuple(ports)
        if same and have == {w.network: w for w in wants}:
            return
        if same and shared:
            self._change(sandbox, have, wants)
        else:
            self._s.close(sandbox.id)

    def _change(
        self, sandbox: Sandbox, have: dict[str, EndpointSpec], wants: Sequence[EndpointSpec]
    ) -> None:
        """Leave, join or relink networks, one by one; repeated by the next start if one fails."""
        wanted = {w.network: w for w in wants}
        for network, spec in have.items():
            want = wanted.get(network)
            if want is not None and want == replace(spec, opens=want.opens):
                self._s.policy_sync.set_linked_ports(sandbox.id, network, want.opens)
                del wanted[network]
            else:
                self._s.disconnect(sandbox.id, network)
        for want in wanted.values():
            self._s.connect(sandbox, want)

    def begin(self, opened: SandboxRecord, *, shared: bool) -> None:
        """Prepare for the next run.  The sandbox's lock is held."""
        unused = opened.sandbox.id in self._unused
        self._unused.discard(opened.sandbox.id)
        if unused or shared or opened.sandbox.foreign:
            self._s.repair(opened)
        else:
            self._anew(opened)

    def renew(self, sandbox_id: str) -> None:
        """Prepare, after a run, for another.  One that is not open has nothing of the last run: it
        was closed at the daemon's start, before the end of that run was known."""
        with self._s.locks.hold(sandbox_id):
            row = self._p.records.sandbox(sandbox_id)
            if row is None or row.state != READY:
                return
            self._anew(row.opened)
            self._unused.add(sandbox_id)
            self._p.names.publish(self._s.endpoints(sandbox_id), ())

    def forget(self, sandbox_id: str) -> None:
        """Forget a closed sandbox."""
        self._unused.discard(sandbox_id)

    def _anew(self, opened: SandboxRecord) -> None:
        if opened.sandbox.ns != HOST and not opened.sandbox.foreign:
            p, records = self._p, self._s.endpoints(opened.sandbox.id)
            access = p.policies.applied(records)
            made = p.desired_state.possible_leftovers(
                opened.sandbox, self._s.attach_entries(records), access
            )
            wires = {key: r for key, r in made.items() if not r.is_firewall}
            p.converger.converge(Change.of({}, wires))
        self._s.repair(opened)
