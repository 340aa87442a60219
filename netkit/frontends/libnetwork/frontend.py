"""The front end for dockerd, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from netkit.frontends.libnetwork.endpoints import ENGINE, DockerEndpoints
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
    inside: Callable[[str], Mapping[str, str]]

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
        sandbox = self.networks.sandbox(endpoint.sandbox)
        found = self.inside(sandbox.ns) if sandbox is not None else {}
        mac = next((r.mac for r in self.networks.endpoints(sandbox=endpoint.sandbox)), "")
        self.networks.identify(
            endpoint.sandbox, container, name, {endpoint.network: tuple(names)}, found.get(mac, "")
        )

    def name_network(self, row: DockerNetwork, name: str) -> None:
        """Store what dockerd calls a network."""
        self.networks.label(row.network, NAME_LABEL, name)
        self.tables.name_network(row.id, name)

    def recover(self) -> None:
        """After a start, and `Controller.restore`: undo what was not acknowledged."""
        self.plugin.pools.recover()


def build(
    database: Database,
    networks: Controller,
    *,
    pools: Sequence[Pool],
    occupied: Callable[[], Iterable[IPNetwork]],
    token: Callable[[], str],
    now: Callable[[], int],
    changed: Callable[[], None] = lambda: None,
    inside: Callable[[str], Mapping[str, str]] = lambda ns: {},
) -> Frontend:
    """See `Pools` for the arguments; `changed` is called when dockerd has something new.

    `inside`: names of links by MAC address, in the namespace at a path; none where it is not there.
    """
    tables, locks = Tables(database), KeyedLocks()
    plugin = Plugin(
        networks=DockerNetworks(tables=tables, networks=networks, locks=locks),
        endpoints=DockerEndpoints(
            tables=tables, sandboxes=networks, locks=locks, now=now, changed=changed
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
    return Frontend(tables=tables, networks=networks, plugin=plugin, inside=inside)
