"""Resolve a container's links to the current addresses of its running children."""

from __future__ import annotations

from netkit.errors import NotFound
from netkit.network.api import Networks
from runtime.container.links import of as links_of
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.network import links


class LinkResolver:
    def __init__(self, store: ContainerStore, networks: Networks) -> None:
        self._store = store
        self._networks = networks

    def environment(self, c: Container) -> list[str]:
        return [line for found in self._running(c) for line in links.environment(c.name, *found)]

    def hosts(self, c: Container) -> list[tuple[str, str]]:
        """(address, names) for its /etc/hosts."""
        return [links.hosts_line(*found) for found in self._running(c)]

    def _running(self, c: Container) -> list[tuple[str, Container, str]]:
        """(alias, child, its address)"""
        found = []
        try:
            default = self._networks.find("bridge")
        except NotFound:
            return []  # netkitd --bridge none
        for alias, id in links_of(c).items():
            child = self._store.get(id)
            if child is None:
                continue
            live = self._networks.endpoints(sandbox=id)
            if ip := links.address(live, default):
                found.append((alias, child, ip))
        return found
