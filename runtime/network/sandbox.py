"""Connect containers to networks: their network namespaces, endpoints, files and links.

The requested configuration is in the container's document, the allocated one in netkit's rows;
/etc/hosts, resolv.conf and DNS names are derived from the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from netkit import threads
from netkit.driver import Traits
from netkit.errors import NetkitError, NotFound
from netkit.network import address_requests, api
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, PortSpec, Sandbox
from runtime.container.config import EndpointSettings
from runtime.container.links import of as links_of
from runtime.container.model import Container
from runtime.container.ports import requested_ports
from runtime.container.shared_namespaces import home, network_owner
from runtime.container.store import ContainerStore
from runtime.events import Events
from runtime.network import links
from runtime.network.container_files import EtcFiles
from runtime.network.endpoint_settings import dns_names, endpoint_spec
from runtime.network.links import DEFAULT
from runtime.paths import Paths


class WantedNetwork(NamedTuple):
    name: str  # as given by the user: its name, or (part of) its id
    settings: EndpointSettings
    record: NetworkRecord | None  # None if there is no such network


class ContainerEndpoints(NamedTuple):
    live: list[EndpointRecord]
    networks: Mapping[str, NetworkRecord]  # all networks, by id
    namespace: str  # path of its own namespace; "" if it shares another one


class ContainerNetwork:
    """`settle_names` waits until the resolver has the names of all endpoints."""

    def __init__(
        self,
        paths: Paths,
        store: ContainerStore,
        networks: api.Networks,
        sandboxes: api.Sandboxes,
        files: EtcFiles,
        events: Events,
        settle_names: Callable[[], None],
    ) -> None:
        self._paths = paths
        self._store = store
        self._networks = networks
        self._on_host = sandboxes
        self._files = files
        self._events = events
        self.settle_names = settle_names

    def network(self, ref: str) -> NetworkRecord:
        return self._networks.find(ref)

    def traits(self, record: NetworkRecord) -> Traits:
        return self._networks.traits(record)

    def namespace(self, c: Container) -> str:
        """Path of the container's network namespace; "" for the host's.

        Conflict if it is that of another container, which does not run.
        """
        if c.host_config.network_mode == "host":
            return ""
        if c.host_config.network_of is None:
            return self.own_namespace(c.id)
        return self.namespace(network_owner(c, self._store.find))

    def own_namespace(self, id: str) -> str:
        """Path of the network namespace created for a container, unless it shares one."""
        return str(self._paths.namespace(id))

    def sandbox(self, c: Container) -> Sandbox:
        return Sandbox(id=c.id, name=c.name, ns=self.namespace(c))

    def endpoints(self, c: Container) -> list[EndpointRecord]:
        return self._networks.endpoints(sandbox=c.id)

    # create, start, stop, remove

    def reserve(self, c: Container) -> None:
        """Reserve requested static addresses at `create`, on networks that exist.

        So they stay the container's own while it is stopped.
        """
        if c.host_config.network_of is None:
            found = [self._endpoint_spec(c, s, r) for _, s, r in self.wanted(c) if r is not None]
            self._on_host.reserve(c.id, found)

    def reserve_on(self, c: Container, record: NetworkRecord, settings: EndpointSettings) -> None:
        """Reserve a static address on one more network (`network connect`)."""
        self._on_host.reserve(c.id, [self._endpoint_spec(c, settings, record)], more=True)

    def unreserve(self, c: Container, record: NetworkRecord) -> None:
        self._on_host.unreserve(c.id, record.id)

    def prepare(self, c: Container) -> bool:
        """Make what the OCI runtime needs of the network: the namespace, and files to mount.

        After True `open` may run while the runtime creates the container, after False it comes
        first.  Settings of interfaces by --sysctl need the interfaces, so do links their children.
        """
        settings = c.host_config.sysctls or {}
        if links_of(c) or any(name.startswith("net.") for name in settings):
            return False
        if c.host_config.network_of is not None or not self._on_host.prepare(self.sandbox(c)):
            return False
        self._files.create(c)
        return True

    def open(self, c: Container) -> list[EndpointRecord]:
        """Set up all that the first process may rely on: namespace, links, policy, files."""
        joined = self._join(c)
        self._files.write(c, joined)
        return joined

    def _join(self, c: Container) -> list[EndpointRecord]:
        if c.host_config.network_of is not None:
            self.namespace(c)
            return []
        links.children(c, self._store.find)  # Conflict unless they run
        try:
            wants, shared = self._wishes(c), self.shared(c)
            return self._on_host.open(self.sandbox(c), wants, self._ports(c), shared=shared)
        except NetkitError as error:  # in Docker's words
            error.args = (f"failed to set up container networking: {error}",)
            raise

    def renew(self, c: Container) -> None:
        """Replace the namespace between two runs: changes made inside it do not survive a run.

        Kept if other running containers share it, since they would lose their network.
        """
        if c.host_config.network_of is None and not self.shared(c):
            self._on_host.renew(c.id)

    def shared(self, c: Container) -> bool:
        """Does another container run in its namespace, directly or through a third one?"""
        live = [o for o in self._store.relating() if o.id != c.id and o.state.alive]
        others = (o for o in live if o.host_config.network_of is not None)
        return any(home(o, self._store.find) is c for o in others)

    def close(self, c: Container) -> None:
        """Remove namespace and endpoints; releases addresses, except reserved ones."""
        if c.host_config.network_of is None:
            self._on_host.close(c.id)

    def forget(self, c: Container) -> None:
        self._on_host.forget(c.id)

    def tell_joined(self, c: Container, joined: Sequence[EndpointRecord]) -> None:
        for endpoint in joined:
            self._emit("connect", c, endpoint.network)

    def tell_left(self, c: Container, left: Sequence[EndpointRecord]) -> None:
        for endpoint in left:
            self._emit("disconnect", c, endpoint.network)

    def _wishes(self, c: Container) -> list[EndpointSpec]:
        """Specs of all requested endpoints.  NotFound names a network that does not exist.

        With `--bridge none` there is no default network: containers on it have loopback only.
        """
        return [
            self._endpoint_spec(c, settings, record or self._networks.find(name))
            for name, settings, record in self.wanted(c)
            if record is not None or name != DEFAULT
        ]

    def wanted(self, c: Container) -> list[WantedNetwork]:
        """The networks that the container's configuration lists."""
        return [
            WantedNetwork(name, settings, self._existing(name))
            for name, settings in c.networks.items()
        ]

    def warnings(self, spec: EndpointSpec, record: NetworkRecord) -> list[str]:
        """On addresses that were requested on a network."""
        requests = address_requests.parse(spec.addresses)
        return address_requests.in_other_subnets(requests, record, self._networks.all())

    def _existing(self, name: str) -> NetworkRecord | None:
        try:
            return self._networks.find(name)
        except NotFound:
            return None

    def _endpoint_spec(
        self, c: Container, settings: EndpointSettings, record: NetworkRecord
    ) -> EndpointSpec:
        spec = endpoint_spec(c, settings, record)
        if record.builtin and (opens := links.linked_ports(c, self._store.find)):
            spec = replace(spec, opens=opens)
        return spec

    def _ports(self, c: Container) -> Sequence[PortSpec]:
        if c.host_config.network_mode in {"host", "none"}:
            return ()
        return requested_ports(c.config, c.host_config).published

    def joined(self, c: Container) -> ContainerEndpoints:
        live = self.endpoints(c) if c.state.alive else []
        networks = {r.id: r for r in self._networks.all()}
        shared = c.host_config.network_mode == "host" or c.host_config.network_of is not None
        namespace = "" if shared else str(self._paths.namespace(c.id))
        return ContainerEndpoints(live, networks, namespace)

    # while it runs

    def connect(self, c: Container, record: NetworkRecord, settings: EndpointSettings) -> None:
        self._on_host.connect(self.sandbox(c), self._endpoint_spec(c, settings, record))
        self._files.write(c, self.endpoints(c))
        self.settle_names()  # names of the new network resolve when the call returns
        self._relink(c, record)
        self._emit("connect", c, record.id)

    def readdress(self, c: Container, record: NetworkRecord, settings: EndpointSettings) -> None:
        """Change its addresses on a network that it is on, or its reservations there."""
        self._on_host.readdress(c.id, self._endpoint_spec(c, settings, record))
        if c.state.alive:
            self._files.write(c, self.endpoints(c))
            self.settle_names()

    def disconnect(self, c: Container, record: NetworkRecord) -> None:
        self._on_host.disconnect(c.id, record.id)
        self._files.write(c, self.endpoints(c))
        self._relink(c, record)
        self._emit("disconnect", c, record.id)

    def _relink(self, child: Container, record: NetworkRecord) -> None:
        """Update the parents of a container whose address on the default network changed."""
        if record.builtin:
            for parent in self._store.relating():
                if child.id in links_of(parent).values():
                    self.refresh_links(parent)

    def reconcile_after_crash(self, c: Container) -> bool:
        """Reconcile endpoints with the document after a kill during connect or disconnect.

        Both save the document last: an endpoint that is not listed was being connected, and is
        removed; a listed network without an endpoint was being disconnected, and is dropped; one
        with other addresses gets those of the document.  True if the document changed.
        """
        if c.host_config.network_of is not None:
            return False
        endpoints = {e.network: e for e in self.endpoints(c)}
        live = set(endpoints)
        wished: set[str] = set()
        lost: list[str] = []
        for word, settings in c.networks.items():
            try:
                record = self._networks.find(word)
            except NotFound:
                continue
            wished.add(record.id)
            if record.id not in live:
                lost.append(word)
            elif self.traits(record).any_address:
                spec = self._endpoint_spec(c, settings, record)
                if endpoints[record.id].spec.requested != spec.requested:
                    # Where it is not possible now, the next start does it.
                    what = f"giving {c.name} its addresses on network {record.spec.name}"
                    threads.attempt(what, partial(self._on_host.readdress, c.id, spec))
        for id in live - wished:
            record = self._networks.find(id)
            if not self.traits(record).exclusive:  # its endpoint stays when another is joined
                self._on_host.disconnect(c.id, id)
        for word in lost:
            del c.networks[word]
        return bool(lost)

    def refresh_links(self, c: Container) -> None:
        """Apply a changed link, or a changed address of a child, to a running parent."""
        if not c.state.alive or c.host_config.network_of is not None:
            return
        live = self.endpoints(c)
        for endpoint in live:
            opens = links.linked_ports(c, self._store.find)
            if endpoint.spec.opens != opens and self._networks.find(endpoint.network).builtin:
                self._on_host.set_linked_ports(c.id, endpoint.network, opens)
        self._files.write(c, live)

    def remove_orphan_endpoint(self, record: NetworkRecord, name: str) -> bool:
        """Drop the endpoint of a container that no longer exists; was there one?"""
        for endpoint in self._networks.endpoints(network=record.id):
            if name in {endpoint.owner_name, endpoint.sandbox}:
                self._on_host.disconnect(endpoint.sandbox, record.id)
                return True
        return False

    def renamed(self, c: Container) -> None:
        """Publish a new name; also while the container waits for its restart with its endpoints."""
        names: dict[str, tuple[str, ...]] = {}
        for _, settings, record in self.wanted(c):
            if record is not None and not record.builtin:
                names[record.id] = dns_names(c, settings)
        if c.host_config.network_of is None:
            self._on_host.rename(c.id, c.name, names)

    def _emit(self, action: str, c: Container, network: str) -> None:
        try:
            record = self._networks.find(network)
        except NotFound:
            return
        self._events.emit(
            "network",
            action,
            record.id,
            {"container": c.id, "name": record.spec.name, "type": record.spec.driver},
        )
