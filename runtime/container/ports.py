"""Parse exposed and published ports of the Engine API into PortSpecs.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from netkit.errors import InvalidSpec
from netkit.spec import PortSpec
from runtime.container.config import Config, HostConfig, PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_exposed(text: str) -> list[tuple[int, str]]:
    """ "80/tcp" or "8000-8003/udp" as (port, protocol) pairs; no protocol means tcp."""
    span, _, proto = text.partition("/")
    proto = (proto or "tcp").lower()
    if proto not in PROTOCOLS:
        raise InvalidSpec(f"invalid proto: {proto!r} in port {text!r}: use tcp, udp or sctp")
    first, last = _range(span, text)
    return [(port, proto) for port in range(first, last + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedPorts:
    """The ports of a container's configuration: those to publish, and all that are exposed."""

    published: list[PortSpec]  # by -p and -P; sorted by protocol and port
    exposed: dict[str, dict[str, str]]  # in the API's format; published ports included


def requested_ports(config: Config, host: HostConfig) -> RequestedPorts:
    """Parse each port once.  InvalidSpec names an invalid one.

    The stored document has the user's text, not the parsed ports: a range of a few characters may
    be thousands of them.
    """
    bindings, exposed = host.port_bindings or {}, config.exposed_ports or {}
    pairs = {text: parse_exposed(text) for text in (*bindings, *exposed)}
    bound: dict[str, dict[str, str]] = {
        f"{port}/{proto}": {} for text in bindings for port, proto in pairs[text]
    }
    anywhere = [] if host.publish_all_ports else [PortBinding()]  # what an empty list means
    specs = [
        _port_spec(port, proto, binding, text)
        for text, wanted in bindings.items()
        for port, proto in pairs[text]
        for binding in (anywhere if wanted == [] else wanted or ())
    ]
    if host.publish_all_ports:
        have = {(s.container_port, s.proto) for s in specs}
        every = {pair for each in pairs.values() for pair in each}
        specs += [PortSpec(proto=proto, container_port=port) for port, proto in every - have]
    specs.sort(key=lambda s: (s.proto, s.container_port, s.host_first, s.host_ip))
    return RequestedPorts(published=specs, exposed={**exposed, **bound})


def _port_spec(port: int, proto: str, binding: PortBinding, text: str) -> PortSpec:
    if port == 0:
        raise InvalidSpec(f"invalid container port 0 in {text!r}")
    host_ip = binding.host_ip.strip("[]")
    if host_ip:
        try:
            host_ip = str(ip_address(host_ip))
        except ValueError:
            raise InvalidSpec(f"invalid IP address {binding.host_ip!r} for port {text}") from None
    first, last = _range(binding.host_port, text) if binding.host_port else (0, 0)
    return PortSpec(
        proto=proto, container_port=port, host_ip=host_ip, host_first=first, host_last=last
    )


def _range(span: str, text: str) -> tuple[int, int]:
    first, dash, last = span.partition("-")
    try:
        low = int(first)
        high = int(last) if dash else low
    except ValueError:
        raise InvalidSpec(f"invalid port specification: {text!r}: {span!r}") from None
    if not 0 <= low <= high <= 65535:
        raise InvalidSpec(f"invalid port range {span!r} in {text!r}: 0 to 65535, low to high")
    return low, high
