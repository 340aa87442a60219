"""Implements the protocols of `netkit.network.api`; what is about one sandbox is in `sandbox`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from netkit import threads
from netkit.driver import Driver, Firewall, Policy, Traits
from netkit.errors import Forbidden, InUse
from netkit.ipam.allocator import Addresses
from netkit.ipam.dhcp_leases import Leases, NoWire
from netkit.locks import Locks
from netkit.model import IPNetwork, State
from netkit.network.access import UNREADABLE, AccessRule, AccessRules, checked
from netkit.network.address_acquirer import Claiming, NoSegments, Segments
from netkit.network.api import Names, NoNames
from netkit.network.config import Settings
from netkit.network.context import Parts
from netkit.network.desired import Wiring
from netkit.network.deviation import LinkCheck
from netkit.network.drift import Repair, nothing, repair_networks
from netkit.network.driver_options import unread
from netkit.network.endpoint import check_want, static_address
from netkit.network.endpoint_store import Records
from netkit.network.global_networks import Sharing, reserve_shared
from netkit.network.lifecycle import Founding, foreign_docker0
from netkit.network.link_drift import LinkDrift
from netkit.network.link_scope import Scopes
from netkit.network.policy import Policies
from netkit.network.registry import TABLES, Catalog
from netkit.network.remote import Cluster, NoCluster
from netkit.network.restore import converge_all, restore_networks, restore_sandboxes
from netkit.network.sandbox import Sandboxes
from netkit.portallocator import HostPorts
from netkit.reconcile.converge import Converger
from netkit.reconcile.plan import Plan
from netkit.reconcile.resync import ResyncResult
from netkit.reconcile.retry import Owing
from netkit.spec import (
    CreatedNetwork,
    EndpointRecord,
    EndpointSpec,
    NetworkRecord,
    NetworkSpec,
    Opening,
    Sandbox,
)
from netkit.store import Database


def nowhere() -> Iterable[IPNetwork]:
    """Report no networks in use: for hosts of which nothing is known."""
    return ()


class Networks:
    """`restore` must have run once before anything else is asked.

    `occupied` returns networks in use on the host: on-link routes, and nameservers as /32.
    `before_sweep` is called in `restore` when all that should be there is.  `random` gives n
    random bits, `now_ns` nanoseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        converger: Converger,
        drivers: Mapping[str, Driver],
        firewall: Firewall,
        *,
        engine: str,
        settings: Settings = Settings(),  # noqa: B008  a frozen value
        names: Names | None = None,
        ports: HostPorts | None = None,
        occupied: Callable[[], Iterable[IPNetwork]] = nowhere,
        before_sweep: Callable[[], None] = lambda: None,
        segments: Segments | None = None,
        leases: Leases | None = None,
        cluster: Cluster | None = None,
        random: Callable[[int], int] = secrets.randbits,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        database.ensure("networks", TABLES)
        addresses = Addresses(database, self._called)
        ports = ports or HostPorts()
        ports.called = self._called
        self.named: Callable[[str], str] = lambda _: ""  # names sandboxes that are not open
        records, self._rules = Records(database), AccessRules(database)
        self._before_sweep = before_sweep
        self._locks = Locks()
        self._cluster = cluster or NoCluster()
        self._leases = leases or Leases(database, NoWire(), now=time.monotonic, random=random)
        catalog = Catalog(
            database, addresses, drivers, engine=engine, pools=settings.pools, occupied=occupied
        )
        self._parts = Parts(
            database=database,
            catalog=catalog,
            addresses=addresses,
            records=records,
            ports=ports,
            wiring=Wiring(firewall, settings, engine),
            policies=Policies(
                records, self._rules, catalog.around.records, catalog.around.complete
            ),
            converger=converger,
            names=names or NoNames(),
            claiming=Claiming(
                database=database,
                addresses=addresses,
                records=records,
                segments=segments or NoSegments(),
                leases=self._leases,
                cluster=self._cluster,
            ),
            owing=Owing(),
            random=random,
        )
        self._founding = Founding(self._parts, self._cluster, self._locks, settings, now_ns)
        self._sandboxes = Sandboxes(self._parts)
        # No layer between callers and what is about one sandbox.
        s = self._sandboxes
        self.open, self.close, self.renew = s.open, s.close, s.renewing.renew
        self.connect, self.disconnect, self.rename = s.connect, s.disconnect, s.rename
        self._leases.lost = self._sandboxes.lose
        p = self._parts
        scopes = Scopes(p.catalog, p.records, p.policies, p.wiring, self._sandboxes.locks)
        self.links = LinkDrift(converger, scopes)
        self.sharing = Sharing(self._parts, self._founding, self._sandboxes, self._locks)

    def _called(self, sandbox_id: str) -> str:
        """For messages: "container web", by its id if it has no name here."""
        row = self._parts.records.sandbox(sandbox_id)
        name = row.opened.sandbox.name if row else self.named(sandbox_id)
        return f"container {name or sandbox_id[:12]}"

    # networks

    def create(self, spec: NetworkSpec) -> CreatedNetwork:
        driver = self._parts.catalog.driver(spec)
        warnings = unread(spec.options, driver.options, f"the {spec.driver} driver")
        return CreatedNetwork(self._founding.create(spec).record, warnings)

    def remove(self, ref: str) -> NetworkRecord:
        entry = self._parts.catalog.find(ref)
        if entry.record.builtin:
            raise Forbidden(f"{entry.name} is a pre-defined network and cannot be removed")
        self._founding.remove(entry)
        return entry.record

    def find(self, ref: str) -> NetworkRecord:
        return self._parts.catalog.find(ref).record

    def all(self) -> list[NetworkRecord]:
        return [e.record for e in self._parts.catalog.all()]

    def refused(self) -> dict[str, str]:
        """By name, why networks that are stored cannot be used: their drivers refuse them now."""
        return self._parts.catalog.refused()

    def traits(self, record: NetworkRecord) -> Traits:
        return self._parts.catalog.traits(record)

    # endpoints

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        return self._parts.records.of(network=network, sandbox=sandbox, ready=True)

    def reserve(
        self, sandbox_id: str, wants: Sequence[EndpointSpec], *, more: bool = False
    ) -> None:
        p = self._parts
        with reserve_shared(p.catalog, self._cluster, sandbox_id, wants), p.database.transaction():
            if not more:
                p.addresses.release(sandbox_id, kind="static")
            for want in wants:
                entry = p.catalog.get(want.network)
                check_want(entry, want)
                if want.ip:
                    _, address = static_address(entry, want.ip)
                    p.claiming.doubt(entry.record.id, address)
                    p.addresses.claim(entry.record.id, address, "static", sandbox_id)

    def unreserve(self, sandbox_id: str, network_id: str) -> None:
        self._parts.addresses.release(sandbox_id, network=network_id, kind="static")
        self._cluster.stir()

    def forget(self, sandbox_id: str) -> None:
        if self._parts.records.sandbox(sandbox_id) is not None:
            raise InUse(f"sandbox {sandbox_id} is open: close it first")
        self._parts.addresses.release(sandbox_id, kind="static")
        self._cluster.stir()
        self._rules.forget(sandbox_id)

    # access rules

    def policy(self, id: str) -> Policy | None:
        return self._parts.catalog.get(id).policy

    def access(self) -> list[AccessRule]:
        return self._rules.stored()

    def allow(self, rule: AccessRule, *, first: bool = False) -> AccessRule:
        made = self._rules.add(checked(rule), id=f"{self._parts.random(48):012x}", first=first)
        try:
            self._sandboxes.applying.apply(made.target)
        except BaseException:
            self._rules.drop(made.id)
            raise
        return made

    def disallow(self, ref: str) -> AccessRule:
        row = self._rules.find(ref)
        rule = row.rule
        self._rules.drop(rule.id)
        try:
            self._sandboxes.applying.apply(rule.target)
        except BaseException:
            self._rules.put_back(row)
            raise
        if rule.verdict == UNREADABLE:  # what it stood for is known by what is left alone
            threads.attempt("removing what an access rule stood for", self.repair)
        return rule

    def reopen(self, sandbox_id: str, network_id: str, opens: Sequence[Opening]) -> None:
        self._sandboxes.applying.reopen(sandbox_id, network_id, tuple(opens))

    def origins(self) -> dict[str, str]:
        return self._sandboxes.applying.origins({r.target for r in self._rules.of()})

    # against other tools

    def drift(self) -> Plan:
        """Return the steps that would repair the firewall; none where it has no drift."""
        return self._parts.converger.converge_late(self._repair().change, dry=True)

    def repair(self) -> ResyncResult:
        owed = self._parts.owing.settle(waiting=False)
        repair, late = self._repair(), self._parts.converger.converge_late
        plan = late(repair.change)
        busy = repair.busy
        if plan:  # strays are known once all rules are back
            plan += late(repair.change)
        return ResyncResult(plan, busy or repair.busy or owed)

    def repair_drivers(
        self, chosen: Callable[[Traits], bool], marked: Callable[[str], State] = nothing
    ) -> ResyncResult:
        """Repair everything that networks of some drivers need, not only the firewall.

        `chosen` selects drivers by their traits.  Of what `marked` finds whose mark has our
        prefix, only what is desired stays.
        """
        owed = self._parts.owing.settle()
        plan, busy = repair_networks(
            self._parts,
            self._sandboxes.locks,
            lambda r: chosen(self.traits(r)),
            marked,
            self.links.restrained,
        )
        self.links.applied(plan)
        return ResyncResult(plan, busy or owed)

    def check_links(self, refs: Sequence[str] = ()) -> LinkCheck:
        entries = [self._parts.catalog.find(ref) for ref in refs]
        return self.links.check({e.net.owner for e in entries} or None)

    def _repair(self) -> Repair:
        return Repair(self._parts, self._sandboxes.locks)

    # the daemon's own start

    def start(self) -> None:
        """Run `restore` where no container can be alive: a first start, a reboot, a test."""
        self.restore({})

    def restore(self, live: Mapping[str, Sandbox]) -> None:
        restore_sandboxes(self._parts.records, self._sandboxes, live)
        restore_networks(self._parts)
        with foreign_docker0():
            self._founding.built_in()
            converge_all(self._parts, self._sandboxes, live, self._before_sweep)
        self._leases.start()
