"""Reserve the addresses that users chose for containers, from their creation to their removal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Interface

from netkit.errors import NetkitError
from netkit.network.context import NetworkContext
from netkit.network.endpoint import (
    address_requests,
    explicit_addresses,
    static_address,
    validate_endpoint_spec,
)
from netkit.network.entry import NetworkEntry
from netkit.network.global_networks import reserve_in_cluster
from netkit.network.remote import Cluster
from netkit.network.requested_addresses import RequestedAddresses, has_any_address
from netkit.spec import EndpointSpec


class Reservations:
    """Rows of the kind `static`, and what the cluster or the overlay has for them."""

    def __init__(
        self, parts: NetworkContext, cluster: Cluster, requested: RequestedAddresses
    ) -> None:
        self._p, self._cluster, self._requested = parts, cluster, requested

    def reserve(
        self, sandbox_id: str, wants: Sequence[EndpointSpec], *, more: bool = False
    ) -> None:
        p = self._p
        entries = [(p.registry.get(want.network), want) for want in wants]
        with (
            reserve_in_cluster(p.registry, self._cluster, sandbox_id, wants),
            self._in_overlay(sandbox_id, entries),
            p.database.transaction(),
        ):
            if not more:
                p.addresses.release(sandbox_id, kind="static")
            for entry, want in entries:
                validate_endpoint_spec(entry, want)
                for address in explicit_addresses(entry, want):
                    p.acquirer.forget_conflict(entry.record.id, address.ip)
                    p.addresses.reserve(entry.record.id, address.ip, "static", sandbox_id)

    @contextmanager
    def _in_overlay(
        self, sandbox: str, wants: Sequence[tuple[NetworkEntry, EndpointSpec]]
    ) -> Iterator[None]:
        """Claim what is an overlay's; inside, it is written down."""
        mine = [(entry, want) for entry, want in wants if has_any_address(entry)]
        try:
            with ExitStack() as stack:
                for entry, want in mine:
                    validate_endpoint_spec(entry, want)
                    overlay = self._requested.overlay_of(entry)
                    stack.enter_context(overlay.holding(entry.record.id, sandbox))
                    for address in explicit_addresses(entry, want):
                        if isinstance(address, IPv4Interface):
                            self._requested.claim(entry, sandbox, address)
                yield
        finally:
            if mine:  # one may have a reservation less, or what was claimed has got no row
                self._requested.overlay.notify_changed()

    def lease(self, sandbox_id: str, network_id: str, ip: str = "") -> str:
        p, entry = self._p, self._p.registry.get(network_id)
        p.registry.must_be_ready(entry)
        want = EndpointSpec(network=network_id, ip=ip, allocated=True)
        validate_endpoint_spec(entry, want)
        if entry.config.shared:
            return self._from_cluster(entry, sandbox_id, ip)
        if has_any_address(entry):
            return self._from_overlay(entry, sandbox_id, want)
        subnet = entry.config.subnets[0]
        if ip:
            subnet, address = static_address(entry, ip, allocated=True)
            p.acquirer.forget_conflict(network_id, address)
            p.addresses.reserve(network_id, address, "static", sandbox_id)
        else:
            address = p.acquirer.take_unused(entry, subnet, sandbox_id)
            p.addresses.reserve(network_id, address, "static", sandbox_id)  # it outlasts a run
        return f"{address}/{subnet.cidr.prefixlen}"

    def _from_cluster(self, entry: NetworkEntry, sandbox: str, ip: str) -> str:
        network, subnet = entry.record, entry.config.subnets[0]
        with self._cluster.holding(network.id, sandbox):
            address = self._cluster.allocate(network, subnet, sandbox, sandbox[:12], ip)
            try:
                self._p.addresses.reserve(network.id, address, "static", sandbox)
            except NetkitError:
                self._cluster.notify_changed()  # it goes back: it has no row
                raise
        return f"{address}/{subnet.cidr.prefixlen}"

    def _from_overlay(self, entry: NetworkEntry, sandbox: str, want: EndpointSpec) -> str:
        requested = self._requested
        try:
            with requested.overlay_of(entry).holding(entry.record.id, sandbox):
                (found,) = requested.acquire(entry, sandbox, address_requests(entry, want))
                self._p.addresses.reserve(entry.record.id, found.ip, "static", sandbox)
        finally:
            requested.overlay.notify_changed()
        return str(found)

    def replace(self, sandbox_id: str, want: EndpointSpec) -> None:
        """Reserve on one network what the spec has, and nothing else.  Of one that is not open."""
        entry = self._p.registry.get(want.network)
        with self._in_overlay(sandbox_id, [(entry, want)]), self._p.database.transaction():
            validate_endpoint_spec(entry, want)
            chosen = [a.ip for a in explicit_addresses(entry, want)]
            for address in chosen:
                self._p.addresses.reserve(want.network, address, "static", sandbox_id)
            self._p.addresses.release_others(want.network, sandbox_id, chosen)

    def unreserve(self, sandbox_id: str, network_id: str) -> None:
        self._p.addresses.release(sandbox_id, network=network_id, kind="static")
        self._p.acquirer.notify_changed()

    def forget(self, sandbox_id: str) -> None:
        self._p.addresses.release(sandbox_id, kind="static")
        self._p.addresses.release(sandbox_id)  # of a `lease` that a kill cut short
        self._p.acquirer.notify_changed()
