"""Find containers of other hosts, by name, for commands about packets and rules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from netkit.diagnose.explain.grammar import LAN, spot
from netkit.errors import InvalidSpec, NotFound
from netkit.network.api import Networks
from netkit.spec import EndpointRecord
from runtime.container.store import ContainerStore


class Elsewhere:
    """`endpoints`: those of other hosts, on networks that this host has, too."""

    def __init__(
        self, networks: Networks, store: ContainerStore,
        endpoints: Callable[[], list[EndpointRecord]],
    ) -> None:  # fmt: skip
        self._networks, self._store = networks, store
        self.endpoints = endpoints

    def find(self, ref: str) -> list[EndpointRecord]:
        """Endpoints of the container that is called so, or whose id begins so; [] of none.

        InvalidSpec: several are.
        """
        known = self.endpoints()
        found = [r for r in known if r.owner_name == ref]
        found = found or [r for r in known if r.sandbox.startswith(ref)]
        if len({r.sandbox for r in found}) > 1:
            raise InvalidSpec(
                f"several containers of other hosts are called {ref}: give the id of one"
            )
        return found

    def namesakes(self, name: str) -> list[str]:
        """A warning, if other hosts have containers that are called as one of this host; or []."""
        ids = sorted({r.sandbox[:12] for r in self.endpoints() if r.owner_name == name})[:8]
        if not ids:
            return []
        return [
            f"container {name} of this host is meant; other hosts have one of that name, too, "
            f"which is named by its id: {', '.join(ids)}"
        ]

    def source(self, text: str) -> str:
        """One end of a question (`netkit.diagnose.explain.grammar`) in words that this host knows:
        a container elsewhere is an address, and the overlay's port that its packets come by."""
        found = self._named(text)
        if found is None:
            return text
        ports = self._networks.overlay(found.network)
        return text if ports is None else f"{LAN}{_address(found)}@{ports.vxlan or ports.tap}"

    def target(self, text: str) -> str:
        """As `source`: the address, and the port of the question."""
        found = self._named(text)
        if found is None or self._networks.overlay(found.network) is None:
            return text
        port = spot(text).port
        return f"{_address(found)}:{port}" if port else _address(found)

    def _named(self, text: str) -> EndpointRecord | None:
        """The endpoint elsewhere that is meant; None: it is not one."""
        end = spot(text)
        if end.kind != "container":
            return None
        with suppress(NotFound):
            self._store.find(end.name)
            return None
        found = [r for r in self.find(end.name) if r.address]
        if end.network:
            network = self._networks.find(end.network).id
            found = [r for r in found if r.network == network]
        return found[0] if found else None


def _address(record: EndpointRecord) -> str:
    return record.address.partition("/")[0]
