"""Who is where: the table that the overlay's core keeps, as values.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from netkit.errors import InvalidSpec

Path = Literal["fastdp", "sleeve"]  # by the kernel's VXLAN, or by user space
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How one peer is reached, and from where its VXLAN frames may come."""

    path: Path
    address: IPv4Address | None = None  # of its host on the underlay; fastdp needs one
    # Outer sources whose VXLAN frames are taken for this peer's.  Independent of `path`, for the
    # other side may choose the other one; none where frames in clear are not for this peer.
    sources: frozenset[IPv4Address] = frozenset()

    def __post_init__(self) -> None:
        if self.path == "fastdp" and self.address is None:
            raise InvalidSpec("a peer on path fastdp needs an address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A container, or a host with an address, on a network: at the peer with this name.

    InvalidSpec for a MAC address that is no single interface's.
    """

    mac: str  # "02:42:..."
    addresses: tuple[IPv4Address, ...]
    peer: str

    def __post_init__(self) -> None:
        if not MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & 1 or self.mac == NO_MAC:
            raise InvalidSpec(f"{self.mac!r} is not the MAC address of an interface")
        if bad := [a for a in self.addresses if a.is_multicast or a.is_unspecified]:
            raise InvalidSpec(f"{bad[0]} is not the address of an interface")


NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTable:
    """One network that this host has containers on: its links here, and its members elsewhere."""

    vni: int
    bridge: str
    tap: str  # its end by user space: a port of the bridge
    vxlan: str | None = None  # its end by the kernel; None where that must not be used
    name: str = ""  # for people
    members: tuple[Member, ...] = ()  # of two that claim one address, the first has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    networks: tuple[NetworkTable, ...] = ()
    peers: Mapping[str, Reach] = field(default_factory=dict)  # members of others are passed over
