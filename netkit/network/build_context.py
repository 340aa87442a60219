"""Construct what the use cases on networks and sandboxes work with, from its database up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from netkit.driver import Driver
from netkit.ipam.allocator import AddressAllocator
from netkit.ipam.dhcp_leases import DhcpLeases
from netkit.ipam.pools import Pool
from netkit.model import IPNetwork
from netkit.network.access import AccessRuleStore
from netkit.network.address_acquirer import AddressAcquirer, ArpProber
from netkit.network.api import NamePublisher
from netkit.network.context import NetworkContext
from netkit.network.desired import DesiredState
from netkit.network.endpoint_store import EndpointStore
from netkit.network.overlay_addresses import OverlayAddresses
from netkit.network.overlay_networks import NotifyingPublisher
from netkit.network.policy import PolicyResolver
from netkit.network.registry import NetworkRegistry
from netkit.network.remote import Cluster
from netkit.network.requested_addresses import RequestedAddresses
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import Converger
from netkit.reconcile.retry import RetryQueue
from netkit.store import Database


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What networks use besides their own rows and the kernel; `Controller` has the contracts."""

    drivers: Mapping[str, Driver]
    pools: Sequence[Pool]
    occupied: Callable[[], Iterable[IPNetwork]]
    names: NamePublisher
    ports: PortAllocator
    segments: ArpProber
    leases: DhcpLeases
    cluster: Cluster
    overlay: OverlayAddresses
    random: Callable[[int], int]  # n random bits
    title: Callable[[str], str]  # a sandbox in messages, by its id
    changed: Callable[[], None]  # a network or endpoint was; from any thread


def build_context(
    database: Database,
    converger: Converger,
    desired_state: DesiredState,
    rules: AccessRuleStore,
    around: Surroundings,
    *,
    engine: str,
) -> NetworkContext:
    addresses = AddressAllocator(database, around.title)
    around.ports.called = around.title
    records = EndpointStore(database)
    registry = NetworkRegistry(
        database,
        addresses,
        around.drivers,
        engine=engine,
        pools=around.pools,
        occupied=around.occupied,
    )
    registry.on_change = around.changed
    remote = registry.remote_state
    return NetworkContext(
        database=database,
        registry=registry,
        addresses=addresses,
        records=records,
        ports=around.ports,
        desired_state=desired_state,
        policies=PolicyResolver(records, rules, remote.records, remote.complete),
        converger=converger,
        names=NotifyingPublisher(around.names, around.changed),
        acquirer=_acquirer(database, addresses, records, registry, around),
        retries=RetryQueue(),
        random=around.random,
    )


def _acquirer(
    database: Database,
    addresses: AddressAllocator,
    records: EndpointStore,
    registry: NetworkRegistry,
    around: Surroundings,
) -> AddressAcquirer:
    requested = RequestedAddresses(
        database=database,
        addresses=addresses,
        records=records,
        overlay=around.overlay,
        remote=registry.remote_state.of,
    )
    return AddressAcquirer(
        database=database,
        addresses=addresses,
        records=records,
        segments=around.segments,
        leases=around.leases,
        requested=requested,
        cluster=around.cluster,
    )
