"""From a stored network to its entry in memory, as its driver takes it now.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from netkit.driver import Driver, Exclusive, Network, Policy
from netkit.ipam.pools import parse_subnets
from netkit.network.entry import Entry, Missing
from netkit.network.remote import GLOBAL, Around
from netkit.spec import NetworkRecord


def taken_by_driver(
    record: NetworkRecord, around: Around, drivers: Mapping[str, Driver], engine: str
) -> Entry:
    """Return the entry; an exception of the driver where it refuses what it once took."""
    spec = record.spec
    driver = drivers.get(spec.driver) or Missing()
    net = Network(
        id=record.id,
        name=spec.name,
        driver=spec.driver,
        subnets=parse_subnets(spec.subnets),
        internal=spec.internal,
        options=driver.parse(spec.options),
        engine=engine,
        shared=spec.scope == GLOBAL,
        peers=tuple(map(IPv4Address, around.peers)),
        known=around.known(),
    )
    policy = driver.policy(net)
    for _ in driver.network(net):
        pass  # what it refuses no earlier
    return Entry(record, net, driver, policy)


def refused_by_driver(record: NetworkRecord, why: str, engine: str) -> Entry:
    """Return the entry of a network that can be seen, left and removed only."""
    net = Network(
        id=record.id,
        name=record.spec.name,
        driver=record.spec.driver,
        internal=record.spec.internal,
        engine=engine,
        shared=record.spec.scope == GLOBAL,
    )
    return Entry(record, net, Missing(why), None)


def claims(driver: Driver, net: Network, policy: Policy | None) -> set[str]:
    """What no other network may have."""
    more = driver.claims(net) if isinstance(driver, Exclusive) else ()
    return {*((f"interface {policy.link}",) if policy else ()), *more}
