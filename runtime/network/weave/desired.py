"""What the overlay's process has to know of this host, from the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TypeVar

import msgspec

from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.overlay import verbs
from netkit.spec import EndpointRecord

HOST_ENDPOINT = "host:"  # before a network's id: the host's own place on it (verbs.Expose)
NAMES = 16  # of an endpoint, in verbs
MOST = 3000  # networks and endpoints of a host
T = TypeVar("T", verbs.Network, verbs.Endpoint)
_NAME = re.compile(r"[!-~]{1,253}")


@dataclass(frozen=True, slots=True)
class Desired:
    """Networks and endpoints of this host, by id; of what cannot be reported to others, why."""

    networks: dict[str, verbs.Network] = field(default_factory=dict)
    endpoints: dict[str, verbs.Endpoint] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def desired(host: OverlayNetworks) -> Desired:
    networks = host.all()
    if not networks:
        return Desired()
    found = Desired()
    for each in networks:
        _add(found, found.networks, network(each), f"network {each.record.spec.name[:64]}")
    for record in host.endpoints():
        if record.mac and record.network in found.networks:
            name = f"container {record.owner_name}"
            _add(found, found.endpoints, _endpoint(record), name)
    for each in networks:
        if each.ports.host_addresses and each.record.id in found.networks:
            name = f"this host on network {each.record.spec.name}"
            _add(found, found.endpoints, _host(each), name)
    return found


def _add(found: Desired, those: dict[str, T], value: T, name: str) -> None:
    """Unless the process would not take it, and with it none of the others."""
    try:
        msgspec.convert(msgspec.to_builtins(value), type(value))
    except msgspec.ValidationError as error:
        found.problems[name] = f"it is not reported to other hosts: {error}"
        return
    if len(found.networks) + len(found.endpoints) >= MOST:
        found.problems["containers"] = f"{MOST} networks and endpoints of a host can be reported"
        return
    those[value.id] = value


def network(each: OverlayNetwork) -> verbs.Network:
    ports = each.ports
    return verbs.Network(
        id=each.record.id, name=each.record.spec.name, vni=ports.vni, bridge=ports.bridge,
        tap=ports.tap, vxlan=ports.vxlan, subnets=tuple(str(s.cidr) for s in each.config.subnets),
        mtu=ports.mtu,
    )  # fmt: skip


def _endpoint(record: EndpointRecord) -> verbs.Endpoint:
    return verbs.Endpoint(
        id=record.id, network=record.network, mac=record.mac.lower(),
        addresses=tuple(str(ip_interface(a).ip) for a in record.addresses),
        names=tuple(_names(record.spec.names)), container=record.sandbox,
    )  # fmt: skip


def _names(names: Iterable[str]) -> list[str]:
    """Those that a resolver can be asked for, the container's own first."""
    return [name for name in names if _NAME.fullmatch(name)][:NAMES]


def _host(each: OverlayNetwork) -> verbs.Endpoint:
    return verbs.Endpoint(
        id=HOST_ENDPOINT + each.record.id, network=each.record.id, mac=each.ports.host_mac,
        addresses=tuple(str(a.ip) for a in each.ports.host_addresses),
    )  # fmt: skip
