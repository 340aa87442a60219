"""Implement the API's trace calls: one leg of a packet's path.  See netkit.diagnose.trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from ipaddress import IPv4Address
from typing import Any

from netkit.diagnose.choosing import Attached, Place
from netkit.diagnose.explain.grammar import address_of
from netkit.diagnose.trace.facts import HOST, Located, Registers, Wall
from netkit.diagnose.trace.leg import Ask, Leg
from netkit.diagnose.trace.live import LiveObserver
from netkit.diagnose.trace.undecided import leg
from netkit.errors import Conflict, NotFound
from netkit.kernel.ovn.databases import Databases
from netkit.kernel.ovn.names import LogicalNames
from netkit.kernel.ovs.switches import Switches
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.model.layout import FirewallLayout
from netkit.model.ovn import LogicalPath
from netkit.network.api import Networks, Policies
from netkit.network.remote import SCOPE_GLOBAL
from netkit.overlay.verbs import Locate
from netkit.spec import EndpointRecord, NetworkRecord
from runtime.container.model import Container
from runtime.network.attached import attached
from runtime.network.everyone import Containers, by_container
from runtime.network.known_networks import known_networks


class TraceService:
    """Implements ports.Trace."""

    def __init__(
        self,
        networks: Networks,
        store: Containers,
        *,
        policies: Policies,
        namespace: Callable[[str], str],
        switches: Switches,
        vswitchd: Vswitchd,
        ovn: Databases,
        backend: Callable[[], Mapping[str, Any]],
        overlay: Callable[[Locate], Any],
        elsewhere: Callable[[], Sequence[EndpointRecord]] = tuple,
        host_of: Callable[[EndpointRecord], str] = lambda _: "",
        layouts: Sequence[FirewallLayout] = (),
    ) -> None:
        """`backend`: the firewall, as `info` shows it; `layouts` of all firewall plugins;
        `overlay` asks the overlay's process (NotFound: it does not run); `elsewhere`: endpoints of
        other hosts, as far as this one knows them, and `host_of` one of these is its host's name.
        """
        self._networks = networks
        self._policies = policies
        self._store = store
        self._namespace = namespace
        self._switches = switches
        self._vswitchd = vswitchd
        self._logical_names = LogicalNames(ovn)
        self._backend = backend
        self._layouts = layouts
        self._overlay, self._elsewhere, self._host_of = overlay, elsewhere, host_of

    def leg(self, ask: Ask) -> Leg:
        return leg(ask, self._observer())

    def locate(self, name: str) -> Place:
        if name == HOST:
            return Place(name=HOST, space=HOST, local=self._local(self._shared()))
        if address := address_of(name):
            return self._owner(address)
        try:
            container = self._store.find(name)
        except NotFound:
            if (remote := self._remote(name)) is not None:
                return remote
            raise
        space, shared = self._space(container), self._shared()
        return Place(
            name=container.name,
            space=space,
            running=container.state.alive and bool(space),
            host=self._stopped_host(container) if container.state.alive and not space else "",
            addresses=self._attached(self._networks.endpoints(sandbox=space), shared),
            local=self._local(shared),
        )

    def _remote(self, name: str) -> Place | None:
        """A container of another host, by name."""
        found = [e for e in self._elsewhere() if e.owner_name == name]
        addresses = self._attached(found, self._shared())
        if not addresses:
            return None
        on = self._host_of(found[0])
        return Place(name=name, space="", remote=True, on=on, addresses=addresses)

    def _attached(
        self, records: Sequence[EndpointRecord], shared: frozenset[str]
    ) -> tuple[Attached, ...]:
        return attached(records, self._networks.all(), shared)

    def _shared(self) -> frozenset[str]:
        """Ids of networks on whose segment other hosts may be: by their driver, or by a port that
        another tool gave to their bridge, say a network card or a tunnel."""
        facts = self._observer().wiring()
        ours = {place.port for _, place in facts.places}
        joined = {i.master for i in facts.interfaces.values() if i.name not in ours}
        names = {place.network for _, place in facts.places if place.bridge in joined}
        return frozenset(
            n.id for n in self._networks.all() if n.spec.name in names or self._is_wide(n)
        )

    def _is_wide(self, network: NetworkRecord) -> bool:
        traits = self._networks.traits(network)
        checked = traits.port_security is not None  # a LAN's ports
        wide = network.spec.scope == SCOPE_GLOBAL
        return wide or checked or traits.overlay or traits.openvswitch

    def _local(self, shared: frozenset[str]) -> tuple[str, ...]:
        """IPv4 subnets that no other host has, as far as this one knows."""
        return tuple(
            s.subnet
            for n in self._networks.all() if n.id not in shared
            for s in n.spec.subnets if "." in s.subnet
        )  # fmt: skip

    def _owner(self, address: IPv4Address) -> Place:
        shared = self._shared()
        for e in by_container(self._networks.endpoints()):
            own = tuple(a for a in self._attached([e], shared) if a.address == str(address))
            if own:
                local = self._local(shared)
                return Place(name=e.owner_name, space=e.sandbox, addresses=own, local=local)
        if address in self._observer().addresses(HOST):
            return Place(name=HOST, space=HOST, local=self._local(shared))
        raise NotFound(f"{address} is not on this host")

    def _space(self, c: Container) -> str:
        """Id of the sandbox the container runs in; "" if its owner does not run."""
        if c.host_config.network_mode == "host":
            return HOST
        other = c.host_config.network_of
        if other is None:
            return c.id
        try:
            self._namespace(c.id)
        except (Conflict, NotFound):
            return ""
        return self._space(self._store.find(other))

    def _stopped_host(self, c: Container) -> str:
        """Name of the container that owns its network namespace and does not run."""
        other = c.host_config.network_of
        with suppress(NotFound):
            return self._store.find(other).name if other else ""
        return other or ""

    def _observer(self) -> LiveObserver:
        return LiveObserver(
            "",
            [*known_networks(self._networks)],
            by_container(self._networks.endpoints()),
            self._namespace,
            self._switches,
            self._vswitchd,
            self._policies.rule_origins(),
            self._layouts,
            self._firewall,
            self._located,
            self._named,
        )

    def _named(self, registers: Registers) -> LogicalPath:
        return self._logical_names.look(
            registers.switch, registers.source, registers.target, registers.flows
        )

    def _located(self, vni: int, mac: str, address: str) -> Located:
        found = self._overlay(Locate(vni=vni, mac=mac or None, address=address))
        addresses = filter(None, map(address_of, found["addresses"]))
        known = {f.name: found[f.name] for f in fields(Located) if f.name in found}
        return Located(**{**known, "addresses": frozenset(addresses)})

    def _firewall(self) -> Wall:
        driver = str(self._backend().get("Driver", "none"))
        return Wall(driver=driver, drift=len(self._policies.drift()))
