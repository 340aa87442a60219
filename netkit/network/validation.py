"""Check and complete network specs.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from netkit.driver import Driver, MultiHost, SharedSegment, Subnet
from netkit.errors import Forbidden, InvalidSpec, NotSupported
from netkit.ipam.pools import assignable_range, requested_prefix_length
from netkit.network.entry import no_driver
from netkit.network.remote import SCOPE_GLOBAL
from netkit.spec import NetworkSpec, SubnetSpec

PREDEFINED = frozenset({"bridge", "host", "none", "default"})
DHCP = "dhcp"  # the IPAM driver that asks the server of the segment
_NAME = re.compile(r"\w([\w. -]*\w)?", re.ASCII)  # libnetwork's rule, and one letter will do


def validate_network_spec(
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
    if spec.scope not in {"", "local", SCOPE_GLOBAL}:
        raise NotSupported(
            f"networks of scope {spec.scope} are not supported: use local or {SCOPE_GLOBAL}"
        )
    if spec.scope == SCOPE_GLOBAL and not isinstance(driver, MultiHost):
        raise InvalidSpec(
            f"the {spec.driver} driver has no networks of scope {SCOPE_GLOBAL}: use "
            + "".join(f"--driver {name}, or " for name in sorted(spanning))
            + "--scope local"
        )
    asks = spec.ipam_driver == DHCP and isinstance(driver, SharedSegment)
    if spec.ipam_driver not in {"", "default"} and not asks:
        raise no_driver(spec.ipam_driver)
    if spec.ipam_options:
        key = sorted(spec.ipam_options)[0]
        raise InvalidSpec(f"unknown option {key!r} for the {spec.ipam_driver} IPAM driver")
    if spec.internal and not driver.uses_ipam:
        raise InvalidSpec(f"the {spec.driver} driver has no internal networks")


def wants_any_subnet(spec: NetworkSpec) -> bool:
    """Whether any subnet will do.  InvalidSpec where that contradicts the rest."""
    if len(spec.subnets) != 1:
        return False
    one = spec.subnets[0]
    if not one.subnet and (one.ip_range or one.gateway or one.aux):
        raise InvalidSpec(
            "invalid network config:\nevery ip-range, gateway or auxiliary address must have a "
            "corresponding subnet"
        )
    if requested_prefix_length(one) and (one.ip_range or one.gateway or one.aux):
        raise InvalidSpec(f"invalid subnet {one.subnet}: give one to set a gateway or range")
    return not one.subnet or requested_prefix_length(one) is not None


HOSTLESS = frozenset({"isolated", "bridged"})  # modes of networks that give the host no address


def with_gateway(subnet: Subnet) -> Subnet:
    """Add the first free address as gateway, of the range if there is one."""
    if subnet.gateway is not None:
        return subnet
    first, last = assignable_range(subnet)
    reserved = {int(a) for _, a in subnet.aux}
    base = subnet.cidr.network_address
    for number in range(first, last + 1):
        if number not in reserved:
            return replace(subnet, gateway=base + (number - int(base)))
    raise InvalidSpec(f"invalid subnet {subnet.cidr}: no address is left for a gateway")


def to_subnet_spec(subnet: Subnet) -> SubnetSpec:
    """Return it as the user would write it."""
    return SubnetSpec(
        subnet=str(subnet.cidr),
        ip_range=str(subnet.ip_range or ""),
        gateway=str(subnet.gateway or ""),
        aux={name: str(a) for name, a in subnet.aux},
    )
