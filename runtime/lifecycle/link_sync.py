"""Update links (`--link`) when an address or a name changes, or a link is removed."""

from __future__ import annotations

from netkit.errors import NotFound
from runtime.container.links import LINKS
from runtime.container.links import of as links_of
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.lifecycle.supervisor import Supervisor
from runtime.network import links
from runtime.network.sandbox import ContainerNetwork


class LinkSync:
    def __init__(
        self, store: ContainerStore, sandboxes: ContainerNetwork, supervisor: Supervisor
    ) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._supervisor = supervisor

    def started(self, child: Container) -> None:
        """Update the parents of a child that has started: its address may have changed."""
        for parent in self._store.relating():
            if child.id in links_of(parent).values():
                self._sandboxes.refresh_links(parent)

    def renamed(self, changed: Container) -> None:
        """Update the links of a renamed container and of its parents."""
        for c in self._store.relating():
            if links_of(c) and (c is changed or changed.id in links_of(c).values()):
                with self._supervisor.lock(c.id):
                    self._refresh(c)

    def remove(self, ref: str) -> None:
        """Remove a link, and not the containers: `rm --link PARENT/ALIAS`."""
        name, _, alias = ref.removeprefix("/").rpartition("/")
        c = self._store.find(name) if name else None
        if c is None or alias not in links_of(c):
            raise NotFound(f"no such link: {ref}: give it as PARENT/ALIAS")
        with self._supervisor.lock(c.id):
            c.extra[LINKS] = {a: id for a, id in links_of(c).items() if a != alias}
            c.host_config.links = None
            self._refresh(c)

    def _refresh(self, c: Container) -> None:
        links.update_shown_links(c, self._store.find)
        self._store.save(c)
        self._sandboxes.refresh_links(c)
