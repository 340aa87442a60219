"""docker's -p and --expose: port specifications as the API's maps.  Pure."""

from __future__ import annotations

from netkit.cli.values import pairs
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

PROTOCOLS = ("tcp", "udp", "sctp")
Bindings = dict[str, list[dict[str, str]]]


class Published(Value):
    """A container port, "80/tcp", and where it is to be reached; empty means any."""

    __slots__ = ("host_ip", "host_port", "port")

    def __init__(self, *, port: str, host_ip: str, host_port: str) -> None:
        self.port: Final = port
        self.host_ip: Final = host_ip
        self.host_port: Final = host_port


def published(texts: Iterable[str]) -> tuple[list[str], Bindings]:
    """Parse all -p flags: the exposed ports, and PortBindings.  ValueError names a bad one."""
    bindings: Bindings = {}
    for text in texts:
        for each in parse(text):
            bindings.setdefault(each.port, []).append(
                {"HostIp": each.host_ip, "HostPort": each.host_port}
            )
    return list(bindings), bindings


def parse(text: str) -> list[Published]:
    """ "[ip:][host[-end]:]port[-end][/proto]", or "published=8080,target=80,protocol=udp"."""
    if "=" in text:
        text = _short_form(text)
    address, host, inside, proto = _split(text)
    if not inside:
        raise ValueError(f"no port specified: {text}<empty>")
    first, last = _span(inside, "invalid containerPort")
    if proto not in PROTOCOLS:
        raise ValueError(f"invalid proto: {proto}")
    host_first, host_last = _span(host, "invalid hostPort") if host else (0, 0)
    if not host:
        return [
            Published(port=f"{n}/{proto}", host_ip=address, host_port="")
            for n in range(first, last + 1)
        ]
    if host_last - host_first == last - first:
        return [
            Published(port=f"{first + i}/{proto}", host_ip=address, host_port=str(host_first + i))
            for i in range(last - first + 1)
        ]
    if first != last:
        raise ValueError(
            f"invalid ranges specified for container and host Ports: {inside} and {host}"
        )
    # One container port and a range of host ports: the daemon takes the first free one.
    span = f"{host_first}-{host_last}"
    return [Published(port=f"{first}/{proto}", host_ip=address, host_port=span)]


def exposed(text: str) -> list[str]:
    """ "80", "8000-8005/udp" as ["80/tcp"], ..."""
    span, _, proto = text.partition("/")
    proto = (proto or "tcp").lower()
    if ":" in text or proto not in PROTOCOLS:
        raise ValueError(f"invalid port format for --expose: {text}")
    try:
        first, last = _span(span, "invalid port")
    except ValueError as error:
        raise ValueError(f"invalid range format for --expose: {text}, error: {error}") from None
    return [f"{n}/{proto}" for n in range(first, last + 1)]


def _short_form(text: str) -> str:
    for part in text.split(","):
        key, equals, _ = part.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{part}')")
    given = {"protocol": "tcp", **pairs(text.split(","))}
    # `mode` is for services (host or ingress); a container has but one way.
    unknown = sorted(set(given) - {"published", "target", "protocol", "mode"})
    if unknown:
        raise ValueError(f"invalid publish option '{unknown[0]}': use published, target, protocol")
    return f"{given.get('published', '')}:{given.get('target', '')}/{given['protocol']}"


def _split(text: str) -> tuple[str, str, str, str]:
    """Host address, host ports, container ports, protocol."""
    rest, _, proto = text.partition("/")
    head, _, inside = rest.rpartition(":")
    address, _, host = head.rpartition(":") if ":" in head else ("", "", head)
    if address:
        from ipaddress import ip_address

        bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        try:
            address = str(ip_address(bare))
        except ValueError:
            raise ValueError(f"invalid IP address: {address}") from None
    return address, host, inside, (proto or "tcp").lower()


def _span(text: str, complaint: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f"{complaint}: {text}")
    low, high = int(first), int(last) if dash else int(first)
    if high < low or high > 65535:
        raise ValueError(f"{complaint}: {text}")
    return low, high
