"""What a daemon finds on its host, and in its configuration, for networks to be made from."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from ipaddress import ip_address, ip_network
from pathlib import Path

from netkit.driver import Driver, HostAware, HostFacts
from netkit.errors import InvalidSpec
from netkit.ipam import DEFAULT_POOLS, parse_pool
from netkit.kernel.links import ipv4_of
from netkit.model import IPNetwork
from netkit.settings import DOCKER0, Settings
from runtime.config import DaemonConfig

RESOLV_CONF = Path("/etc/resolv.conf")

log = logging.getLogger("netkit.daemon")


def drivers() -> dict[str, Driver]:
    found: dict[str, Driver] = {}
    facts = HostFacts(openvswitch=Path("/sys/module/openvswitch").is_dir())
    for entry in entry_points(group="netkit.drivers"):
        try:
            driver = entry.load()()
            found[entry.name] = driver.on(facts) if isinstance(driver, HostAware) else driver
        except Exception:  # a third party's driver must not keep the engine from starting
            log.exception("network driver %s (%s) cannot be loaded", entry.name, entry.value)
    if "bridge" not in found:
        raise InvalidSpec("the bridge driver is missing: is netkit installed properly?")
    return found


def settings(wishes: DaemonConfig) -> Settings:
    pools = tuple(parse_pool(base, size) for base, size in wishes.default_address_pools)
    return Settings(
        bridge=wishes.bridge or DOCKER0,
        found=ipv4_of("", wishes.bridge or DOCKER0),
        bip=wishes.bip,
        fixed_cidr=wishes.fixed_cidr,
        default_gateway=wishes.default_gateway,
        mtu=wishes.mtu,
        icc=wishes.icc,
        ip_masq=wishes.ip_masq,
        ip=wishes.ip,
        ip_forward=wishes.ip_forward,
        pools=pools or DEFAULT_POOLS,
        ipv6_stack=Path("/proc/sys/net/ipv6").is_dir(),
    )


def occupied() -> Iterable[IPNetwork]:
    """On-link routes and name servers of the host, which no new network should cover."""
    nets: list[IPNetwork] = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        if words[2] == "00000000" and words[1] != "00000000":
            address, mask = (int.from_bytes(bytes.fromhex(words[i]), "little") for i in (1, 7))
            nets.append(ip_network((address, bin(mask).count("1"))))
    with suppress(OSError):
        nets += nameservers(RESOLV_CONF.read_text(errors="replace"))
    return nets


def nameservers(text: str) -> Iterator[IPNetwork]:
    """Each in resolv.conf(5) as a network of one address; what is no address is passed over."""
    for words in map(str.split, text.splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                yield ip_network(ip_address(words[1].partition("%")[0]))


def boot_time() -> float:
    """Seconds; it goes on while netkit does not run and while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


__all__ = ["boot_time", "drivers", "occupied", "settings"]
