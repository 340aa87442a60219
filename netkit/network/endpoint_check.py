"""What one endpoint is made of, and in what the host deviates from it.

Another part of `SandboxController`, for front ends that report it.
"""

from __future__ import annotations

from netkit.model import State
from netkit.network.context import NetworkContext
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.teardown import Teardown
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, Sandbox


class EndpointCheck:
    def __init__(self, parts: NetworkContext, sandboxes: Teardown) -> None:
        self._p = parts
        self._s = sandboxes

    def resources(self, record: EndpointRecord) -> State:
        sandbox, joined = self._joined(record)
        return self._p.desired_state.endpoints(sandbox, joined, self._p.policies.resolve(joined))

    def deviations(self, record: EndpointRecord) -> list[str]:
        steps = self._p.converger.converge_lazily(lambda: self._change(record), dry=True)
        return [str(step) for step in steps]

    def _change(self, record: EndpointRecord) -> Change:
        sandbox, joined = self._joined(record)
        desired = self._p.desired_state
        return Change.of(
            {
                **desired.networks([joined[0].entry]),
                **desired.of_sandbox(sandbox, ()),
                **desired.endpoints(sandbox, joined, self._p.policies.resolve(joined)),
            }
        )

    def _joined(self, record: EndpointRecord) -> tuple[Sandbox, list[AttachedEndpoint]]:
        opened = self._s.must_be_open(record.sandbox)
        return opened.sandbox, self._s.attach_entries([record])


