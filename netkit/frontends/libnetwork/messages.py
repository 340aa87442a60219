"""Requests of libnetwork's remote drivers as values.  Pure.

Unknown fields are ignored, as in Go; a field that is null counts as absent.  Source: moby,
daemon/libnetwork/drivers/remote/api/api.go, ipams/remote/api/api.go, and docs/remote.md, ipam.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import field

from netkit.errors import InvalidSpec
from netkit.spec import PortSpec

LARGEST = 8 << 20  # bytes of one request: one with 65,535 ports has 6 million
MOST_PORTS = 65_536  # of one endpoint
OPTION_LENGTH = 4096  # characters of one option's name or value
PORTMAP = "com.docker.network.portmap"
GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"
ENABLE_IPV4, ENABLE_IPV6 = "com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"
ENDPOINT_NAME = "com.docker.network.endpoint.name"  # the container's name; not sent by 20.10
REQUEST_TYPE, GATEWAY = "RequestAddressType", "com.docker.network.gateway"
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA protocol numbers
_ID = re.compile(r"[0-9A-Za-z]{12,64}")

Options = dict[str, Any]


class PoolData(msgspec.Struct, frozen=True):
    """One subnet of a network, as its IPAM gave it: CIDR notation throughout."""

    pool: str = field(name="Pool", default="")
    gateway: str | None = field(name="Gateway", default=None)
    aux: dict[str, str] | None = field(name="AuxAddresses", default=None)
    space: str | None = field(name="AddressSpace", default=None)


class Interface(msgspec.Struct, frozen=True):
    address: str | None = field(name="Address", default=None)  # 10.0.0.2/24
    address_v6: str | None = field(name="AddressIPv6", default=None)
    mac: str | None = field(name="MacAddress", default=None)  # 02:42:0a:00:00:02


class CreateNetwork(msgspec.Struct, frozen=True):
    network: str = field(name="NetworkID")
    options: Options | None = field(name="Options", default=None)
    ipv4: list[PoolData] | None = field(name="IPv4Data", default=None)
    ipv6: list[PoolData] | None = field(name="IPv6Data", default=None)


class NetworkRequest(msgspec.Struct, frozen=True):
    network: str = field(name="NetworkID")


class CreateEndpoint(msgspec.Struct, frozen=True):
    network: str = field(name="NetworkID")
    endpoint: str = field(name="EndpointID")
    interface: Interface | None = field(name="Interface", default=None)
    options: Options | None = field(name="Options", default=None)


class EndpointRequest(msgspec.Struct, frozen=True):
    network: str = field(name="NetworkID")
    endpoint: str = field(name="EndpointID")
    options: Options | None = field(name="Options", default=None)


class Join(msgspec.Struct, frozen=True):
    network: str = field(name="NetworkID")
    endpoint: str = field(name="EndpointID")
    sandbox: str = field(name="SandboxKey")  # path of the container's network namespace
    options: Options | None = field(name="Options", default=None)


class RequestPool(msgspec.Struct, frozen=True):
    space: str | None = field(name="AddressSpace", default=None)
    pool: str | None = field(name="Pool", default=None)  # CIDR, "": any
    sub_pool: str | None = field(name="SubPool", default=None)  # CIDR: `--ip-range`
    options: dict[str, str] | None = field(name="Options", default=None)
    v6: bool | None = field(name="V6", default=None)


class ReleasePool(msgspec.Struct, frozen=True):
    pool: str = field(name="PoolID")


class RequestAddress(msgspec.Struct, frozen=True):
    pool: str = field(name="PoolID")
    address: str | None = field(name="Address", default=None)  # "": any
    options: dict[str, str] | None = field(name="Options", default=None)


class ReleaseAddress(msgspec.Struct, frozen=True):
    pool: str = field(name="PoolID")
    address: str = field(name="Address", default="")


class _Binding(msgspec.Struct, frozen=True):
    """One published port: libnetwork's types.PortBinding."""

    proto: int = field(name="Proto", default=6)
    port: int = field(name="Port", default=0)
    host_ip: str | None = field(name="HostIP", default=None)
    host_port: int = field(name="HostPort", default=0)
    host_port_end: int = field(name="HostPortEnd", default=0)


Request = TypeVar("Request", bound=msgspec.Struct)


def decode(body: bytes, kind: type[Request]) -> Request:
    """Read one request; an empty body is {}.  InvalidSpec in one line."""
    if len(body) > LARGEST:
        raise InvalidSpec(f"the request has more than {LARGEST} bytes")
    try:
        found = msgspec.json.decode(body.strip() or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
        raise InvalidSpec(f"invalid request: {_line(bad)}") from None
    for name in ("network", "endpoint"):
        if (id := getattr(found, name, None)) is not None and not _ID.fullmatch(id):
            raise InvalidSpec(f"invalid {name} id {short(id)}: 12 to 64 letters and digits")
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def short(text: str) -> str:
    """Quote a text of the request for an error message, in one line."""
    return repr(text if len(text) <= 64 else f"{text[:61]}...")


def flag(options: Options | None, name: str, default: bool) -> bool:
    """Return a switch among the options: a boolean, or a text as Go's strconv.ParseBool has it."""
    given = (options or {}).get(name, default)
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.lower() in {"true", "1", "t", "false", "0", "f"}:
        return given.lower() in {"true", "1", "t"}
    raise InvalidSpec(f"option {name} is true or false")


def driver_options(options: Options | None) -> dict[str, str]:
    """Return the user's `-o KEY=VALUE`."""
    given = (options or {}).get(GENERIC) or {}
    if not isinstance(given, Mapping):
        raise InvalidSpec(f"option {GENERIC} is an object")
    for key, value in given.items():
        if not isinstance(value, str):
            raise InvalidSpec(f"option {short(str(key))} is a text")
        if len(key) > OPTION_LENGTH or len(value) > OPTION_LENGTH:
            raise InvalidSpec(f"option {short(key)} has more than {OPTION_LENGTH} characters")
    return dict(given)


def published(options: Options | None) -> tuple[PortSpec, ...]:
    """Return the ports to publish.  InvalidSpec."""
    given = (options or {}).get(PORTMAP) or []
    try:
        bindings = msgspec.convert(given, list[_Binding])
    except msgspec.MsgspecError as bad:
        raise InvalidSpec(f"invalid option {PORTMAP}: {_line(bad)}") from None
    if len(bindings) > MOST_PORTS:
        raise InvalidSpec(f"more than {MOST_PORTS} ports to publish")
    return tuple(dict.fromkeys(_specs(bindings)))


def _specs(bindings: list[_Binding]) -> Iterator[PortSpec]:
    for b in bindings:
        if b.proto not in PROTOCOLS:
            raise InvalidSpec(f"invalid protocol number {b.proto} of a port: 6, 17 or 132")
        yield PortSpec(
            proto=PROTOCOLS[b.proto],
            container_port=b.port,
            host_ip=b.host_ip or "",
            host_first=b.host_port,
            host_last=b.host_port_end or b.host_port,
        )
