"""The front end for dockerd, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from netkit.frontends.libnetwork.endpoints import ENGINE, DockerEndpoints
from netkit.frontends.libnetwork.interfaces import InterfaceNames, Namespaces, NoNamespaces
from netkit.frontends.libnetwork.networks import DockerNetworks
from netkit.frontends.libnetwork.plugin import Plugin
from netkit.frontends.libnetwork.pools import Pools
from netkit.frontends.libnetwork.tables import DockerEndpoint, DockerNetwork, Tables
from netkit.ipam.pools import Pool
from netkit.locks import KeyedLocks
from netkit.model import IPNetwork
from netkit.network.controller import Controller
from netkit.network.handover import NAME_LABEL
from netkit.spec import Sandbox
from netkit.store import Database


@dataclass(frozen=True, kw_only=True)
class Frontend:
    tables: Tables
    networks: Controller
    plugin: Plugin
    interfaces: InterfaceNames

    def live(self) -> dict[str, Sandbox]:
        """Sandboxes of dockerd's endpoints, by id: they go on until dockerd removes them, or is
        found to have no such endpoint."""
        found = self.networks.of_engine(ENGINE)
        rows = {e.sandbox for e in self.tables.endpoints()}
        return {s.id: s for s in found if s.id in rows and self.networks.endpoints(sandbox=s.id)}

    def is_named(self, endpoint: DockerEndpoint, container: str, name: str) -> bool:
        sandbox = self.networks.sandbox(endpoint.sandbox)
        return sandbox is None or (sandbox.container, sandbox.name) == (container, name)

    def name(
        self, endpoint: DockerEndpoint, container: str, name: str, names: Sequence[str]
    ) -> None:
        """Store which container an endpoint is of, and its DNS names on the network."""
        self.networks.identify(
            endpoint.sandbox, container, name, {endpoint.network: tuple(names)}
        )

    def name_network(self, row: DockerNetwork, name: str) -> None:
        """Store what dockerd calls a network."""
        self.networks.label(row.network, NAME_LABEL, name)
        self.tables.name_network(row.id, name)

    def recover(self) -> None:
        """After a start, and `Controller.restore`: undo what was not acknowledged."""
        self.plugin.pools.recover()

    def start(self) -> None:
        """After `recover`: look for names of interfaces that were not known yet."""
        rows = {e.sandbox for e in self.tables.endpoints()}
        self.interfaces.start([id for id in rows if self.networks.far_end(id) is not None])

    def close(self) -> None:
        self.interfaces.close()


def build(
    database: Database,
    networks: Controller,
    *,
    pools: Sequence[Pool],
    occupied: Callable[[], Iterable[IPNetwork]],
    token: Callable[[], str],
    now: Callable[[], int],
    changed: Callable[[], None] = lambda: None,
    namespaces: Namespaces = NoNamespaces(),  # noqa: B008  it has no state
) -> Frontend:
    """See `Pools` for the arguments; `changed` is called when dockerd has something new."""
    tables, locks = Tables(database), KeyedLocks()
    interfaces = InterfaceNames(networks, namespaces)
    plugin = Plugin(
        networks=DockerNetworks(tables=tables, networks=networks, locks=locks),
        endpoints=DockerEndpoints(
            tables=tables, sandboxes=networks, locks=locks, now=now, changed=changed,
            joined=interfaces.joined,
        ),
        pools=Pools(
            tables=tables,
            networks=networks,
            defaults=pools,
            occupied=occupied,
            token=token,
            now=now,
            begun=now(),
            locks=locks,
        ),
        activated=changed,
    )
    return Frontend(tables=tables, networks=networks, plugin=plugin, interfaces=interfaces)
