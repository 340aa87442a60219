"""Make endpoints of a container's specs: names, addresses, the default route, ports.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface
from typing import NamedTuple

import msgspec

from netkit.driver import IFACE_PREFIX, Subnet, traits_of
from netkit.errors import Conflict, InvalidSpec, NotSupported
from netkit.model import HOST, IPAddress, IPInterface
from netkit.network.address_requests import OPTION as ADDRESSES
from netkit.network.address_requests import AddressRequest, FromSubnet, ThisAddress, checked, parse
from netkit.network.driver_options import OURS, unread
from netkit.network.entry import NetworkEntry
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox

PREFIX = "com.docker.network.container_iface_prefix"
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
WITHOUT_DNS = "netkit.without-dns"  # "true": the container has no names on the network
OPTIONS = frozenset({IFNAME, SYSCTLS, ADDRESSES, WITHOUT_DNS})
PLACEHOLDERS = frozenset({"IFNAME", "ifname"})
FAMILIES = frozenset({"ipv4", "mpls"})  # ipv6 once there is IPv6
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class AttachedEndpoint(NamedTuple):
    """An endpoint of a container, and the network it is on."""

    entry: NetworkEntry
    record: EndpointRecord


def validate_endpoint_spec(
    entry: NetworkEntry, want: EndpointSpec, sandbox: Sandbox | None = None
) -> None:
    """Refuse what this kind of network cannot do.  `sandbox` is None before there is one."""
    on_host = traits_of(entry.driver).needs_host_namespace
    if sandbox is not None and on_host != (sandbox.ns == HOST):
        raise InvalidSpec(
            f"network {entry.name} and namespace {sandbox.ns or 'of the host'!r} do not go "
            "together: only the host's namespace is on the host network, and on no other"
        )
    if want.ip:
        static_address(entry, want.ip, allocated=want.allocated)
    if want.addresses:
        _validate_addresses(entry, want)
    mac_address(want.mac)
    # A misspelt option of netkit's own would have no effect: refused.  Those of other engines
    # stay, with a warning, as compose files carry them.
    ours = sorted(k for k in want.driver_opts.keys() - OPTIONS if k.startswith(OURS))
    if ours:
        raise InvalidSpec(
            f"unknown endpoint option {ours[0]!r}: there are {', '.join(sorted(OPTIONS))}"
        )
    unread(want.driver_opts, OPTIONS, "an endpoint")
    _checked_ifname(_asked_ifname(want))
    sysctls(want, "eth0")


def _validate_addresses(entry: NetworkEntry, want: EndpointSpec) -> None:
    if not traits_of(entry.driver).any_address:
        raise InvalidSpec(
            f"network {entry.name} is of the {entry.record.spec.driver} driver, whose endpoints "
            f"have one address: leave out {', '.join(want.addresses)}, or use --ip"
        )
    address_requests(entry, want)


def address_requests(entry: NetworkEntry, want: EndpointSpec) -> tuple[AddressRequest, ...]:
    """Return all that is requested, any address of the network where nothing is.  InvalidSpec."""
    own: tuple[AddressRequest, ...] = ()
    if want.ip:
        subnet, address = static_address(entry, want.ip, allocated=want.allocated)
        own = (ThisAddress(IPv4Interface(f"{address}/{subnet.cidr.prefixlen}")),)
    return checked((*own, *parse(want.addresses))) or (FromSubnet(),)


def explicit_addresses(entry: NetworkEntry, want: EndpointSpec) -> list[IPInterface]:
    """Return the addresses that the user chose.  InvalidSpec."""
    if want.addresses:
        found = address_requests(entry, want)
        return [r.interface for r in found if isinstance(r, ThisAddress)]
    if not want.ip:
        return []
    subnet, address = static_address(entry, want.ip, allocated=want.allocated)
    return [ip_interface((address, subnet.cidr.prefixlen))]


def static_address(
    entry: NetworkEntry, text: str, *, allocated: bool = False
) -> tuple[Subnet, IPAddress]:
    """The configured subnet for an address the user chose; refusals in Docker's words.

    `allocated`: it was not chosen but allocated, so the network's subnet may be a chosen one.
    """
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidSpec(f"invalid IPv4 address: {text}") from None
    if not isinstance(address, IPv4Address):
        raise NotSupported(f"IPv6 is not supported yet: leave out address {text}")
    if entry.record.builtin or not entry.driver.uses_ipam:
        raise InvalidSpec("user specified IP address is supported on user defined networks only")
    # A chosen subnet may be another one when the network is created again; Docker refuses, too.
    if entry.record.chosen and not allocated:
        raise InvalidSpec(
            "user specified IP address is supported only when connecting to networks with user "
            f"configured subnets, and network {entry.name} has none"
        )
    for subnet in entry.config.subnets:
        if address in subnet.cidr:
            ends = (subnet.cidr[0], subnet.cidr[-1])
            # In a /31 and a /32 every address is a host's (RFC 3021).
            if subnet.cidr.num_addresses > 2 and address in ends:
                raise InvalidSpec(
                    f"invalid address {address}: it is the network or broadcast address of "
                    f"{subnet.cidr}"
                )
            return subnet, address
    raise InvalidSpec(
        f"no configured subnet contains IP address {address}: network {entry.name} has "
        + ", ".join(str(s.cidr) for s in entry.config.subnets)
    )


def mac_address(text: str) -> str:
    """Return it normalised; "" stays "" for "choose"."""
    mac = text.lower().replace("-", ":")
    if mac and not _MAC.fullmatch(mac):
        raise InvalidSpec(f"invalid MAC address {text!r}: six bytes as in 02:42:ac:11:00:02")
    # The lowest bit of the first byte marks a group address.
    if mac and (int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00"):
        raise InvalidSpec(f"invalid MAC address {text!r}: it is not the address of one interface")
    return mac


def interface_name(entry: NetworkEntry, want: EndpointSpec, taken: Collection[str]) -> str:
    """Return the requested name, else the lowest free one, e.g. eth0.  Conflict if taken."""
    asked = _asked_ifname(want)
    if asked:
        if asked in taken:
            raise Conflict(f"interface name {asked} is already taken in this container")
        return asked
    prefix = entry.record.spec.options.get(PREFIX) or IFACE_PREFIX
    # The lowest free number, not one past the highest: after a disconnect and a connect the
    # interface has its former name again.
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def _asked_ifname(want: EndpointSpec) -> str:
    return want.ifname or want.driver_opts.get(IFNAME, "")


def _checked_ifname(name: str) -> str:
    # `all` and `default` are directories of net.ipv4.conf beside the interfaces' own.
    bad = len(name.encode()) > 15 or name in {"lo", ".", "..", "all", "default"}
    if bad or any(c.isspace() or c in "/:%" or not c.isprintable() for c in name):
        raise InvalidSpec(
            f"invalid interface name {name!r}: up to 15 characters without spaces, '/', ':' or "
            "'%', and not lo"
        )
    return name


def sysctls(want: EndpointSpec, ifname: str) -> dict[str, str]:
    """`net.ipv4.conf.IFNAME.x=1,...` as paths below /proc/sys for this interface.

    The docker CLI makes a whole --network in small letters, so that "ifname" stands for it, too.
    """
    out: dict[str, str] = {}
    for item in filter(None, want.driver_opts.get(SYSCTLS, "").split(",")):
        name, equals, value = item.partition("=")
        parts = name.strip().split(".", 4)
        if not equals or len(parts) != 5 or parts[0] != "net" or parts[3] not in PLACEHOLDERS:
            raise InvalidSpec(
                f"unrecognised network interface sysctl {item!r}: write "
                "net.ipv4.conf.IFNAME.setting=value"
            )
        if parts[1] == "ipv6":
            raise NotSupported(f"IPv6 is not supported yet: leave out endpoint sysctl {item}")
        last = parts.pop().split(".")
        if parts[1] not in FAMILIES or any("/" in p or p in {"", ".."} for p in (*parts, *last)):
            raise InvalidSpec(f"invalid endpoint sysctl {item!r}: only of ipv4 and mpls")
        out["/".join((*parts[:3], ifname, *last))] = value
    return out


def network_gateway(entry: NetworkEntry) -> str:
    """Return the gateway of containers on this network; "" if there is none."""
    if entry.config.internal:
        return ""
    return next((str(s.router) for s in entry.config.subnets if s.router), "")


def reached_gateway(entry: NetworkEntry, addresses: Iterable[IPInterface]) -> str:
    """Return the gateway of containers that have these addresses; "" if they reach none."""
    if entry.config.internal:
        return ""
    routers = [s.router for s in entry.config.subnets if s.router]
    found = (str(r) for r in routers for a in addresses if r in a.network and r != a.ip)
    return next(found, "")


def with_container_name(
    record: EndpointRecord, name: str, names: Mapping[str, Sequence[str]]
) -> EndpointRecord:
    """Return the same endpoint under its container's new name."""
    spec = record.spec
    if record.network in names:
        spec = replace(spec, names=tuple(names[record.network]))
    return msgspec.structs.replace(record, owner_name=name, spec=spec)
