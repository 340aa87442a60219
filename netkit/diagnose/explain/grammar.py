"""Parse source, target and service of `fw explain` and `net trace`.  Pure.

SRC  CONTAINER[:NETWORK] | host | world | ADDRESS | ADDRESS@INTERFACE | lan:ADDRESS[@INTERFACE]
DST  the same, and each with :PORT behind (an address also before the @)
PORT 80 | 80/tcp | tcp/80 | icmp; a protocol alone, or nothing, where DST has a port; of
     net trace nothing at all is icmp
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple

from netkit.diagnose.explain.ruleset import PROTOCOLS
from netkit.errors import InvalidSpec

LAN = "lan:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SERVICE = "80, 80/tcp, tcp/80, 53/udp or icmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """`outside`: the address of a host outside, even where an interface here has it."""

    kind: Literal["container", "host", "world", "address"]
    name: str = ""  # of a container, or the beginning of its id
    network: str = ""
    address: IPv4Address | None = None
    iface: str = ""  # by which packets from there come
    outside: bool = False
    port: int = 0


def spot(text: str) -> Spot:
    """Parse one end of a question.  Raises InvalidSpec."""
    where, at, iface = text.removeprefix(LAN).partition("@")
    iface, port = _port(iface, text)
    if at and not iface:
        raise InvalidSpec(f"{text!r} names no interface after the @")
    if len(where.split(":")) > 2 and _is_ipv6(where):
        raise InvalidSpec(f"{text!r} is an IPv6 address; only IPv4 is followed")
    head, before = _port(where, text)
    if port and before:
        raise InvalidSpec(f"{text!r} names two ports: write one")
    port = port or before
    address = address_of(head)
    if address is not None:
        outside = bool(at) or text.startswith(LAN)
        return Spot(kind="address", address=address, iface=iface, outside=outside, port=port)
    if at or text.startswith(LAN):
        raise InvalidSpec(f"{text!r} is no IPv4 address: write lan:ADDRESS[@INTERFACE]")
    if head == "host":
        return Spot(kind="host", port=port)
    if head == "world":
        return Spot(kind="world", outside=True, port=port)
    name, colon, network = head.partition(":")
    if not NAME.fullmatch(name) or (colon and not network):
        raise InvalidSpec(
            f"{text!r} is neither CONTAINER[:NETWORK] nor host, world, ADDRESS or "
            "lan:ADDRESS[@INTERFACE]"
        )
    return Spot(kind="container", name=name, network=network, port=port)


class Service(NamedTuple):
    proto: str
    port: int  # 0 for icmp


def service(text: str, target: Spot, source: Spot) -> Service:
    """What is asked for, by `text` and by the port of `target`.  InvalidSpec."""
    if not (text or target.port):
        raise InvalidSpec(f"to which port?  Write {SERVICE}")
    if source.port:
        raise InvalidSpec("a source has no port: it is chosen when the packet is sent")
    first, slash, last = text.lower().partition("/")
    proto, number = (last, first) if first.isdecimal() else (first, last)
    if not slash and first.isdecimal():
        proto = ""
    if target.port:
        if number and number != str(target.port):
            raise InvalidSpec(f"port {target.port} and {text} name two ports: write one")
        number = str(target.port)
    proto = proto or "tcp"
    if proto == "icmp":
        if number:
            raise InvalidSpec("icmp has no ports")
        return Service(proto, 0)
    known = proto in PROTOCOLS and number.isdecimal() and len(number) < 6
    if not known or not 0 < int(number) < 65536:
        raise InvalidSpec(f"invalid service {text!r}: write {SERVICE}")
    return Service(proto, int(number))


def address_of(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def without_port(text: str) -> str:
    """`text` without the port that `spot` finds in it."""
    if not spot(text).port:
        return text
    begin, at, iface = text.partition("@")
    if at and ":" in iface:
        return f"{begin}@{iface.rpartition(':')[0]}"
    return begin.rpartition(":")[0] + at + iface


def _port(where: str, text: str) -> tuple[str, int]:
    head, colon, tail = where.rpartition(":")
    if not (colon and tail.isdecimal()):
        return where, 0
    if len(tail) > 5 or not 0 < int(tail) < 65536:
        raise InvalidSpec(f"{text!r}: {tail} is no port")
    return head, int(tail)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
