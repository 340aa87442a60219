"""Connect containers to networks and disconnect them, and check which ones go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from netkit.errors import Conflict, Forbidden, InvalidSpec, NotFound
from netkit.network.driver_options import unread
from netkit.network.endpoint import OPTIONS
from netkit.spec import NetworkRecord
from runtime.container import shared_namespaces
from runtime.container.config import EndpointSettings
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.lifecycle.supervisor import Supervisor
from runtime.network.endpoint_settings import endpoint_spec
from runtime.network.links import DEFAULT
from runtime.network.sandbox import ContainerNetwork


class NetworkConnector:
    def __init__(
        self,
        store: ContainerStore,
        sandboxes: ContainerNetwork,
        supervisor: Supervisor,
        *,
        rules: bool,
        forwards: Callable[[], bool],
    ) -> None:
        """`rules`: netkit writes firewall rules; `forwards`: the host forwards IPv4 packets."""
        self._store = store
        self._sandboxes = sandboxes
        self._supervisor = supervisor
        self._rules = rules
        self._forwards = forwards

    def check(self, c: Container) -> list[str]:
        """Validate the requested networks at `create`; returns warnings.

        Networks that do not exist are not refused, as in Docker: they may be created before the
        start, which fails if they are still missing.
        """
        shared_namespaces.by_id(c.host_config, self._store.find)
        seen: set[str] = set()
        named: dict[str, EndpointSettings] = {}
        warnings: list[str] = []
        for wanted, settings, record in self._sandboxes.wanted(c):
            if record is None:
                named[wanted] = settings
                continue
            if record.id in seen:
                raise InvalidSpec(f'network "{wanted}" is specified multiple times')
            seen.add(record.id)
            if wanted == c.host_config.network_mode and wanted != record.spec.name:
                c.host_config.network_mode = record.id  # `wanted` may be a prefix of the id
            warnings += self._sandboxes.warnings(endpoint_spec(c, settings, record), record)
            warnings += unread(settings.driver_opts or {}, OPTIONS, "an endpoint")
            named[record.spec.name] = settings
        c.networks = named
        ports = c.host_config.port_bindings or c.host_config.publish_all_ports
        if ports and named.keys() == {DEFAULT} and not seen:
            warnings.append(
                "Published ports are discarded: there is no default network (--bridge none)"
            )
            return warnings
        return warnings + self._lacking(named, published=bool(ports))

    def _lacking(self, named: Iterable[str], *, published: bool) -> list[str]:
        """Warnings on settings of the host that keep networking from working."""
        warnings: list[str] = []
        if not set(named) - {"host", "none"}:
            return warnings
        if published and not self._rules:
            warnings.append(
                "Published ports are reserved, but nothing leads from them to the container: "
                "netkit writes no firewall rules (--iptables=false)"
            )
        if not self._forwards():
            warnings.append("IPv4 forwarding is disabled. Networking will not work.")
        return warnings

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c = self._store.find(ref)
        record = self._sandboxes.network(network)
        with self._supervisor.lock(c.id):
            _check_exists(c)
            self._check_connect(c, record)
            word = _wish_for(c, record)
            if word is not None and not c.state.alive:
                return  # as Docker
            if word is not None and self._is_on(c, record):
                raise Forbidden(
                    f"endpoint with name {c.name} already exists in network {record.spec.name}"
                )
            word = word or record.spec.name
            endpoint_spec(c, settings, record)
            networks = {**c.networks, word: settings}
            # Before anything is allocated: a document beyond the memory bounds must fail first.
            self._store.admit(msgspec.structs.replace(c, networks=networks))
            self._sandboxes.reserve_on(c, record, settings)
            if c.state.alive:
                self._connect(c, record, settings)
            c.networks[word] = settings
            self._store.save(c)

    def _is_on(self, c: Container, record: NetworkRecord) -> bool:
        """Not where its address went to another host: it lists the network, and lost its place."""
        return any(each.network == record.id for each in self._sandboxes.endpoints(c))

    def _check_connect(self, c: Container, record: NetworkRecord) -> None:
        """Refuse networks that cannot be combined, in Docker's words."""
        mode, traits = c.host_config.network_mode, self._sandboxes.traits(record)
        if traits.needs_host_namespace and mode != "host":
            raise InvalidSpec(
                "cannot connect container to host network - container must be created in host "
                "network mode"
            )
        shared = mode == "host" and not traits.needs_host_namespace
        if c.host_config.network_of is not None or shared:
            raise InvalidSpec("container sharing network namespace with another container or host "
                              "cannot be connected to any other network")  # fmt: skip
        if (traits.exclusive and c.networks) or (not traits.exclusive and "none" in c.networks):
            raise InvalidSpec("container cannot be connected to multiple networks with one of "
                              "the networks in private (none) mode")  # fmt: skip

    def _connect(self, c: Container, record: NetworkRecord, settings: EndpointSettings) -> None:
        try:
            self._sandboxes.connect(c, record, settings)
        except BaseException:
            self._sandboxes.unreserve(c, record)
            raise

    def readdress(self, ref: str, network: str, settings: EndpointSettings) -> None:
        """Change a container's addresses on a network that it is on to what the settings request.

        InvalidSpec: it is not on it, or the network's endpoints have one address.
        """
        c = self._store.find(ref)
        record = self._sandboxes.network(network)
        with self._supervisor.lock(c.id):
            _check_exists(c)
            word = _wish_for(c, record)
            if word is None:
                raise _not_connected(c, record)
            endpoint_spec(c, settings, record)
            networks = {**c.networks, word: settings}
            self._store.admit(msgspec.structs.replace(c, networks=networks))
            self._sandboxes.readdress(c, record, settings)
            c.networks[word] = settings
            self._store.save(c)

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        try:
            record = self._sandboxes.network(network)
        except NotFound:
            if not (force and self._forget_network(ref, network)):
                raise
            return
        try:
            c = self._store.find(ref)
        except NotFound:
            if force and self._sandboxes.remove_orphan_endpoint(record, ref):
                return
            raise
        with self._supervisor.lock(c.id):
            _check_exists(c)
            on_host = self._sandboxes.traits(record).needs_host_namespace
            if on_host and c.host_config.network_mode == "host":
                raise InvalidSpec(
                    "cannot disconnect container from host network - container was created in "
                    "host network mode"
                )
            word = _wish_for(c, record)
            if word is None:
                raise _not_connected(c, record)
            if c.state.alive and self._is_on(c, record):
                self._sandboxes.disconnect(c, record)
            self._sandboxes.unreserve(c, record)
            c.networks.pop(word)
            self._store.save(c)

    def _forget_network(self, ref: str, network: str) -> bool:
        """Drop a removed network from a container's configuration; False if it was not in it."""
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            if c.networks.pop(network, None) is None:
                return False
            self._store.save(c)
        return True


def _not_connected(c: Container, record: NetworkRecord) -> InvalidSpec:
    return InvalidSpec(f"container {c.id} is not connected to network {record.spec.name}")


def _check_exists(c: Container) -> None:
    if c.state.status in {"removing", "dead"}:
        raise Conflict(
            f"Container {c.id} is marked for removal and cannot be connected or disconnected to "
            "the network"
        )


def _wish_for(c: Container, record: NetworkRecord) -> str | None:
    """The key under which the container lists this network: its name or (part of) its id."""
    for word in c.networks:
        if word == record.spec.name or record.id.startswith(word):
            return word
    return None
