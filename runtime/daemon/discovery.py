"""Discover drivers, occupied subnets and host settings that networks are created from."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

from netkit.driver import Driver, HostAware, HostFacts, OvnFacts
from netkit.errors import InvalidSpec
from netkit.gone import if_there
from netkit.ipam.pools import DEFAULT_POOLS, parse_pool
from netkit.kernel.netlink.observe import ipv4_of
from netkit.model import IPNetwork
from netkit.network.config import DOCKER0, NetworkConfig
from netkit.spec import DEFAULT_DRIVER
from runtime.daemon.config import DaemonConfig
from runtime.network.weave.launching import HostRoute

RESOLV_CONF = Path("/etc/resolv.conf")

log = logging.getLogger("netkit.daemon")


def load_drivers(
    only: Collection[str] = (), ovn: OvnFacts = OvnFacts()  # noqa: B008  a frozen value
) -> dict[str, Driver]:
    """Return all that are installed by name, or those with one of the names `only`."""
    found: dict[str, Driver] = {}
    facts = HostFacts(openvswitch=Path("/sys/module/openvswitch").is_dir(), ovn=ovn)
    for entry in entry_points(group="netkit.drivers"):
        if only and entry.name not in only:
            continue
        try:
            driver = entry.load()()
            found[entry.name] = (
                driver.configure_for(facts) if isinstance(driver, HostAware) else driver
            )
        except Exception:  # a third party's driver must not keep the engine from starting
            log.exception("network driver %s (%s) cannot be loaded", entry.name, entry.value)
    if DEFAULT_DRIVER not in found:
        raise InvalidSpec(f"the {DEFAULT_DRIVER} driver is missing: is netkit installed properly?")
    return found


def network_config(config: DaemonConfig) -> NetworkConfig:
    pools = tuple(parse_pool(base, size) for base, size in config.default_address_pools)
    return NetworkConfig(
        bridge=config.default_bridge or DOCKER0,
        existing_addresses=ipv4_of("", config.default_bridge or DOCKER0),
        bip=config.bip,
        fixed_cidr=config.fixed_cidr,
        default_gateway=config.default_gateway,
        mtu=config.mtu,
        icc=config.icc,
        ip_masq=config.ip_masq,
        ip=config.ip,
        ip_forward=config.ip_forward,
        pools=pools or DEFAULT_POOLS,
        ipv6_stack=Path("/proc/sys/net/ipv6").is_dir(),
    )


def occupied_subnets() -> Iterable[IPNetwork]:
    """On-link routes and name servers of the host, which a new subnet must not overlap."""
    nets: list[IPNetwork] = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        if words[2] == "00000000" and words[1] != "00000000":
            address, mask = (int.from_bytes(bytes.fromhex(words[i]), "little") for i in (1, 7))
            nets.append(ip_network((address, bin(mask).count("1"))))
    with if_there():
        nets += nameservers(RESOLV_CONF.read_text(errors="replace"))
    return nets


def host_routes() -> Iterator[HostRoute]:
    """Yield routes of the main table, but for default routes."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(words[i]), "little") for i in (1, 7))
        if mask:
            yield HostRoute(IPv4Network((address, bin(mask).count("1"))), words[0])


def nameservers(text: str) -> Iterator[IPNetwork]:
    """Yield name servers in resolv.conf(5) as networks of one address; skips invalid ones."""
    for words in map(str.split, text.splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                yield ip_network(ip_address(words[1].partition("%")[0]))


def boot_time() -> float:
    """Seconds since boot, including suspend: DHCP leases expire while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


__all__ = ["boot_time", "host_routes", "load_drivers", "network_config", "occupied_subnets"]
