"""What the use cases on networks and sandboxes work with, constructed once.

A class or function that needs up to five of these takes them one by one; the others take them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netkit.ipam.allocator import AddressAllocator
from netkit.network.address_acquirer import AddressAcquirer
from netkit.network.api import NamePublisher
from netkit.network.desired import DesiredState
from netkit.network.endpoint_store import EndpointStore
from netkit.network.policy import PolicyResolver
from netkit.network.registry import NetworkRegistry
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import Converger
from netkit.reconcile.retry import RetryQueue
from netkit.store import Database


@dataclass(frozen=True, kw_only=True)
class NetworkContext:
    database: Database
    registry: NetworkRegistry
    addresses: AddressAllocator
    records: EndpointStore
    ports: PortAllocator
    desired_state: DesiredState
    policies: PolicyResolver
    converger: Converger
    names: NamePublisher
    acquirer: AddressAcquirer
    retries: RetryQueue
    random: Callable[[int], int]  # n random bits
