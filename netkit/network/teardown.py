"""The interface of `SandboxController` for deferred cleanup and the renewal of namespaces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from netkit.locks import KeyedLocks
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import SandboxRecord
from netkit.network.policy_sync import PolicySync
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox


class Teardown(Protocol):
    """Implemented by netkit.network.sandbox.SandboxController; its methods raise NetkitError."""

    locks: KeyedLocks
    policy_sync: PolicySync

    def endpoints(self, sandbox_id: str) -> list[EndpointRecord]: ...
    def attach_entries(self, records: Iterable[EndpointRecord]) -> list[AttachedEndpoint]: ...
    def must_be_open(self, id: str) -> SandboxRecord: ...

    def reconfigure(
        self, opened: SandboxRecord, before: list[AttachedEndpoint], after: list[AttachedEndpoint]
    ) -> list[EndpointRecord]: ...

    def repair(self, opened: SandboxRecord) -> None: ...
    def tear_down(
        self, opened: SandboxRecord, joined: Iterable[AttachedEndpoint]
    ) -> list[EndpointRecord]: ...
    def finish_close(self, id: str, gone: list[EndpointRecord]) -> None: ...
    def delete_endpoint(self, record: EndpointRecord) -> None: ...
    def close(self, sandbox_id: str) -> None: ...
    def connect(self, sandbox: Sandbox, want: EndpointSpec) -> EndpointRecord: ...
    def disconnect(self, sandbox_id: str, network_id: str) -> None: ...
