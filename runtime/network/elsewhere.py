"""Find containers of other hosts, by name, for commands about packets and rules.

    NAME, ID      of all hosts' containers; a name that this host has, too, is this host's
    HOST/NAME     of one host, by its nickname
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from netkit.diagnose.choosing import Place, choose
from netkit.diagnose.explain.grammar import LAN, Spot, address_of, spot
from netkit.errors import InvalidSpec, NotFound
from netkit.network.api import Networks
from netkit.spec import EndpointRecord
from runtime.network.attached import attached
from runtime.network.everyone import Containers

SHOWN = 8  # containers in one message


class Elsewhere:
    """`endpoints`: those of other hosts, on networks that this host has, too; `host_of` one of
    these is the name of its host, "" if that is not known."""

    def __init__(
        self, networks: Networks, store: Containers,
        endpoints: Callable[[], list[EndpointRecord]],
        host_of: Callable[[EndpointRecord], str] = lambda _: "",
    ) -> None:  # fmt: skip
        self._networks, self._store = networks, store
        self.endpoints, self.host_of = endpoints, host_of

    def find(self, ref: str) -> list[EndpointRecord]:
        """Endpoints of the container that is called so, or whose id begins so; [] of none.

        InvalidSpec: several are.
        """
        host, slash, name = ref.rpartition("/")
        known = self.endpoints()
        if slash:
            known = [r for r in known if host and self.host_of(r) == host]
        found = [r for r in known if r.owner_name == name]
        found = found or [r for r in known if name and r.sandbox.startswith(name)]
        if len({r.sandbox for r in found}) > 1:
            raise InvalidSpec(
                f"several containers of other hosts are called {ref}: name one by its host, or by "
                f"its id: {self._named_apart(found)}"
            )
        return found

    def namesakes(self, name: str) -> list[str]:
        """A warning, if other hosts have containers that are called as one of this host; or []."""
        found = [r for r in self.endpoints() if r.owner_name == name]
        if not found:
            return []
        return [
            f"container {name} of this host is meant; other hosts have one of that name, too: "
            f"{self._named_apart(found)}"
        ]

    def _named_apart(self, records: Sequence[EndpointRecord]) -> str:
        """Each container by HOST/NAME and its id."""
        those = {r.sandbox: r for r in records}
        names = sorted(
            f"{self.host_of(r)}/{r.owner_name} ({id[:12]})" if self.host_of(r) else id[:12]
            for id, r in those.items()
        )
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return ", ".join(names[:SHOWN]) + more

    def source(self, text: str, target: str = "") -> str:
        """One end of a question (`netkit.diagnose.explain.grammar`) in words that this host knows:
        a container elsewhere is an address, and the overlay's port that its packets come by.

        `target`: the other end.
        """
        end, found = self._named(text)
        if not found:
            return text
        address = self._chosen(end, found, target)
        (network,) = {r.network for r in found if address in _addresses(r)}
        ports = self._networks.overlay(network)
        return text if ports is None else f"{LAN}{address}@{ports.vxlan or ports.tap}"

    def target(self, text: str, source: str = "") -> str:
        """As `source`: the address, and the port of the question."""
        end, found = self._named(text)
        if not found:
            return text
        address = self._chosen(end, found, source)
        return f"{address}:{end.port}" if end.port else address

    def _named(self, text: str) -> tuple[Spot, list[EndpointRecord]]:
        """The endpoints elsewhere that are meant, on networks of the overlay; []: it is not one.

        NotFound: the host that is given has none of that name.  InvalidSpec: it is nothing.
        """
        host, slash, rest = text.partition("/")
        if address_of(host) or not rest:
            slash = ""  # a network, which is no end
        end = spot(rest if slash else text)
        if end.kind != "container":
            return (spot(text) if slash else end), []
        if not slash:
            with suppress(NotFound):
                self._store.find(end.name)
                return end, []
        found = [r for r in self.find(f"{host}/{end.name}" if slash else end.name) if r.address]
        if slash and not found:
            raise NotFound(f"no container {end.name} of host {host} is known here")
        if end.network:
            network = self._networks.find(end.network).id
            found = [r for r in found if r.network == network]
        return end, [r for r in found if self._networks.overlay(r.network) is not None]

    def _chosen(self, end: Spot, found: Sequence[EndpointRecord], other: str) -> str:
        """The address of a container elsewhere that a connection with the other end takes."""
        networks = self._networks.all()
        shared = {n.id for n in networks if self._networks.overlay(n.id) is not None}
        there = Place(name=end.name, space="", remote=True,
                      addresses=attached(found, networks, shared))  # fmt: skip
        near = None
        with suppress(NotFound, InvalidSpec):
            container = self._store.find(spot(other).name)
            own = attached(self._networks.endpoints(sandbox=container.id), networks, shared)
            near = Place(name=container.name, space=container.id, addresses=own)
        return choose(near, there, apart=True, explicit=bool(end.network)).address


def _addresses(record: EndpointRecord) -> set[str]:
    return {each.partition("/")[0] for each in record.addresses}
