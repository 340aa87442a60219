"""Requests and records of the controller: networks, endpoints, ports as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from netkit.driver import Endpoint, Network, PortMapping

DEFAULT_DRIVER = "bridge"  # of a network for which no driver is asked (Docker Engine API)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetSpec:
    """One IPAM configuration as the user wrote it; empty strings mean "choose"."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    name: str
    driver: str = DEFAULT_DRIVER
    subnets: tuple[SubnetSpec, ...] = ()
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    scope: str = "local"


class NetworkRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A network as stored: what was asked, completed with what was chosen."""

    id: str
    spec: NetworkSpec  # subnets complete: subnet and gateway always present where IPAM is ours
    created: str  # RFC 3339, nanoseconds, UTC
    builtin: bool = False  # bridge, host, none: cannot be removed
    chosen: bool = False  # the subnet is our choice, not the user's


class CreatedNetwork(NamedTuple):
    """A new network, and which of its options have no effect."""

    record: NetworkRecord
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """One `-p`: a container port and where to publish it.  A host range means "the first free"."""

    proto: str  # tcp, udp, sctp
    container_port: int
    host_ip: str = ""  # "": the network's default binding address
    host_first: int = 0  # 0: an ephemeral port
    host_last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedPorts:
    """A neighbour on the network whose ports a container may reach even if icc is off (--link)."""

    sandbox: str  # the neighbour's id
    ports: tuple[tuple[str, int], ...]  # (protocol, container port)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """A request to connect one container to one network.  `network` is a network id."""

    network: str
    ip: str = ""  # a static address
    allocated: bool = False  # `ip` is no choice of a user's: an IPAM allocated it before
    addresses: tuple[str, ...] = ()  # further requests: see `netkit.network.address_requests`
    mac: str = ""
    ifname: str = ""  # inside; "": eth0, eth1, ... the lowest free
    aliases: tuple[str, ...] = ()  # further DNS names on this network, as the user gave them
    names: tuple[str, ...] = ()  # all DNS names, first the one for reverse look-ups
    links: tuple[tuple[str, str], ...] = ()  # (container name, alias only this container sees)
    opens: tuple[LinkedPorts, ...] = ()
    driver_opts: dict[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    default_route: bool = True  # it may carry the container's default route

    @property
    def requested(self) -> tuple[str, ...]:
        """All requests for addresses."""
        return (self.ip, *self.addresses)


OWN = "netkit"  # what people read as the engine of containers that netkitd itself runs, which is ""


class EndpointRecord(msgspec.Struct, kw_only=True, frozen=True):
    """An endpoint as stored."""

    id: str  # 64 hex digits
    network: str  # network id
    sandbox: str  # sandbox (container) id
    owner_name: str  # the container's name, for messages and `network inspect`
    engine: str = ""  # as in Sandbox
    container: str = ""  # likewise
    spec: EndpointSpec
    address: str = ""  # "172.17.0.2/16", "" where the network has no addresses
    more_addresses: tuple[str, ...] = ()  # others, in the same notation
    changing: tuple[str, ...] = ()  # all it is about to have: a change of them was begun
    mac: str = ""
    ifname: str = ""
    gateway: str = ""  # address of the network's gateway, "" if none
    is_default: bool = False  # carries the container's default route
    ports: tuple[PortMapping, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, the first one first."""
        return (self.address, *self.more_addresses) if self.address else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A container's network namespace: `ns` is the path of its file ("" the host's own).

    `engine` runs the container: "" netkit's own, else "docker" or "cni".  A `foreign` namespace is
    that engine's: it has to exist, and is neither made, renewed, set up nor removed by netkit.
    With `handover` the engine moves its end of the pair there, from netkitd's own namespace, where
    it has this name, and sets it up; until it has said where, `ns` is a path without namespace.
    """

    id: str
    name: str
    ns: str
    engine: str = ""
    foreign: bool = False
    handover: str = ""
    container: str = ""  # the engine's id of the container, where it is not the sandbox's
    binds_ports: bool = False  # its engine binds published host ports itself
    nsid: str = ""  # "DEVICE:INODE" (stat(2)) of a foreign one, since a path may get another one

    @property
    def title(self) -> str:
        """For messages: "container web", "container web of docker"."""
        return f"container {self.name}" + (f" of {self.engine}" if self.engine else "")


__all__ = [
    "DEFAULT_DRIVER",
    "Endpoint",
    "EndpointRecord",
    "EndpointSpec",
    "LinkedPorts",
    "Network",
    "NetworkRecord",
    "NetworkSpec",
    "PortMapping",
    "PortSpec",
    "Sandbox",
    "SubnetSpec",
]
