"""Networks and endpoints as JSON of the API.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

import msgspec

from netkit.network.address_use import SubnetUse
from netkit.spec import EndpointRecord, NetworkRecord, SubnetSpec
from runtime.api.version import NEWEST, ApiVersion
from runtime.container.config import EndpointSettings
from runtime.container.model import Container
from runtime.container.ports import parse_exposed
from runtime.network.endpoint_settings import several_addresses

Json = dict[str, Any]


def network(
    record: NetworkRecord, endpoints: Iterable[EndpointRecord] = (), *, api: ApiVersion = NEWEST
) -> Json:
    """Render a network as in `network inspect`; lists have no endpoints."""
    spec = record.spec
    shown: Json = {
        "Name": spec.name,
        "Id": record.id,
        "Created": record.created,
        "Scope": spec.scope,
        "Driver": spec.driver,
        "EnableIPv4": spec.enable_ipv4,
        "EnableIPv6": spec.enable_ipv6,
        "IPAM": {
            "Driver": spec.ipam_driver,
            "Options": spec.ipam_options or None,
            "Config": [_subnet(s) for s in spec.subnets],
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {e.sandbox: _member(e) for e in endpoints},
        "Options": spec.options,
        "Labels": spec.labels,
    }
    return shown


def status(uses: Iterable[SubnetUse]) -> Json:
    """`Status` as Docker's API has it from 1.52 on."""
    subnets = {
        str(use.subnet): {"IPsInUse": use.in_use, "DynamicIPsAvailable": use.free} for use in uses
    }
    return {"IPAM": {"Subnets": subnets}}


def _subnet(subnet: SubnetSpec) -> Json:
    shown: Json = {"Subnet": subnet.subnet}
    if subnet.ip_range:
        shown["IPRange"] = subnet.ip_range
    if subnet.gateway:
        shown["Gateway"] = subnet.gateway
    if subnet.aux:
        shown["AuxiliaryAddresses"] = subnet.aux
    return shown


def _member(endpoint: EndpointRecord) -> Json:
    return {
        "Name": endpoint.owner_name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": endpoint.address,
        "IPv6Address": "",
        **several_addresses(endpoint),
        **({"Engine": endpoint.engine} if endpoint.engine else {}),
    }


def endpoint_settings(
    wanted: EndpointSettings | None,
    network_id: str,
    live: EndpointRecord | None,
    *,
    api: ApiVersion = NEWEST,
) -> Json:
    """One entry of NetworkSettings.Networks: requested settings, and allocated ones if it runs."""
    asked = wanted or EndpointSettings()
    shown: Json = {
        "IPAMConfig": None if asked.ipam_config is None else _ipam(asked.ipam_config),
        "Links": asked.links,
        "Aliases": asked.aliases,
        "MacAddress": live.mac if live else asked.mac_address,
        "DriverOpts": asked.driver_opts,
        "GwPriority": asked.gw_priority,
        "NetworkID": network_id,
        "EndpointID": live.id if live else "",
        "Gateway": live.gateway if live else "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": list(live.spec.names) or None if live else None,
    }
    if live and live.address:
        address = ip_interface(live.address)
        shown["IPAddress"] = str(address.ip)
        shown["IPPrefixLen"] = address.network.prefixlen
    return shown


def _ipam(config: msgspec.Struct) -> Json:
    return {k: v for k, v in msgspec.to_builtins(config).items() if v}


def container_networks(
    container: Container,
    live: Sequence[EndpointRecord],
    ids: Mapping[str, str],
    *,
    api: ApiVersion = NEWEST,
) -> Json:
    """NetworkSettings.Networks; `live` are its endpoints, `ids` network ids by name."""
    names = {id: name for name, id in ids.items()}
    by_name = {names.get(e.network, e.network): e for e in live}
    wanted = {names.get(name, name): settings for name, settings in container.networks.items()}
    return {
        name: endpoint_settings(wanted.get(name), ids.get(name, ""), by_name.get(name), api=api)
        for name in sorted({*wanted, *by_name})
    }


def ports(container: Container, live: Iterable[EndpointRecord]) -> dict[str, list[Json] | None]:
    """NetworkSettings.Ports: exposed ports of a running container, where published."""
    if not container.state.alive:
        return {}
    shown: dict[str, list[Json] | None] = {
        f"{port}/{proto}": None
        for text in container.config.exposed_ports or {}
        for port, proto in parse_exposed(text)
    }
    for endpoint in live:
        for m in endpoint.ports:
            bindings = shown.get(f"{m.container_port}/{m.proto}") or []
            bindings.append({"HostIp": m.host_ip, "HostPort": str(m.host_port)})
            shown[f"{m.container_port}/{m.proto}"] = bindings
    return dict(sorted(shown.items(), key=_port_order))


def _port_order(item: tuple[str, object]) -> tuple[int, str]:
    number, _, proto = item[0].partition("/")
    return int(number), proto


def port_list(published: Mapping[str, list[Json] | None]) -> list[Json]:
    """The Ports of the list of containers, from NetworkSettings.Ports."""
    shown: list[Json] = []
    for name, bindings in published.items():
        number, _, proto = name.partition("/")
        if not bindings:
            shown.append({"PrivatePort": int(number), "Type": proto})
        shown += [
            {"IP": b["HostIp"], "PrivatePort": int(number), "PublicPort": int(b["HostPort"]),
             "Type": proto}
            for b in bindings or ()
        ]  # fmt: skip
    return shown
