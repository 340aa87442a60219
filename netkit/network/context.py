"""What the use cases on networks and sandboxes work with, constructed once.

A class or function that needs up to five of these takes them one by one; the others take them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netkit.ipam.allocator import Addresses
from netkit.network.address_acquirer import Claiming
from netkit.network.api import Names
from netkit.network.desired import Wiring
from netkit.network.endpoint_store import Records
from netkit.network.policy import Policies
from netkit.network.registry import Catalog
from netkit.portallocator import HostPorts
from netkit.reconcile.converge import Converger
from netkit.reconcile.retry import Owing
from netkit.store import Database


@dataclass(frozen=True, kw_only=True)
class Parts:
    database: Database
    catalog: Catalog
    addresses: Addresses
    records: Records
    ports: HostPorts
    wiring: Wiring
    policies: Policies
    converger: Converger
    names: Names
    claiming: Claiming
    owing: Owing
    random: Callable[[int], int]  # n random bits
