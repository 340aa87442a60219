"""What a network driver is.  This file and model.py are all a driver author reads.

A driver is found through the entry-point group `netkit.drivers`.  It does no I/O: it says
which resources should exist, and netkit makes them so, checks, repairs and removes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from netkit.model import IPAddress, IPInterface, IPNetwork, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One address range of a network.  `ip_range` narrows what is handed out by itself."""

    cidr: IPNetwork
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: tuple[tuple[str, IPAddress], ...] = ()  # reserved by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    id: str  # 64 hex digits
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    options: object = None  # what the driver's `parse` made of the user's options

    engine: str = "0"  # which netkit made it: the middle of every owner mark

    @property
    def owner(self) -> str:
        """The mark that everything of this network carries in the kernel."""
        return f"netkit:{self.engine}:{self.id[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One container's place on one network."""

    id: str  # 64 hex digits
    network: str  # network id
    addresses: tuple[IPInterface, ...]
    mac: str | None
    ns: str  # path of the namespace where the container finds its end
    ifname: str  # and its name there
    gateway: bool = False  # this endpoint carries the container's default route

    def owner(self, net: Network) -> str:
        return f"{net.owner}:{self.id[:12]}"


class Driver(Protocol):
    """How one kind of network looks on a host.  All methods are pure."""

    name: ClassVar[str]
    addresses: ClassVar[bool]  # does netkit's IPAM give out addresses here?
    publishes: ClassVar[bool]  # do published ports make sense here?

    def parse(self, options: Mapping[str, str]) -> object:
        """User options, checked and typed; InvalidSpec names the bad or unknown one."""
        ...

    def network(self, net: Network) -> Iterable[Resource]:
        """What the host needs for this network to exist."""
        ...

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        """What is needed for one container to be on it, on both ends of the wire."""
        ...


def ifname(prefix: str, id: str) -> str:
    """A link name of ours: fits IFNAMSIZ (15 characters), and says whose it is."""
    return f"{prefix}{id}"[:15]


def local_mac(*words: str) -> str:
    """A stable, locally administered unicast MAC address from the words (RFC 7042, 2.1)."""
    raw = bytearray(hashlib.sha256("\0".join(words).encode()).digest()[:6])
    raw[0] = (raw[0] & 0xFE) | 0x02
    return raw.hex(":")


__all__ = ["Driver", "Endpoint", "Network", "Subnet", "ifname", "local_mac"]
