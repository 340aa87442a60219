"""Implements the protocols of `netkit.network.api`; what is about one sandbox is in `sandbox`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from netkit.driver import Driver, Firewall, Overlay, OverlayPorts, TrafficPolicy, Traits
from netkit.errors import InUse
from netkit.ipam.dhcp_leases import DhcpLeases, NoWire
from netkit.locks import KeyedLocks
from netkit.model import IPNetwork, State
from netkit.network import address_use
from netkit.network.access import AccessRuleStore
from netkit.network.access_rules import AccessRules
from netkit.network.address_acquirer import ArpProber, NoArpProber
from netkit.network.api import NamePublisher, NullNamePublisher
from netkit.network.build_context import Surroundings, build_context
from netkit.network.config import NetworkConfig
from netkit.network.desired import DesiredState
from netkit.network.deviation import LinkCheck
from netkit.network.drift import DriftRepair, nothing, repair_networks, rules_not_in_force
from netkit.network.driver_options import unread
from netkit.network.endpoint_check import EndpointCheck
from netkit.network.global_networks import GlobalNetworks
from netkit.network.lifecycle import NetworkLifecycle, foreign_docker0
from netkit.network.link_drift import LinkDrift
from netkit.network.link_scope import Scopes
from netkit.network.other_engines import OtherEngines
from netkit.network.overlay_addresses import NoOverlay, OverlayAddresses
from netkit.network.overlay_members import OverlayMembers
from netkit.network.overlay_networks import OverlayNetworks
from netkit.network.plans import NetworkPlans, refuse_builtin
from netkit.network.reconfigure import Reconfiguration
from netkit.network.registry import TABLES
from netkit.network.remote import Cluster, NoCluster
from netkit.network.reservations import Reservations
from netkit.network.restore import converge_everything, restore_networks, restore_sandboxes
from netkit.network.sandbox import SandboxController
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import Converger
from netkit.reconcile.plan import Plan
from netkit.reconcile.resync import ResyncResult
from netkit.spec import (
    CreatedNetwork,
    EndpointRecord,
    EndpointSpec,
    LinkedPorts,
    NetworkRecord,
    NetworkSpec,
    Sandbox,
)
from netkit.store import Database


def no_occupied_subnets() -> Iterable[IPNetwork]:
    """Report no networks in use: for hosts of which nothing is known."""
    return ()


class Controller:
    """`restore` must have run once before anything else is asked.

    `occupied` returns networks in use on the host: on-link routes, and nameservers as /32.
    `before_sweep` is called in `restore` when all that should be there is.  `random` gives n
    random bits, `now_ns` nanoseconds since the epoch.
    """

    def __init__(
        self, database: Database, converger: Converger, drivers: Mapping[str, Driver],
        firewall: Firewall, *, engine: str,
        settings: NetworkConfig = NetworkConfig(),  # noqa: B008  a frozen value
        names: NamePublisher | None = None,
        ports: PortAllocator | None = None,
        occupied: Callable[[], Iterable[IPNetwork]] = no_occupied_subnets,
        before_sweep: Callable[[], None] = lambda: None,
        segments: ArpProber | None = None,
        leases: DhcpLeases | None = None,
        cluster: Cluster | None = None,
        overlay_addresses: OverlayAddresses | None = None,
        random: Callable[[int], int] = secrets.randbits,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        database.migrate("networks", TABLES)
        self.named: Callable[[str], str] = lambda _: ""  # names sandboxes that are not open
        # Of any network, or endpoint on one; from any thread: it must neither block nor raise.
        self.on_change: Callable[[], None] = lambda: None
        self.also_occupied: list[Callable[[], Iterable[IPNetwork]]] = []
        self._before_sweep, self._cluster = before_sweep, cluster or NoCluster()
        self._rules = AccessRuleStore(database)
        self._leases = leases or DhcpLeases(database, NoWire(), now=time.monotonic, random=random)
        around = Surroundings(
            drivers=drivers, pools=settings.pools, ports=ports or PortAllocator(),
            occupied=lambda: [*occupied(), *(n for more in self.also_occupied for n in more())],
            names=names or NullNamePublisher(), segments=segments or NoArpProber(),
            leases=self._leases, cluster=self._cluster, overlay=overlay_addresses or NoOverlay(),
            random=random, title=self._called, changed=self._changed,
        )  # fmt: skip
        desired_state = DesiredState(firewall, settings, engine)
        self._parts = build_context(
            database, converger, desired_state, self._rules, around, engine=engine
        )
        self._compose(drivers, settings, now_ns)

    def _compose(
        self, drivers: Mapping[str, Driver], settings: NetworkConfig, now_ns: Callable[[], int]
    ) -> None:
        """Construct the use cases: what is about one sandbox, one rule or one address is called
        without a layer in between."""
        p, locks = self._parts, KeyedLocks()
        self._lifecycle = NetworkLifecycle(p, self._cluster, locks, settings, now_ns)
        s = self._sandboxes = SandboxController(p)
        self._leases.on_lost = s.evict
        self.plans = NetworkPlans(p, self._lifecycle, self._cluster, s.locks)
        self._reconfiguration = Reconfiguration(p, s, locks)
        self.prepare, self.open = s.prepare, s.open
        self.close, self.renew = s.close, s.renewing.renew
        self.connect, self.disconnect, self.rename = s.connect, s.disconnect, s.rename
        endpoints = EndpointCheck(p, s)
        self.resources, self.deviations = endpoints.resources, endpoints.deviations
        engines = OtherEngines(p, s)
        self.hand_over, self.publish = engines.hand_over, engines.publish
        self.identify, self.far_end = engines.identify, engines.far_end
        self.name_interface = engines.name_interface
        self._reservations = Reservations(p, self._cluster, p.acquirer.requested)
        self.reserve, self.unreserve = self._reservations.reserve, self._reservations.unreserve
        self.lease = self._reservations.lease
        rules = AccessRules(self._rules, s.policy_sync, p.random, self.repair)
        self.access, self.rule_origins = self._rules.stored, rules.origins
        self.add_access_rule, self.remove_access_rule = rules.add, rules.remove
        scopes = Scopes(p.registry, p.records, p.policies, p.desired_state, s.locks)
        self.links = LinkDrift(p.converger, scopes)
        self.overlay_networks = OverlayNetworks(p, drivers, s.evict)
        self.overlay_members = OverlayMembers(p, locks, s.policy_sync)
        self.global_networks = GlobalNetworks(p, self._lifecycle, s, locks)

    def _changed(self) -> None:
        self.on_change()

    def _called(self, sandbox_id: str) -> str:
        """For messages: "container web", "container web of docker"; by its id without a name."""
        row = self._parts.records.sandbox(sandbox_id)
        if row is not None:
            return row.opened.sandbox.title
        return f"container {self.named(sandbox_id) or sandbox_id[:12]}"

    # networks

    def create(self, spec: NetworkSpec) -> CreatedNetwork:
        driver = self._parts.registry.driver(spec)
        warnings = unread(spec.options, driver.options, f"the {spec.driver} driver")
        return CreatedNetwork(self._lifecycle.create(spec).record, warnings)

    def reconfigure(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord:
        entry = self._parts.registry.find(ref)
        return self._reconfiguration.change(entry, options, gateway).record

    def label(self, ref: str, key: str, value: str) -> None:
        """Set a label of a network.  NotFound."""
        entry = self._parts.registry.find(ref)
        spec = replace(entry.record.spec, labels={**entry.record.spec.labels, key: value})
        record = msgspec.structs.replace(entry.record, spec=spec)
        self._parts.registry.store(replace(entry, record=record))

    def remove(self, ref: str) -> NetworkRecord:
        entry = self._parts.registry.find(ref)
        refuse_builtin(entry)
        self._lifecycle.remove(entry)
        return entry.record

    def find(self, ref: str) -> NetworkRecord:
        return self._parts.registry.find(ref).record

    def check_options(self, spec: NetworkSpec) -> None:
        self._parts.registry.driver(spec).parse(spec.options)

    def all(self) -> list[NetworkRecord]:
        return [e.record for e in self._parts.registry.all()]

    def refused(self) -> dict[str, str]:
        """By name, why networks that are stored cannot be used: their drivers refuse them now."""
        return self._parts.registry.refused()

    def traits(self, record: NetworkRecord) -> Traits:
        return self._parts.registry.traits(record)

    def address_use(self, refs: Sequence[str] = ()) -> list[address_use.SubnetUse]:
        registry = self._parts.registry
        entries = [registry.find(ref) for ref in refs] if refs else registry.all()
        return list(address_use.of_networks(entries, self._parts.addresses))

    # endpoints

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        records = self._parts.records
        found = records.of_sandbox(network=network, sandbox=sandbox, ready=True)
        if sandbox and not found:
            other = records.of_container(sandbox)
            found = [r for r in other if network in {None, r.network}]
        return found

    def endpoints_around(
        self, networks: Iterable[str], sandboxes: Iterable[str] = ()
    ) -> list[EndpointRecord]:
        return self._parts.records.around(networks, sandboxes)

    def occupied(self) -> set[str]:
        return self._parts.records.networks()

    def sandbox(self, id: str) -> Sandbox | None:
        row = self._parts.records.sandbox(id)
        return row.opened.sandbox if row else None

    def of_engine(self, engine: str) -> list[Sandbox]:
        opened = (row.opened.sandbox for row in self._parts.records.sandboxes())
        return [s for s in opened if s.engine == engine]

    def readdress(self, sandbox_id: str, want: EndpointSpec) -> EndpointRecord | None:
        if self._parts.records.sandbox(sandbox_id) is not None:
            return self._sandboxes.readdressing.change(sandbox_id, want)
        self._reservations.replace(sandbox_id, want)
        return None

    def forget(self, sandbox_id: str) -> None:
        if self._parts.records.sandbox(sandbox_id) is not None:
            raise InUse(f"sandbox {sandbox_id} is open: close it first")
        self._reservations.forget(sandbox_id)
        self._rules.forget(sandbox_id)

    # policy

    def policy(self, id: str) -> TrafficPolicy | None:
        return self._parts.registry.get(id).policy

    def overlay(self, id: str) -> OverlayPorts | None:
        entry = self._parts.registry.get(id)
        return entry.driver.overlay(entry.config) if isinstance(entry.driver, Overlay) else None

    def set_linked_ports(
        self, sandbox_id: str, network_id: str, opens: Sequence[LinkedPorts]
    ) -> None:
        self._sandboxes.policy_sync.set_linked_ports(sandbox_id, network_id, tuple(opens))

    # against other tools

    def drift(self) -> Plan:
        """Return the steps that would repair the firewall; none where it has no drift."""
        return self._parts.converger.converge_lazily(self._repair().desired_change, dry=True)

    def repair(self) -> ResyncResult:
        owed = self._parts.retries.run_due(waiting=False)
        repair, late = self._repair(), self._parts.converger.converge_lazily
        plan = late(repair.desired_change)
        busy = repair.had_operations
        if plan:  # strays are known once all rules are back
            plan += late(repair.desired_change)
        return ResyncResult(plan, busy or repair.had_operations or owed)

    def repair_drivers(
        self, chosen: Callable[[Traits], bool], marked: Callable[[str], State] = nothing
    ) -> ResyncResult:
        """Repair everything that networks of some drivers need, not only the firewall.

        `chosen` selects drivers by their traits.  Of what `marked` finds whose mark has our
        prefix, only what is desired stays.
        """
        owed = self._parts.retries.run_due()
        plan, busy = repair_networks(
            self._parts,
            self._sandboxes.locks,
            lambda r: chosen(self.traits(r)),
            marked,
            self.links.restrained,
        )
        self.links.applied(plan)
        return ResyncResult(plan, busy or owed)

    def unenforced(self) -> list[str]:
        """What of access rules is not in force in switches, a line each, for people."""
        if not any(self.traits(r).openvswitch for r in self.all()):
            return []
        repair = DriftRepair(
            self._parts, self._sandboxes.locks, lambda r: self.traits(r).openvswitch
        )
        return rules_not_in_force(repair)

    def check_links(self, refs: Sequence[str] = ()) -> LinkCheck:
        entries = [self._parts.registry.find(ref) for ref in refs]
        return self.links.check({e.config.owner for e in entries} or None)

    def _repair(self) -> DriftRepair:
        return DriftRepair(self._parts, self._sandboxes.locks)

    # the daemon's own start

    def start(self) -> None:
        """Run `restore` where no container can be alive: a first start, a reboot, a test."""
        self.restore({})

    def restore(self, live: Mapping[str, Sandbox]) -> None:
        restore_sandboxes(self._parts.records, self._sandboxes, live)
        restore_networks(self._parts)
        with foreign_docker0():
            self._lifecycle.ensure_predefined()
            converge_everything(self._parts, self._sandboxes, live, self._before_sweep)
        self._leases.start()
