"""Networks and endpoints at one instant, and what differs between two.  Pure.

Objects are in the API's format, by id:

    network    {"Name", "Driver", "Scope", "Internal", "Subnets": [{"Subnet", "Gateway"}],
                "Options", "Peers": [{"Name", "IP", "State"}]}
    endpoint   {"Network", "Container", "ContainerID", "Engine", "Addresses", "MacAddress",
                "Interface", "Gateway", "DefaultRoute", "Names",
                "Ports": [{"Protocol", "ContainerPort", "HostIP", "HostPort"}]}
    repaired   how often drift was repaired since the daemon started, by what is looked after
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netkit.kernel.netlink.counters import Counters
from netkit.spec import OWN, EndpointRecord, NetworkRecord

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Objects by id, as above; `traffic` by endpoint, empty where it was not read."""

    networks: Mapping[str, Object] = field(default_factory=dict)
    endpoints: Mapping[str, Object] = field(default_factory=dict)
    repaired: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, Counters] = field(default_factory=dict)
    at: float = 0.0  # seconds, of a clock that only goes forward

    def complete(self) -> Object:
        return {
            "Networks": dict(self.networks), "Endpoints": dict(self.endpoints),
            "Repaired": dict(self.repaired),
        }  # fmt: skip


def network(record: NetworkRecord, peers: list[dict[str, str]]) -> Object:
    spec = record.spec
    return {
        "Name": spec.name,
        "Driver": spec.driver,
        "Scope": spec.scope,
        "Internal": spec.internal,
        "Subnets": [{"Subnet": s.subnet, "Gateway": s.gateway} for s in spec.subnets],
        "Options": dict(spec.options),
        "Peers": peers,
    }


def endpoint(record: EndpointRecord) -> Object:
    return {
        "Network": record.network,
        "Container": record.owner_name,
        "ContainerID": record.container or record.sandbox,
        "Engine": record.engine or OWN,
        "Addresses": list(record.addresses),
        "MacAddress": record.mac,
        "Interface": record.ifname,
        "Gateway": record.gateway,
        "DefaultRoute": record.is_default,
        "Names": list(record.spec.names),
        "Ports": [
            {
                "Protocol": p.proto, "ContainerPort": p.container_port, "HostIP": p.host_ip,
                "HostPort": p.host_port,
            }
            for p in record.ports
        ],
    }  # fmt: skip


def changes(before: Snapshot, after: Snapshot) -> Object:
    """Objects that are new or differ, by id, and null for those that were removed; {} for none."""
    parts = {
        "Networks": _differences(before.networks, after.networks),
        "Endpoints": _differences(before.endpoints, after.endpoints),
        "Repaired": _differences(before.repaired, after.repaired),
    }
    return {name: found for name, found in parts.items() if found}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    found: Object = {id: new for id, new in after.items() if before.get(id) != new}
    return found | {id: None for id in before if id not in after}


def traffic(before: Snapshot, after: Snapshot) -> Object:
    """{"Seconds", "Endpoints": {id: {"ReceiveBytes", ...}}}: what endpoints that had any traffic
    received and sent between the two, as their containers see it."""
    found = {}
    for id, new in after.traffic.items():
        old = before.traffic.get(id)
        if old is None or any(n < o for n, o in zip(new, old, strict=True)):
            continue  # a new interface counts from the next time on
        moved = Counters(*(n - o for n, o in zip(new, old, strict=True)))
        if any(moved):
            found[id] = _inside(moved)
    return {"Seconds": round(after.at - before.at, 3), "Endpoints": found}


def _inside(c: Counters) -> Object:
    """What the host's end of a pair received, its container sent."""
    return {
        "ReceiveBytes": c.transmitted_bytes,
        "ReceivePackets": c.transmitted_packets,
        "ReceiveDropped": c.transmitted_drops,
        "TransmitBytes": c.received_bytes,
        "TransmitPackets": c.received_packets,
        "TransmitDropped": c.received_drops,
    }
