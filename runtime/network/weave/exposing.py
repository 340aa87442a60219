"""Have this host be on the overlay's network, and names that are given by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import Any, Protocol, cast

from netkit.errors import InvalidSpec, NotFound
from netkit.network.address_requests import ThisAddress, assigned, parse
from netkit.network.overlay_networks import OverlayNetwork, OverlayNetworks
from netkit.overlay import verbs
from netkit.spec import NetworkRecord
from runtime.network.weave.addresses import EXPOSED, AllocatedAddresses
from runtime.network.weave.attaching import Attaching, Containers, host_addresses
from runtime.network.weave.requests import DnsRequest, ExposeRequest, HideRequest

EXTERN = "weave:extern"  # whose name it is that belongs to no container; weave's word
Call = Callable[[verbs.Known], Any]


class Reconfigure(Protocol):
    """`netkit.network.api.Networks.reconfigure`."""

    def __call__(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord: ...


class Exposing:
    """`call` asks the overlay's process."""

    def __init__(
        self, attaching: Attaching, addresses: AllocatedAddresses, reconfigure: Reconfigure,
        call: Call,
    ) -> None:  # fmt: skip
        self._attaching, self._addresses = attaching, addresses
        self._reconfigure, self._call = reconfigure, call

    def expose(self, request: ExposeRequest) -> list[str]:
        """The host's address on network weave, with its length.

        Conflict: the address is in use.  InvalidSpec: it is not of the network's subnet, or
        several are requested: the host has one in each subnet.
        """
        requests = parse(request.addresses) or parse(["net:default"])
        lane = self._attaching.default()
        subnet = cast(IPv4Network, lane.config.subnets[0].cidr)
        if len(requests) > 1:
            raise InvalidSpec(
                f"this host can have one address on network {lane.record.spec.name}: give one"
            )
        (wanted,) = requests
        inside = (
            wanted.interface.ip in subnet if isinstance(wanted, ThisAddress)
            else wanted.subnet is None or wanted.subnet.subnet_of(subnet)
        )  # fmt: skip
        if not inside:
            raise InvalidSpec(
                f"{wanted} is not of {subnet}, the subnet of network {lane.record.spec.name}: "
                "this host can have an address of that"
            )
        for name in request.names:
            _check_name(name)
        have = [IPv4Interface(text) for text in host_addresses(lane)]
        ((_, met),) = assigned([_within(wanted, subnet)], have, subnet)
        options = {"expose": "true", "masquerade": str(not request.without_masquerade).lower()}
        id = lane.record.id
        try:
            with self._addresses.holding(id, EXPOSED):
                got = met or self._get(id, _within(wanted, subnet), subnet)
                self._reconfigure(id, options, gateway=str(got.ip))
        finally:
            self._addresses.notify_changed()
        for name in request.names:
            self._call(verbs.DnsAdd(
                name=name, addresses=(str(got.ip),), network=id, container=EXPOSED
            ))  # fmt: skip
        return [f"{got.ip}/{subnet.prefixlen}"]

    def _get(self, network: str, wanted: object, subnet: IPv4Network) -> IPv4Interface:
        if isinstance(wanted, ThisAddress):
            self._addresses.claim(network, wanted.interface, EXPOSED)
            return wanted.interface
        asked = getattr(wanted, "subnet", None) or subnet
        found = self._addresses.allocate(network, asked, EXPOSED)
        if found is None:
            raise NotFound("the weave overlay was stopped meanwhile: netkit weave launch")
        return found

    def hide(self, request: HideRequest) -> list[str]:
        """The addresses that the host has lost.  NotFound: it has not that one."""
        requests = parse(request.addresses)
        lane = self._attaching.default()
        subnet = cast(IPv4Network, lane.config.subnets[0].cidr)
        have = [IPv4Interface(text) for text in host_addresses(lane)]
        for wanted, met in assigned([_within(r, subnet) for r in requests], have, subnet):
            if met is None:
                raise NotFound(f"this host has no address {wanted} on the overlay")
        if not have:
            return []
        self._reconfigure(lane.record.id, {"expose": "false"})
        self._addresses.notify_changed()
        with suppress(NotFound):  # it had none
            self._call(verbs.DnsRemove(container=EXPOSED, network=lane.record.id))
        return [str(each) for each in have]


class Naming:
    """Names of `dns-add`, which all hosts' containers look up."""

    def __init__(
        self, host: OverlayNetworks, attaching: Attaching, containers: Containers, call: Call
    ) -> None:
        self._host, self._attaching = host, attaching
        self._containers, self._call = containers, call

    def add(self, request: DnsRequest) -> None:
        """InvalidSpec, NotFound."""
        lane = self._network(request.network)
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
        lane = self._network(request.network)
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

    def _network(self, ref: str) -> OverlayNetwork:
        return self._host.find(ref) if ref else self._attaching.default()

    def _of(self, container: str, lane: OverlayNetwork) -> tuple[str, ...]:
        return tuple(
            address.partition("/")[0]
            for e in self._host.endpoints() if (e.sandbox, e.network) == (container, lane.record.id)
            for address in e.addresses
        )  # fmt: skip


def _within(wanted: Any, subnet: IPv4Network) -> Any:
    """An address with the length that it has on the network."""
    if not isinstance(wanted, ThisAddress):
        return wanted
    return ThisAddress(IPv4Interface((wanted.interface.ip, subnet.prefixlen)))


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
