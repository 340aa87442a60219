"""Containers of this host for commands about packets and rules: netkit's, and other engines'.

One of another engine has an endpoint or several, each in a sandbox of its own or all in one.  It is
one container by the engine's id (`EndpointRecord.container`), else by its sandbox's.  It is known
while it has an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from netkit.errors import InvalidSpec, NotFound
from netkit.spec import EndpointRecord, NetworkRecord, Sandbox
from runtime.container.config import Config, EndpointSettings, HostConfig, PortBinding
from runtime.container.model import ZERO_TIME, Container, State

RUNNING = "running"


class Containers(Protocol):
    """Part of `runtime.container.store.ContainerStore`."""

    def all(self) -> list[Container]: ...
    def find(self, ref: str) -> Container: ...
    def get(self, id: str) -> Container | None: ...


class Networks(Protocol):
    def all(self) -> list[NetworkRecord]: ...
    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]: ...
    def sandbox(self, id: str) -> Sandbox | None: ...


class Everyone:
    """`own`: those that netkit runs, whose names come first; `namespace` is a path of theirs."""

    def __init__(
        self, own: Containers, networks: Networks, namespace: Callable[[str], str]
    ) -> None:
        self._own, self._networks, self._namespace = own, networks, namespace

    def all(self) -> list[Container]:
        return [*self._others(self._foreign()), *self._own.all()]

    def get(self, id: str) -> Container | None:
        own = self._own.get(id)
        if own is not None:
            return own
        records = [e for e in self._networks.endpoints(sandbox=id) if e.engine]
        return next(iter(self._others(records)), None)

    def find(self, ref: str) -> Container:
        """NotFound; InvalidSpec for the beginning of several ids."""
        try:
            return self._own.find(ref)
        except NotFound:
            others = self._others(self._foreign())
            name = ref.removeprefix("/")
            named = [c for c in others if name in {c.name, c.id}]
            hits = named or [c for c in others if ref and c.id.startswith(ref)]
            if len(hits) > 1:
                raise InvalidSpec(
                    f"several containers of other engines are {ref}: give the id of one: "
                    + ", ".join(c.id[:12] for c in hits)
                ) from None
            if not hits:
                raise
            return hits[0]

    def namespace(self, id: str) -> str:
        """Path of a container's network namespace, by its id."""
        own = self._own.get(id)
        if own is None:
            for e in self._networks.endpoints(sandbox=id):
                sandbox = self._networks.sandbox(e.sandbox) if e.engine else None
                if sandbox is not None:
                    return sandbox.ns
        return self._namespace(id)

    def _foreign(self) -> list[EndpointRecord]:
        return [e for e in self._networks.endpoints() if e.engine]

    def _others(self, records: Iterable[EndpointRecord]) -> list[Container]:
        names = {n.id: n.spec.name for n in self._networks.all()}
        found: dict[str, list[EndpointRecord]] = {}
        for e in by_container(records):
            found.setdefault(e.sandbox, []).append(e)
        return [_container(id, each, names) for id, each in sorted(found.items())]


def by_container(records: Iterable[EndpointRecord]) -> list[EndpointRecord]:
    """Endpoints with the id of the container in place of the sandbox's."""
    return [
        msgspec.structs.replace(e, sandbox=e.container) if e.container else e for e in records
    ]


def _container(id: str, records: list[EndpointRecord], networks: dict[str, str]) -> Container:
    bindings: dict[str, list[PortBinding] | None] = {}
    for port in (p for e in records for p in e.ports):
        held = bindings.setdefault(f"{port.container_port}/{port.proto}", [])
        assert held is not None
        held.append(PortBinding(host_ip=port.host_ip, host_port=str(port.host_port or "")))
    return Container(
        id=id,
        name=records[0].owner_name,
        created=ZERO_TIME,
        image="",
        config=Config(),
        host_config=HostConfig(network_mode=records[0].engine, port_bindings=bindings),
        networks={networks.get(e.network, e.network): EndpointSettings() for e in records},
        state=State(status=RUNNING),
    )

