"""Have this host be on the overlay's network, and names that are given by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import Any, Protocol, cast

from netkit.errors import InvalidSpec, NotFound
from netkit.network.address_requests import AddressRequest, ThisAddress, assigned, parse
from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.overlay import verbs
from netkit.overlay.client import ABSENT
from netkit.spec import NetworkRecord
from runtime.network.weave.addresses import EXPOSED, AllocatedAddresses
from runtime.network.weave.attaching import Attaching, Containers
from runtime.network.weave.requests import DnsRequest, ExposeRequest, HideRequest

EXTERN = "weave:extern"  # whose name it is that belongs to no container; weave's word
Call = Callable[[verbs.Known], Any]


class Reconfigure(Protocol):
    """`netkit.network.api.Networks.reconfigure`."""

    def __call__(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord: ...


class Exposing:
    """The first address of the network's subnet makes the host the gateway there, other ones are in
    the network's option `addresses`.  `call` asks the overlay's process."""

    def __init__(
        self, host: OverlayNetworks, attaching: Attaching, addresses: AllocatedAddresses,
        reconfigure: Reconfigure, call: Call,
    ) -> None:  # fmt: skip
        self._host, self._attaching, self._addresses = host, attaching, addresses
        self._reconfigure, self._call = reconfigure, call

    def expose(self, request: ExposeRequest) -> list[str]:
        """The host's addresses by it, with lengths, besides those that it has already.

        InUse: a container, or another host, has one.  All of them or none.
        """
        requests = parse(request.addresses) or parse(["net:default"])
        for name in request.names:
            _check_name(name)
        lane = self._attaching.default()
        masquerade = str(not request.without_masquerade).lower()
        try:
            with self._addresses.holding(lane.record.id, EXPOSED):
                found = [self._get(lane, each) for each in requests]
                have = _have(lane)
                self._set(lane, [*have, *(a for a in found if a not in have)], masquerade)
        finally:
            self._host.tidy()
            self._addresses.notify_changed()
        for name in request.names:
            self._call(verbs.DnsAdd(
                name=name, addresses=tuple(str(a.ip) for a in found), network=lane.record.id,
                container=EXPOSED,
            ))  # fmt: skip
        return [*map(str, found)]

    def _get(self, lane: OverlayNetwork, wanted: AddressRequest) -> IPv4Interface:
        """One that the host has already, or by now."""
        subnet, id = _subnet(lane), lane.record.id
        ((_, met),) = assigned([wanted], _have(lane), subnet)
        if met is not None:
            return met
        if isinstance(wanted, ThisAddress):
            got = wanted.interface
            for have in _have(lane):
                if have.ip == got.ip:
                    return have  # with another length
            self._addresses.claim(id, got, EXPOSED)
        else:
            given = self._addresses.allocate(id, wanted.subnet or subnet, EXPOSED)
            if given is None:
                raise NotFound(ABSENT)
            got = given
        if got.ip in subnet:
            got = IPv4Interface((got.ip, subnet.prefixlen))
        self._host.reserve_for_host(id, got.ip)
        return got

    def _set(self, lane: OverlayNetwork, have: Sequence[IPv4Interface], masquerade: str) -> None:
        """Have the host have these addresses on the network, and no others."""
        subnet = _subnet(lane)
        gateways = [a for a in have if a.ip in subnet]
        kept = [a for a in gateways if lane.config.subnets[0].gateway == a.ip]
        gateway = next(iter([*kept, *gateways]), None)
        options = {
            "expose": str(gateway is not None).lower(),
            "addresses": ",".join(str(a) for a in have if a != gateway),
        }
        if masquerade:
            options["masquerade"] = masquerade
        address = str(gateway.ip) if gateway is not None else ""
        self._reconfigure(lane.record.id, options, gateway=address)

    def hide(self, request: HideRequest) -> list[str]:
        """The addresses that the host has lost.  NotFound: it has not that one."""
        requests = parse(request.addresses)
        lane = self._attaching.default()
        have = _have(lane)
        lost = have if not requests else []
        for wanted in requests:
            ((_, met),) = assigned([_as_there(wanted, have)], have, _subnet(lane))
            if met is None:
                raise NotFound(f"this host has no address {wanted} on the overlay")
            lost.append(met)
        if not have:
            return []
        try:
            self._set(lane, [a for a in have if a not in lost], "")
        finally:
            self._host.tidy()
            self._addresses.notify_changed()
        with suppress(NotFound):  # it had none
            self._call(verbs.DnsRemove(
                container=EXPOSED, network=lane.record.id,
                addresses=tuple(str(a.ip) for a in lost),
            ))  # fmt: skip
        return [str(each) for each in dict.fromkeys(lost)]


class Naming:
    """Names of `dns-add`, which all hosts' containers look up."""

    def __init__(
        self, host: OverlayNetworks, attaching: Attaching, containers: Containers, call: Call
    ) -> None:
        self._host, self._attaching = host, attaching
        self._containers, self._call = containers, call

    def add(self, request: DnsRequest) -> None:
        """InvalidSpec, NotFound."""
        lane = self._network(request)
        addresses, name = _addresses(request.addresses), request.name
        container = EXTERN
        if request.container:
            c = self._containers.find(request.container)
            container, name = c.id, name or c.name
            addresses = addresses or self._of(c.id, lane)
            if not addresses:
                raise NotFound(
                    f"container {c.name} has no address on network {lane.record.spec.name}"
                )
        if not name or not addresses:
            raise InvalidSpec("Name and Addresses are needed, or Container")
        _check_name(name)
        self._call(verbs.DnsAdd(
            name=name, addresses=addresses, network=lane.record.id, container=container
        ))  # fmt: skip

    def remove(self, request: DnsRequest) -> None:
        """NotFound: no such name was added on this host."""
        if not request.container and not request.name:
            raise InvalidSpec("Name is needed, or Container")
        lane = self._network(request)
        container = ""
        if request.container:
            container = self._containers.find(request.container).id
        self._call(verbs.DnsRemove(
            name=request.name, container=container, network=lane.record.id,
            addresses=_addresses(request.addresses),
        ))  # fmt: skip

    def lookup(self, name: str) -> dict[str, list[str]]:
        if not 0 < len(name) <= 253:
            raise InvalidSpec("name is needed: a name, or an address, of up to 253 characters")
        found = self._call(verbs.DnsLookup(name=name))
        try:
            ip_address(name)
        except ValueError:
            return {"Addresses": found}
        return {"Names": found}

    def _network(self, request: DnsRequest) -> OverlayNetwork:
        """The one that is named, or that a full name is of: "db.lane.weave.local" of lane; where no
        network is called so, "db.lane" is a name with a dot on the network that `launch` makes.
        """
        name = request.name.rstrip(".").lower()
        label = name.removesuffix(f".{self._host.domain}")
        if request.network:
            return self._host.find(request.network)
        if label == name or "." not in label:
            return self._attaching.default()
        zone = label.rpartition(".")[2]
        named = [each for each in self._host.all() if each.record.spec.name.lower() == zone]
        return named[0] if named else self._attaching.default()

    def _of(self, container: str, lane: OverlayNetwork) -> tuple[str, ...]:
        return tuple(
            address.partition("/")[0]
            for e in self._host.endpoints() if (e.sandbox, e.network) == (container, lane.record.id)
            for address in e.addresses
        )  # fmt: skip


def _have(lane: OverlayNetwork) -> list[IPv4Interface]:
    return [cast(IPv4Interface, a) for a in lane.ports.host_addresses]


def _subnet(lane: OverlayNetwork) -> IPv4Network:
    return cast(IPv4Network, lane.config.subnets[0].cidr)


def _as_there(wanted: AddressRequest, have: Sequence[IPv4Interface]) -> AddressRequest:
    """An address with the length that it has."""
    if isinstance(wanted, ThisAddress):
        return next((ThisAddress(a) for a in have if a.ip == wanted.interface.ip), wanted)
    return wanted


def _addresses(texts: Sequence[str]) -> tuple[str, ...]:
    """Without lengths.  InvalidSpec."""
    if len(texts) > 8:
        raise InvalidSpec(f"{len(texts)} addresses of one name: 8 at most")
    found = []
    for text in texts:
        try:
            found.append(str(ip_address(text.removeprefix("ip:").partition("/")[0])))
        except ValueError:
            raise InvalidSpec(f"invalid address {text!r}") from None
    return tuple(dict.fromkeys(found))


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 253:
        raise InvalidSpec(f"invalid name {name[:64]!r}: 1 to 253 characters")
