"""From a stored network to its entry in memory, as its driver takes it now.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from netkit.driver import Driver, Exclusive, Network, TrafficPolicy
from netkit.ipam.pools import parse_subnets
from netkit.network.entry import MissingDriver, NetworkEntry
from netkit.network.remote import SCOPE_GLOBAL, RemoteState
from netkit.spec import NetworkRecord


def taken_by_driver(
    record: NetworkRecord, around: RemoteState, drivers: Mapping[str, Driver], engine: str
) -> NetworkEntry:
    """Return the entry; an exception of the driver where it refuses what it once took."""
    spec = record.spec
    driver = drivers.get(spec.driver) or MissingDriver()
    net = Network(
        id=record.id,
        name=spec.name,
        driver=spec.driver,
        subnets=parse_subnets(spec.subnets),
        internal=spec.internal,
        options=driver.parse(spec.options),
        engine=engine,
        shared=spec.scope == SCOPE_GLOBAL,
        peers=tuple(map(IPv4Address, around.peers)),
        remote_endpoints=around.known(),
    )
    policy = driver.policy(net)
    for _ in driver.network(net):
        pass  # what it refuses no earlier
    return NetworkEntry(record, net, driver, policy)


def refused_by_driver(record: NetworkRecord, why: str, engine: str) -> NetworkEntry:
    """Return the entry of a network that can be seen, left and removed only."""
    net = Network(
        id=record.id,
        name=record.spec.name,
        driver=record.spec.driver,
        internal=record.spec.internal,
        engine=engine,
        shared=record.spec.scope == SCOPE_GLOBAL,
    )
    return NetworkEntry(record, net, MissingDriver(why), None)


def claims(driver: Driver, net: Network, policy: TrafficPolicy | None) -> set[str]:
    """What no other network may have."""
    more = driver.claims(net) if isinstance(driver, Exclusive) else ()
    return {*((f"interface {policy.link}",) if policy else ()), *more}
