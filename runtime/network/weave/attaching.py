"""Put running containers on the overlay's network, and take them off: attach, detach, ps."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network, ip_interface
from typing import Any, Protocol, cast

from msgspec import structs

from netkit.errors import Conflict, NotFound
from netkit.network.address_requests import (
    OPTION,
    AddressRequest,
    ThisAddress,
    assigned,
    parse,
    split,
)
from netkit.network.endpoint import IFNAME, WITHOUT_DNS
from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.spec import EndpointRecord
from runtime.container.config import EndpointSettings
from runtime.container.model import Container
from runtime.network.weave.addresses import EXPOSED
from runtime.network.weave.requests import AttachRequest, DetachRequest

INTERFACE = "ethwe"  # in containers, as users of weave know it


class Containers(Protocol):
    """The part of runtime.lifecycle.service that is needed here."""

    def find(self, ref: str) -> Container: ...
    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None: ...
    def disconnect(self, ref: str, network: str, *, force: bool) -> None: ...

    def readdress(self, ref: str, network: str, settings: EndpointSettings) -> None:
        """Change the addresses of a container on a network that it is on."""
        ...


class Attaching:
    def __init__(self, host: OverlayNetworks, containers: Containers) -> None:
        self._host, self._containers = host, containers

    def attach(self, request: AttachRequest) -> list[str]:
        """The addresses that the container has by it, with lengths.

        What it has already stays.  NotFound; Conflict: it does not run, or an address is in use.
        """
        wanted = parse(request.addresses) or parse(["net:default"])
        c, lane = self._running(request.container), self.default()
        former, there = self._settings(c, lane), self._addresses(c, lane)
        if former is None or not there:  # it lost what it had, to another host
            options = {OPTION: _joined(wanted)} | ({WITHOUT_DNS: "true"} if request.without_dns
                                                   else {})  # fmt: skip
            if INTERFACE not in {e.ifname for e in self._host.endpoints() if e.sandbox == c.id}:
                options[IFNAME] = INTERFACE
            settings = EndpointSettings(aliases=request.names, driver_opts=options)
            self._containers.connect(c.id, lane.record.id, settings)
        else:
            have = self._requests(former, there)
            more = [each for each in wanted if each not in have]
            self._readdress(c, lane, former, [*have, *more])
        met = assigned(wanted, self._addresses(c, lane), _default(lane))
        return [str(each) for _, each in met if each is not None]

    def detach(self, request: DetachRequest) -> list[str]:
        """The addresses that the container has lost; without the last one it leaves the network.

        NotFound: it is not on the network, or has no such address.  Conflict: it does not run.
        """
        wanted = parse(request.addresses)
        c, lane = self._running(request.container), self.default()
        former, have = self._settings(c, lane), self._addresses(c, lane)
        if former is None or not have:
            raise NotFound(f"container {c.name} is not on network {lane.record.spec.name}")
        lost = have
        if wanted:
            lost = [_met(each, met, c) for each, met in assigned(wanted, have, _default(lane))]
            lost = list(dict.fromkeys(lost))
        left = [each for each in have if each not in lost]
        if left:
            asked = assigned(self._requests(former, have), have, _default(lane))
            self._readdress(c, lane, former, [r for r, met in asked if met in left])
        else:
            self._containers.disconnect(c.id, lane.record.id, force=False)
        return [str(each) for each in lost]

    def ps(self) -> list[dict[str, Any]]:
        """{"Container", "Name", "Mac", "Addresses", "Network"} of each, this host first."""
        networks = self._host.all()
        names = {each.record.id: each.record.spec.name for each in networks}
        exposed = [
            _row(EXPOSED, EXPOSED, each.ports.host_mac, [*map(str, each.ports.host_addresses)],
                 names[each.record.id])
            for each in networks if each.ports.host_addresses
        ]  # fmt: skip
        return exposed + [
            _row(e.sandbox, e.owner_name, e.mac, e.addresses, names[e.network])
            for e in self._host.endpoints() if e.network in names
        ]  # fmt: skip

    def default(self) -> OverlayNetwork:
        """The network that `launch` makes.  NotFound."""
        try:
            return self._host.find(self._host.driver)
        except NotFound:
            raise NotFound(
                f"there is no network {self._host.driver} any more: netkit weave stop and launch "
                "make it again"
            ) from None

    # -- one container ---------------------------------------------------------------------------

    def _running(self, ref: str) -> Container:
        c = self._containers.find(ref)
        if not c.state.alive:
            raise Conflict(f"Container {c.id} is not running")
        return c

    def _settings(self, c: Container, lane: OverlayNetwork) -> EndpointSettings | None:
        """Its settings on the network; None: it is not on it."""
        for word, settings in c.networks.items():
            if word == lane.record.spec.name or (word and lane.record.id.startswith(word)):
                return settings
        return None

    def _requests(
        self, settings: EndpointSettings, have: Sequence[IPv4Interface]
    ) -> list[AddressRequest]:
        """What was requested so far, but for a static address, which stays where it is given."""
        found = list(parse(split((settings.driver_opts or {}).get(OPTION, ""))))
        static = settings.ipam_config.ipv4_address if settings.ipam_config else ""
        if found or not static:
            return found or list(parse(["net:default"]))
        return [ThisAddress(each) for each in have if str(each.ip) == static]

    def _readdress(
        self, c: Container, lane: OverlayNetwork, former: EndpointSettings,
        requests: Sequence[AddressRequest],
    ) -> None:  # fmt: skip
        options = {**(former.driver_opts or {}), OPTION: _joined(requests)}
        settings = structs.replace(former, driver_opts=options, ipam_config=None)
        self._containers.readdress(c.id, lane.record.id, settings)

    def _addresses(self, c: Container, lane: OverlayNetwork) -> list[IPv4Interface]:
        found: list[EndpointRecord] = [
            e for e in self._host.endpoints()
            if (e.sandbox, e.network) == (c.id, lane.record.id)
        ]  # fmt: skip
        return [cast(IPv4Interface, ip_interface(a)) for e in found for a in e.addresses]


def _default(lane: OverlayNetwork) -> IPv4Network:
    return cast(IPv4Network, lane.config.subnets[0].cidr)


def _joined(requests: Sequence[AddressRequest]) -> str:
    return ",".join(map(str, requests))


def _met(request: AddressRequest, met: IPv4Interface | None, c: Container) -> IPv4Interface:
    if met is None:
        raise NotFound(f"container {c.name} has no address {request} on the overlay")
    return met


def _row(
    container: str, name: str, mac: str, addresses: Sequence[str], network: str
) -> dict[str, Any]:
    return {
        "Container": container, "Name": name, "Mac": mac, "Addresses": list(addresses),
        "Network": network,
    }  # fmt: skip
