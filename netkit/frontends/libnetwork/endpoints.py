"""dockerd's endpoints: a sandbox of its own for each, whose end of the pair dockerd takes over.

    RequestAddress  an address is reserved for the sandbox that will have it
    CreateEndpoint  the sandbox is opened: pair, port of the switch, rules; the far end of the pair
                    is in netkitd's own namespace, under a name that dockerd gets by Join
    Join            dockerd's namespace is stored; dockerd moves the far end there, and sets it up
    Program..       ports are published
    Revoke.., Leave ports are not published any more
    DeleteEndpoint  the sandbox is closed, with or without a Leave

Neither names nor aliases are sent, and dockerd must not be asked while it waits for an answer:
`netkit.frontends.libnetwork.following`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, ip_interface
from typing import Protocol

from netkit.driver import IFACE_PREFIX, TrafficPolicy, ifname
from netkit.errors import Conflict, InvalidSpec, NotFound, NotSupported
from netkit.frontends.libnetwork.messages import (
    CreateEndpoint,
    EndpointRequest,
    Interface,
    Join,
    published,
    short,
)
from netkit.frontends.libnetwork.tables import DockerEndpoint, Tables
from netkit.locks import KeyedLocks
from netkit.network.endpoint import PREFIX
from netkit.network.endpoint_store import NO_NAMESPACE
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, PortSpec, Sandbox

ENGINE = "docker"  # Sandbox.engine
FAR_ENDS = "nkd"  # how names of far ends begin until dockerd has given them others
LONGEST_PATH = 4096  # characters of a namespace's path; PATH_MAX of Linux


class Sandboxes(Protocol):
    """What is needed of `netkit.network`."""

    def find(self, ref: str) -> NetworkRecord: ...
    def policy(self, id: str) -> TrafficPolicy | None: ...
    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]: ...
    def open(
        self, sandbox: Sandbox, wants: Sequence[EndpointSpec], ports: Sequence[PortSpec]
    ) -> list[EndpointRecord]: ...
    def hand_over(self, sandbox_id: str, ns: str) -> None: ...
    def publish(self, sandbox_id: str, ports: Sequence[PortSpec]) -> None: ...
    def close(self, sandbox_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DockerEndpoints:
    """Thread-safe.  Every call may be repeated, and has the same answer.  `now`: seconds since the
    epoch."""

    tables: Tables
    sandboxes: Sandboxes
    locks: KeyedLocks
    now: Callable[[], int]
    changed: Callable[[], None] = lambda: None  # an endpoint came: its name may be known soon
    joined: Callable[[str], None] = lambda _: None  # dockerd moves the far end of this sandbox now

    def create(self, request: CreateEndpoint) -> Mapping[str, object]:
        given = request.interface or Interface()
        if given.address_v6:
            raise NotSupported(f"IPv6 is not supported yet: leave out {short(given.address_v6)}")
        with self.locks.hold(request.endpoint):
            network = self._network(request.network)
            want = _wanted(network, given)
            row = self.tables.endpoint(request.endpoint)
            record = self._repeated(row, network, want) if row else None
            if record is None:
                row = row or self._row(request, network, want)
                record = self._open(row, want)
        self.changed()
        answer = {}
        if not given.address and record.address:
            answer["Address"] = record.address
        if not given.mac and record.mac:
            answer["MacAddress"] = record.mac
        return {"Interface": answer} if answer else {}

    def _network(self, id: str) -> NetworkRecord:
        row = self.tables.network(id)
        if row is None:
            raise NotFound(f"network {id[:12]} is not known to netkit: create it anew")
        return self.sandboxes.find(row.network)

    def _repeated(
        self, row: DockerEndpoint, network: NetworkRecord, want: EndpointSpec
    ) -> EndpointRecord | None:
        """The endpoint if it exists as requested; None if it was not completed.  Conflict."""
        found = self.sandboxes.endpoints(sandbox=row.sandbox)
        if not found:
            return None
        spec = replace(found[0].spec, names=())  # which are known later
        if found[0].network != network.id or spec != want:
            raise Conflict(f"endpoint {row.id[:12]} exists, with another address or network")
        return found[0]

    def _row(
        self, request: CreateEndpoint, network: NetworkRecord, want: EndpointSpec
    ) -> DockerEndpoint:
        lease = self.tables.lease_on(network.id, want.ip) if want.ip else None
        if lease is not None and (other := self.tables.endpoint_of(lease.holder)):
            raise Conflict(f"address {want.ip} is that of endpoint {other.id[:12]}")
        row = DockerEndpoint(
            id=request.endpoint,
            docker_network=request.network,
            network=network.id,
            sandbox=lease.holder if lease else request.endpoint,
            since=self.now(),
        )
        # Intent first: without a row no restart would find the sandbox.
        self.tables.add_endpoint(row)
        return row

    def _open(self, row: DockerEndpoint, want: EndpointSpec) -> EndpointRecord:
        sandbox = Sandbox(
            id=row.sandbox,
            name=f"docker-{row.id[:12]}",
            ns=NO_NAMESPACE,
            engine=ENGINE,
            foreign=True,
            handover=ifname(FAR_ENDS, row.id),
        )
        try:
            (record,) = self.sandboxes.open(sandbox, [want], ())
        except BaseException:
            self.tables.delete_endpoint(row.id)
            raise
        return record

    def join(self, request: Join) -> Mapping[str, object]:
        if not request.sandbox.startswith("/") or len(request.sandbox) > LONGEST_PATH:
            raise InvalidSpec(f"invalid SandboxKey {short(request.sandbox)}: an absolute path")
        with self.locks.hold(request.endpoint):
            row, record = self._joined(request.endpoint)
            self.sandboxes.hand_over(row.sandbox, request.sandbox)
        self.joined(row.sandbox)
        network = self.sandboxes.find(record.network)
        name = {
            "SrcName": ifname(FAR_ENDS, row.id),
            "DstPrefix": network.spec.options.get(PREFIX) or IFACE_PREFIX,
        }
        policy = self.sandboxes.policy(network.id)
        if network.spec.internal:
            # dockerd would give the container another way out, by a bridge of its own.
            return {"InterfaceName": name, "DisableGatewayService": True}
        if not record.gateway or (policy is not None and policy.mode == "isolated"):
            return {"InterfaceName": name}
        return {"InterfaceName": name, "Gateway": record.gateway}

    def _joined(self, id: str) -> tuple[DockerEndpoint, EndpointRecord]:
        row = self.tables.endpoint(id)
        found = self.sandboxes.endpoints(sandbox=row.sandbox) if row else []
        if row is None or not found:
            raise NotFound(f"endpoint {id[:12]} is not known to netkit")
        return row, found[0]

    def publish(self, request: EndpointRequest) -> Mapping[str, object]:
        ports = published(request.options)
        with self.locks.hold(request.endpoint):
            row, _ = self._joined(request.endpoint)
            self.sandboxes.publish(row.sandbox, ports)
        return {}

    def unpublish(self, request: EndpointRequest) -> Mapping[str, object]:
        """Also for one that is not known: it has no ports."""
        with self.locks.hold(request.endpoint):
            row = self.tables.endpoint(request.endpoint)
            if row is not None and self.sandboxes.endpoints(sandbox=row.sandbox):
                self.sandboxes.publish(row.sandbox, ())
        return {}

    def info(self, request: EndpointRequest) -> Mapping[str, object]:
        """dockerd shows none of it."""
        self._joined(request.endpoint)
        return {"Value": {}}

    def delete(self, request: EndpointRequest) -> Mapping[str, object]:
        """Also for one that is not known, and for one that was not left."""
        self.remove(request.endpoint)
        return {}

    def remove(self, id: str) -> None:
        with self.locks.hold(id):
            row = self.tables.endpoint(id)
            if row is not None:
                self.sandboxes.close(row.sandbox)
                self.tables.delete_endpoint(id)


def _wanted(network: NetworkRecord, given: Interface) -> EndpointSpec:
    """What dockerd requests.  InvalidSpec; the address is one that its IPAM gave out."""
    ip = ""
    if given.address:
        try:
            found = ip_interface(given.address)
        except ValueError:
            raise InvalidSpec(f"invalid address {short(given.address)}") from None
        if not isinstance(found, IPv4Interface):
            raise NotSupported(f"IPv6 is not supported yet: leave out {found}")
        ip = str(found.ip)
    return EndpointSpec(network=network.id, ip=ip, allocated=bool(ip), mac=given.mac or "")
