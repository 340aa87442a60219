"""Compute everything that should exist on the host for networks and endpoints.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from types import MappingProxyType

from netkit.driver import Access, Endpoint, Firewall, SharedSetup
from netkit.model import (
    HOST,
    Addr,
    Key,
    Link,
    Neigh,
    Netns,
    Resource,
    Route,
    Rule,
    State,
    Sysctl,
    state,
)
from netkit.network.config import NetworkConfig
from netkit.network.endpoint import AttachedEndpoint, sysctls
from netkit.network.endpoint_store import NO_NAMESPACE
from netkit.network.entry import NetworkEntry
from netkit.network.handover import handed_over, made_inside
from netkit.network.policy import InForce
from netkit.spec import EndpointRecord, Sandbox

FORWARDING = "net/ipv4/ip_forward"
NOTHING: InForce = MappingProxyType({})


class DesiredState:
    def __init__(self, firewall: Firewall, settings: NetworkConfig, engine: str) -> None:
        self.firewall = firewall
        self._settings = settings
        self._engine = engine
        self.prefix = f"netkit:{engine}:"  # begins every owner mark of ours
        self._global = f"{self.prefix}global"
        self.administered: Callable[[str], bool] = lambda _: False  # by id of a sandbox

    def base(self) -> State:
        """Return what all networks need."""
        return self._state(self.firewall.setup(self._global))

    def networks(self, entries: Iterable[NetworkEntry]) -> State:
        """Return everything these networks need on the host, shared resources included."""
        entries = list(entries)
        resources: list[Resource] = [*self.firewall.setup(self._global)] if entries else []
        for driver in {e.driver.name: e.driver for e in entries}.values():
            resources += driver.setup(self._global) if isinstance(driver, SharedSetup) else ()
        for entry in entries:
            resources += self.network(entry)
        return self._state(resources)

    def of_network(self, entry: NetworkEntry) -> State:
        """Return what goes with this network; not forwarding: other tools may need it by now."""
        return self._state(self.network(entry))

    def network(self, entry: NetworkEntry) -> Iterator[Resource]:
        yield from _labelled(entry.driver.network(entry.config), entry.name)
        if entry.policy is None:
            return
        yield from _labelled(self.firewall.network(entry.config, entry.policy), entry.name)
        if entry.policy.forwards and self._settings.ip_forward:
            yield Sysctl(name=FORWARDING, value="1", owner=self._global)

    def of_sandbox(
        self, sandbox: Sandbox, joined: Iterable[AttachedEndpoint], access: InForce = NOTHING
    ) -> State:
        """Return a namespace with all its endpoints, and the access rules in force for each."""
        resources: list[Resource] = []
        if sandbox.handover:
            pass  # the engine makes it, perhaps later
        elif sandbox.foreign:
            resources.append(Netns(path=sandbox.ns, accept_existing=True))
        elif sandbox.ns != HOST:
            owner = f"{self.prefix}{sandbox.id[:12]}"
            resources.append(Netns(path=sandbox.ns, owner=owner))
            for name, value in sorted(self._settings.sysctls.items()):
                path = name.replace(".", "/")
                resources.append(Sysctl(name=path, value=value, ns=sandbox.ns, owner=owner))
        for entry, record in joined:
            resources += self.endpoint(sandbox, entry, record, access.get(record.id, ()))
        return self._state(resources)

    def possible_leftovers(
        self, sandbox: Sandbox, joined: Iterable[AttachedEndpoint], access: InForce = NOTHING
    ) -> State:
        """Return what may exist of these endpoints, which may contradict each other.

        Of one that was leaving and one that took its place both carry the default route.
        """
        out: dict[Key, Resource] = dict(self.of_sandbox(sandbox, ()))
        for each in joined:
            out |= self.of_sandbox(sandbox, [each], access)
        return out

    def of_ending(
        self, sandbox: Sandbox, joined: Iterable[AttachedEndpoint], access: InForce = NOTHING
    ) -> State:
        """As `possible_leftovers`, without what goes with the namespace, or with a link of these.

        To look at that and to delete it step by step were 48 of the 128 system calls of a removal.
        """
        left = self.possible_leftovers(sandbox, joined, access)
        namespace = left.get(("netns", sandbox.ns))
        if not isinstance(namespace, Netns) or namespace.accept_existing:
            return left
        return {
            key: r for key, r in left.items()
            if not isinstance(r, Addr | Neigh | Route | Sysctl) or r.ns != sandbox.ns
        }  # fmt: skip

    def endpoints(
        self, sandbox: Sandbox, joined: Iterable[AttachedEndpoint], access: InForce
    ) -> State:
        """Return what these endpoints alone need."""
        out: dict[Key, Resource] = {}
        for entry, record in joined:
            found = self.endpoint(sandbox, entry, record, access.get(record.id, ()))
            out |= self._state(found)
        return out

    def endpoint(
        self,
        sandbox: Sandbox,
        entry: NetworkEntry,
        record: EndpointRecord,
        access: Sequence[Access] = (),
    ) -> Iterator[Resource]:
        ep = self._endpoint(sandbox, record, access)
        wires = list(entry.driver.endpoint(entry.config, ep))
        if sandbox.handover:
            wires = list(handed_over(wires, sandbox))
        yield from wires
        if entry.policy is not None and (record.ports or access):
            made = self.firewall.endpoint(entry.config, entry.policy, ep, record.ports, access)
            yield from _labelled(made, f"{record.owner_name} on {entry.name}")
        if sandbox.handover:
            return  # settings of the interface are the engine's
        # The settings of an interface exist once it does.
        after = tuple(w.key for w in wires if isinstance(w, Link))
        for name, value in sysctls(record.spec, record.ifname).items():
            yield Sysctl(
                name=name, value=value, ns=sandbox.ns, owner=ep.owner(entry.config),
                depends_on=after, asked=True,
            )  # fmt: skip

    def made_inside(
        self, sandbox: Sandbox, entry: NetworkEntry, record: EndpointRecord
    ) -> tuple[dict[Key, Link], dict[Key, Resource]]:
        """See `handover.made_inside`; nothing unless its engine has the namespace."""
        if not sandbox.handover or sandbox.ns == NO_NAMESPACE:
            return {}, {}
        ep = self._endpoint(sandbox, record, ())
        return made_inside(entry.driver.endpoint(entry.config, ep), sandbox)

    def _endpoint(
        self, sandbox: Sandbox, record: EndpointRecord, access: Sequence[Access]
    ) -> Endpoint:
        """An endpoint as drivers see it."""
        return Endpoint(
            id=record.id,
            network=record.network,
            addresses=tuple(map(ip_interface, record.addresses)),
            mac=record.mac or None,
            ns=sandbox.ns,
            ifname=record.ifname,
            gateway=record.is_default,
            published=any(p.host_port for p in record.ports),
            has_accept_rules=any(a.verdict == "accept" for a in access),
            router=ip_address(record.gateway) if record.gateway else None,
            access=tuple(access),
            administered=self.administered(sandbox.id),
        )

    def _state(self, resources: Iterable[Resource]) -> State:
        if self._settings.ipv6_stack:
            return state(resources)
        return state(r for r in resources if not _of_ipv6(r))


def _labelled(resources: Iterable[Resource], label: str) -> Iterator[Resource]:
    """Rules with the names of what they are for."""
    for r in resources:
        yield replace(r, label=label) if isinstance(r, Rule) else r


def _of_ipv6(r: Resource) -> bool:
    return isinstance(r, Sysctl) and r.name.startswith("net/ipv6/")
