"""Check and complete network specs.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from netkit.driver import Driver, OnSegment, Spanning, Subnet
from netkit.errors import Forbidden, InvalidSpec, NotSupported
from netkit.ipam.pools import span, wants_any
from netkit.network.entry import no_driver
from netkit.network.remote import GLOBAL
from netkit.spec import NetworkSpec, SubnetSpec

PREDEFINED = frozenset({"bridge", "host", "none", "default"})
DHCP = "dhcp"  # the IPAM driver that asks the server of the segment
_NAME = re.compile(r"\w([\w. -]*\w)?", re.ASCII)  # libnetwork's rule, and one letter will do


def check(
    spec: NetworkSpec, driver: Driver, *, builtin: bool, spanning: Iterable[str] = ()
) -> None:
    """Refuse an invalid spec, with Docker's message where it has one.

    `spanning` are the drivers that have networks of global scope.
    """
    if not builtin and spec.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {spec.name} network")
    if not spec.name.strip():
        raise InvalidSpec("invalid name: name is empty")
    if not _NAME.fullmatch(spec.name):
        raise InvalidSpec(
            f'"{spec.name}" includes invalid characters, resource name has to conform to '
            f'"{_NAME.pattern}"'
        )
    if spec.enable_ipv6:
        raise NotSupported("IPv6 is not supported yet: leave out --ipv6")
    if not spec.enable_ipv4:
        raise NotSupported("networks without IPv4 are not supported yet: leave out --ipv4=false")
    if spec.scope not in {"", "local", GLOBAL}:
        raise NotSupported(
            f"networks of scope {spec.scope} are not supported: use local or {GLOBAL}"
        )
    if spec.scope == GLOBAL and not isinstance(driver, Spanning):
        raise InvalidSpec(
            f"the {spec.driver} driver has no networks of scope {GLOBAL}: use "
            + "".join(f"--driver {name}, or " for name in sorted(spanning))
            + "--scope local"
        )
    asks = spec.ipam_driver == DHCP and isinstance(driver, OnSegment)
    if spec.ipam_driver not in {"", "default"} and not asks:
        raise no_driver(spec.ipam_driver)
    if spec.ipam_options:
        key = sorted(spec.ipam_options)[0]
        raise InvalidSpec(f"unknown option {key!r} for the {spec.ipam_driver} IPAM driver")
    if spec.internal and not driver.addresses:
        raise InvalidSpec(f"the {spec.driver} driver has no internal networks")


def asks_any(spec: NetworkSpec) -> bool:
    """Whether any subnet will do.  InvalidSpec where that contradicts the rest."""
    if len(spec.subnets) != 1:
        return False
    one = spec.subnets[0]
    if not one.subnet and (one.ip_range or one.gateway or one.aux):
        raise InvalidSpec(
            "invalid network config:\nevery ip-range, gateway or auxiliary address must have a "
            "corresponding subnet"
        )
    if wants_any(one) and (one.ip_range or one.gateway or one.aux):
        raise InvalidSpec(f"invalid subnet {one.subnet}: give one to set a gateway or range")
    return not one.subnet or wants_any(one) is not None


def with_gateway(subnet: Subnet) -> Subnet:
    """Add the first free address as gateway, of the range if there is one."""
    if subnet.gateway is not None:
        return subnet
    first, last = span(subnet)
    reserved = {int(a) for _, a in subnet.aux}
    base = subnet.cidr.network_address
    for number in range(first, last + 1):
        if number not in reserved:
            return replace(subnet, gateway=base + (number - int(base)))
    raise InvalidSpec(f"invalid subnet {subnet.cidr}: no address is left for a gateway")


def written(subnet: Subnet) -> SubnetSpec:
    """Return it as the user would write it."""
    return SubnetSpec(
        subnet=str(subnet.cidr),
        ip_range=str(subnet.ip_range or ""),
        gateway=str(subnet.gateway or ""),
        aux={name: str(a) for name, a in subnet.aux},
    )
