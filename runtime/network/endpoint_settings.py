"""Convert a container's endpoint settings to specs, and endpoints to the API's JSON.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

from netkit.errors import InvalidSpec, NotSupported
from netkit.network import address_requests
from netkit.network.endpoint import WITHOUT_DNS
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, PortMapping
from runtime.container.config import EndpointSettings
from runtime.container.model import Container
from runtime.network import links


def endpoint_spec(c: Container, settings: EndpointSettings, network: NetworkRecord) -> EndpointSpec:
    """Build the spec of one endpoint, validated for its network.  InvalidSpec as in Docker."""
    ipam = settings.ipam_config
    default = network.builtin
    if settings.aliases and default:
        raise InvalidSpec(
            "network-scoped alias is supported only for containers in user defined networks, and "
            f"{network.spec.name} is not one"
        )
    if ipam and ipam.ipv6_address:
        raise NotSupported("IPv6 is not supported yet: leave out --ip6")
    if ipam and ipam.link_local_ips:
        raise NotSupported("link-local addresses are not supported yet")
    if settings.links and default:
        raise InvalidSpec("links are only supported for user-defined networks")
    options = settings.driver_opts or {}
    names = () if default else dns_names(c, settings)  # the default network has no DNS
    return EndpointSpec(
        network=network.id,
        ip=ipam.ipv4_address if ipam else "",
        mac=settings.mac_address,
        addresses=address_requests.split(options.get(address_requests.OPTION, "")),
        ifname=options.get("com.docker.network.endpoint.ifname", ""),
        aliases=tuple(settings.aliases or ()),
        names=names,
        links=tuple(links.parse(text) for text in settings.links or ()),
        driver_opts=dict(options),
        gw_priority=settings.gw_priority,
    )


def dns_names(c: Container, settings: EndpointSettings) -> tuple[str, ...]:
    """Names in Docker's order: name (the result of reverse look-ups), aliases, id, hostname.

    None with the option WITHOUT_DNS.
    """
    if (settings.driver_opts or {}).get(WITHOUT_DNS) == "true":
        return ()
    names = [c.name, *(settings.aliases or ()), c.id[:12], c.config.hostname]
    return tuple(dict.fromkeys(n for n in names if n))


def network_settings(
    c: Container,
    live: Sequence[EndpointRecord],
    networks: Mapping[str, NetworkRecord],
    ns: str,
) -> dict[str, Any]:
    """NetworkSettings of inspect.  `networks` by id; those not connected now show empty."""
    by_network = {e.network: e for e in live}
    shown: dict[str, Any] = {}
    ids = {r.spec.name: r.id for r in networks.values()}
    for wanted, settings in c.networks.items():
        record = networks.get(ids.get(wanted, wanted))
        name = record.spec.name if record else wanted
        endpoint = by_network.get(record.id) if record else None
        shown[name] = _endpoint(c, settings, record, endpoint)
    default = shown.get("bridge") or {}
    running = c.state.alive
    return {
        "Bridge": "",
        "SandboxID": c.id if running else "",
        "SandboxKey": ns if running else "",
        "Ports": ports(c.config.exposed_ports or {}, live) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": default.get("EndpointID", ""),
        "Gateway": default.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": default.get("IPAddress", ""),
        "IPPrefixLen": default.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": default.get("MacAddress", ""),
        "Networks": shown,
    }


def _endpoint(
    c: Container,
    settings: EndpointSettings,
    record: NetworkRecord | None,
    live: EndpointRecord | None,
) -> dict[str, Any]:
    ipam = settings.ipam_config
    address = ip_interface(live.address) if live and live.address else None
    named = bool(record) and not (record and record.builtin)
    return {
        "IPAMConfig": {"IPv4Address": ipam.ipv4_address} if ipam and ipam.ipv4_address else None,
        "Links": settings.links,
        "Aliases": settings.aliases,
        "MacAddress": live.mac if live else settings.mac_address,
        "DriverOpts": settings.driver_opts,
        "GwPriority": settings.gw_priority,
        "NetworkID": record.id if record else "",
        "EndpointID": live.id if live else "",
        "Gateway": live.gateway if live else "",
        "IPAddress": str(address.ip) if address else "",
        "IPPrefixLen": address.network.prefixlen if address else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": list(dns_names(c, settings)) if named else None,
        **several_addresses(live),
    }


def several_addresses(live: EndpointRecord | None) -> dict[str, Any]:
    """A field that Docker does not have, of endpoints that have more addresses than Docker's."""
    more = live is not None and live.more_addresses
    return {"NetkitAddresses": list(live.addresses)} if live and more else {}


def ports(exposed: Iterable[str], live: Sequence[EndpointRecord]) -> dict[str, Any]:
    """{"80/tcp": [{"HostIp", "HostPort"}] or null}; null is exposed and not published."""
    mappings: dict[str, list[dict[str, str]]] = {}
    for m in sorted({m for e in live for m in e.ports}, key=_order):
        mappings.setdefault(f"{m.container_port}/{m.proto}", []).append(
            {"HostIp": m.host_ip, "HostPort": str(m.host_port)}
        )
    return {**dict.fromkeys(exposed), **mappings}


def _order(m: PortMapping) -> tuple[str, int, int, str]:
    return (m.proto, m.container_port, m.host_port, m.host_ip)
