"""What the overlay's process has to know of this host, from the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_interface

from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.overlay import verbs
from netkit.spec import EndpointRecord

HOST_ENDPOINT = "host:"  # before a network's id: the host's own place on it (verbs.Expose)
NAMES = 16  # of an endpoint, in verbs
_NAME = re.compile(r"[!-~]{1,253}")


@dataclass(frozen=True, slots=True)
class Desired:
    """Networks and endpoints of this host, by id."""

    networks: dict[str, verbs.Network] = field(default_factory=dict)
    endpoints: dict[str, verbs.Endpoint] = field(default_factory=dict)


def desired(host: OverlayNetworks) -> Desired:
    networks = host.all()
    if not networks:
        return Desired()
    endpoints = [
        *(_endpoint(record) for record in host.endpoints() if record.mac),
        *(_host(each) for each in networks if each.ports.host_addresses),
    ]
    return Desired(
        {each.record.id: network(each) for each in networks}, {e.id: e for e in endpoints}
    )


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
