"""Choose the endpoint of a sandbox with the default route and the published ports.

Ports go with the default route where its network translates, on host ports that are held from
then on; and to every endpoint whose network is routed, at the container's own address.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface

import msgspec

from netkit.driver import PortMapping, traits_of
from netkit.errors import Conflict, InvalidSpec
from netkit.model import IPAddress
from netkit.network.endpoint import AttachedEndpoint
from netkit.network.endpoint_store import SandboxRecord
from netkit.network.entry import NetworkEntry
from netkit.network.requested_addresses import has_any_address
from netkit.portallocator import PortAllocator
from netkit.spec import EndpointRecord, PortSpec


def allocate_ports(
    ports: PortAllocator,
    opened: SandboxRecord,
    joined: Sequence[AttachedEndpoint],
    *,
    keep_default: bool = False,
) -> tuple[SandboxRecord, list[AttachedEndpoint]]:
    """Assign the default route and the ports to endpoints; host ports are held from here on.

    With `keep_default` the default route stays where it is, unless another network has a higher
    priority.  InvalidSpec where no network publishes the ports, Conflict where one is taken.
    """
    default = _default(joined, keep=keep_default)
    if opened.wants:
        _refuse_unpublished(joined, default)
    main = next((j for j in joined if j.record.id == default), None)
    # Reserved once while the sandbox is open: host ports stay when the default route moves.
    if main and main.entry.policy and main.entry.policy.translates and not opened.held:
        held = _hold(ports, opened, main, main.entry.policy.binding)
        opened = msgspec.structs.replace(opened, held=held)
    return opened, [
        AttachedEndpoint(
            entry,
            msgspec.structs.replace(
                record,
                is_default=record.id == default,
                ports=_ports_of(entry, opened, default=record.id == default),
            ),
        )
        for entry, record in joined
    ]


def _default(joined: Sequence[AttachedEndpoint], *, keep: bool) -> str | None:
    """The endpoint with the default route: of the highest priority, then the first by name."""
    candidates = sorted(
        (j for j in joined if j.record.gateway and j.record.spec.default_route),
        key=lambda j: (
            -j.record.spec.gw_priority, not (keep and j.record.is_default), j.entry.name,
        ),
    )  # fmt: skip
    return candidates[0].record.id if candidates else None


def _ports_of(
    entry: NetworkEntry, opened: SandboxRecord, *, default: bool
) -> tuple[PortMapping, ...]:
    mode = entry.policy.mode if entry.policy and entry.driver.supports_port_mapping else ""
    if mode == "routed":
        return tuple(dict.fromkeys(map(_untranslated, opened.wants)))
    return opened.held if mode in {"nat", "nat-unprotected"} and default else ()


def _untranslated(want: PortSpec) -> PortMapping:
    return PortMapping(
        proto=want.proto, container_port=want.container_port, host_ip="", host_port=0
    )


def reached_at(record: EndpointRecord) -> IPAddress:
    """The address at which the host reaches an endpoint, as `netkit.driver.Endpoint.inside`."""
    found = [ip_interface(a) for a in record.addresses]
    near = (a for a in found if record.gateway and ip_address(record.gateway) in a.network)
    return next(near, found[0]).ip


def _hold(
    ports: PortAllocator, opened: SandboxRecord, main: AttachedEndpoint, binding: str
) -> tuple[PortMapping, ...]:
    entry, record = main
    if not opened.wants or not entry.driver.supports_port_mapping:
        return ()
    inside = str(reached_at(record))
    try:
        return ports.reserve(
            opened.sandbox.id, opened.wants, inside, binding, bind=not opened.sandbox.binds_ports
        )
    except Conflict as error:
        raise Conflict(
            "driver failed programming external connectivity on endpoint "
            f"{record.owner_name} ({record.id}): {error}"
        ) from error


def _refuse_unpublished(joined: Sequence[AttachedEndpoint], default: str | None) -> None:
    """Raise InvalidSpec where ports would silently be published nowhere."""
    for entry, record in joined:
        alone = len(joined) == 1 or record.id == default
        bridged = entry.policy is not None and entry.policy.mode == "bridged"
        if alone and (
            bridged or (entry.driver.uses_ipam and not entry.driver.supports_port_mapping)
        ):
            where = "hosts of the LAN, " if bridged else ""
            raise InvalidSpec(
                f"network {entry.name} publishes no ports: its containers are {where}"
                "reached at their own addresses: leave out -p and -P, or give another network "
                "the higher gw-priority"
            )
        if alone and entry.policy and entry.policy.mode == "isolated" and not entry.config.internal:
            raise InvalidSpec(
                f"network {entry.name} publishes no ports: this host has no address on it: "
                f"{_exposing(entry)}leave out -p and -P, or give another network the higher "
                "gw-priority"
            )
        if alone and has_any_address(entry) and not record.gateway and not entry.config.internal:
            raise InvalidSpec(
                f"network {entry.name} publishes no ports of container {record.owner_name}: none "
                "of its addresses is in the subnet of this host's: give it one of that, leave out "
                "-p and -P, or give another network the higher gw-priority"
            )


def _exposing(entry: NetworkEntry) -> str:
    """How this host gets an address on a network of an overlay; "": it is none."""
    if not traits_of(entry.driver).overlay:
        return ""
    driver = entry.record.spec.driver
    if entry.name == driver:  # the one that `launch` makes
        return f"netkit {driver} expose, "
    return "make it with -o expose=true, "
