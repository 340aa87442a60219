"""Docker's port bindings to netkit's PortSpecs.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from netkit.errors import InvalidSpec
from netkit.spec import PortSpec
from runtime.containers.config import PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")
Bindings = Mapping[str, list[PortBinding] | None]


def parse_exposed(text: str) -> list[tuple[int, str]]:
    """ "80/tcp" or "8000-8003/udp" as (port, protocol) pairs; no protocol means tcp."""
    span, _, proto = text.partition("/")
    proto = (proto or "tcp").lower()
    if proto not in PROTOCOLS:
        raise InvalidSpec(f"invalid proto: {proto!r} in port {text!r}: use tcp, udp or sctp")
    first, last = _range(span, text)
    return [(port, proto) for port in range(first, last + 1)]


def exposed_by_bindings(bindings: Bindings | None) -> Iterable[str]:
    """Publishing a port exposes it."""
    return [f"{port}/{proto}" for text in bindings or {} for port, proto in parse_exposed(text)]


def parse_bindings(
    bindings: Bindings | None, exposed: Sequence[str], publish_all: bool
) -> list[PortSpec]:
    """What `-p` and `-P` ask for, sorted by protocol and port.  InvalidSpec names the bad one."""
    specs: list[PortSpec] = []
    bound: set[tuple[int, str]] = set()
    for text, wishes in (bindings or {}).items():
        for port, proto in parse_exposed(text):
            if wishes == [] and not publish_all:
                wishes = [PortBinding()]  # noqa: PLW2901  an empty list means: any host port
            for wish in wishes or ():
                specs.append(_spec(port, proto, wish, text))
                bound.add((port, proto))
    if publish_all:
        every = {pair for text in exposed for pair in parse_exposed(text)}
        specs += [
            PortSpec(proto=proto, container_port=port) for port, proto in sorted(every - bound)
        ]
    return sorted(specs, key=lambda s: (s.proto, s.container_port, s.host_first, s.host_ip))


def _spec(port: int, proto: str, wish: PortBinding, text: str) -> PortSpec:
    if port == 0:
        raise InvalidSpec(f"invalid container port 0 in {text!r}")
    host_ip = wish.host_ip.strip("[]")
    if host_ip:
        try:
            host_ip = str(ip_address(host_ip))
        except ValueError:
            raise InvalidSpec(f"invalid IP address {wish.host_ip!r} for port {text}") from None
    first, last = _range(wish.host_port, text) if wish.host_port else (0, 0)
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
