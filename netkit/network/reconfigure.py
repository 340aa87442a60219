"""Change options of a network while containers are on it: row first, then the kernel, or nothing.

A container that joins at the same time may get what the former options say; the guards of rules
and links, which compare with the row, put that right with their next look.  Meanwhile they do not
look at the network: what is missing of its row is on its way, not deleted by another tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import msgspec

from netkit.driver import Subnet, traits_of
from netkit.errors import Conflict, InvalidSpec
from netkit.locks import KeyedLocks
from netkit.network.context import NetworkContext
from netkit.network.endpoint import AttachedEndpoint, reached_gateway
from netkit.network.endpoint_store import READY
from netkit.network.entry import NetworkEntry
from netkit.network.sandbox import SandboxController
from netkit.network.validation import HOSTLESS, to_subnet_spec
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, NetworkSpec


class Reconfiguration:
    def __init__(
        self, parts: NetworkContext, sandboxes: SandboxController, locks: KeyedLocks
    ) -> None:
        self._p, self._sandboxes, self._locks = parts, sandboxes, locks

    def change(
        self, entry: NetworkEntry, options: Mapping[str, str], gateway: str = ""
    ) -> NetworkEntry:
        """Set these options, and with `gateway` the host's address; see `Networks.reconfigure`."""
        p = self._p
        with self._locks.hold(entry.record.id), p.registry.changes(entry.record.id):
            old = p.registry.get(entry.record.id)
            spec = _with_options(old, options)
            with p.database.transaction():
                new = p.registry.reconfigured(old, spec)
                new = self._with_gateways(old, new, gateway)
                self._refuse_published(new)
                p.registry.store(new)
            try:
                self._converge(old, new)
            except BaseException as error:
                self._back(error, old, new)
                raise
        # Access rules say other things to another policy.
        for sandbox in sorted({r.sandbox for r in self._records(new)}):
            self._sandboxes.policy_sync.sync_sandbox(sandbox)
        return new

    def _with_gateways(
        self, old: NetworkEntry, new: NetworkEntry, gateway: str
    ) -> NetworkEntry:
        """The host gets the address that is given, that it had, or the lowest that is free.

        Where it leaves the network, its address is released.
        """
        id = new.record.id
        if not _has_host(new):
            if gateway:
                raise InvalidSpec(f"the host has no address on network {new.name}: give no gateway")
            if not _has_host(old):
                return new
            subnets = [self._without_host(id, s) for s in old.config.subnets]
        else:
            subnets = [self._numbered(id, s, gateway) for s in old.config.subnets]
        if gateway and not any(str(s.gateway) == gateway for s in subnets):
            raise InvalidSpec(f"{gateway} is in no subnet of network {new.name}")
        spec = replace(new.record.spec, subnets=tuple(map(to_subnet_spec, subnets)))
        return self._p.registry.reconfigured(new, spec)

    def _without_host(self, network: str, s: Subnet) -> Subnet:
        if s.gateway is not None:
            self._p.addresses.give_back(network, s.gateway)
        return replace(s, gateway=None)

    def _numbered(self, network: str, s: Subnet, gateway: str) -> Subnet:
        addresses = self._p.addresses
        if gateway and ip_address(gateway) in s.cidr:
            wanted = ip_address(gateway)
            if wanted != s.gateway:
                if s.gateway is not None:
                    addresses.give_back(network, s.gateway)
                addresses.reserve(network, wanted, "gateway", network)
            return replace(s, gateway=wanted)
        if s.gateway is not None:
            return s
        return replace(s, gateway=addresses.allocate_gateway(network, s))

    def _refuse_published(self, new: NetworkEntry) -> None:
        if new.policy is not None and new.policy.translates:
            return
        published = [r.owner_name for r in self._records(new) if r.ports]
        if published:
            raise Conflict(
                f"container {min(published)} publishes ports by network {new.name}: stop it first"
            )

    def _records(self, entry: NetworkEntry) -> list[EndpointRecord]:
        return self._p.records.of_sandbox(network=entry.record.id, ready=True)

    def _converge(self, old: NetworkEntry, new: NetworkEntry) -> None:
        p = self._p
        was, wanted = p.desired_state.of_network(old), p.desired_state.networks([new])
        p.converger.converge(Change.of(wanted, was))
        for sandbox in sorted({r.sandbox for r in self._records(new)}):
            self._converge_sandbox(sandbox, old, new)

    def _converge_sandbox(self, id: str, old: NetworkEntry, new: NetworkEntry) -> None:
        p = self._p
        with self._sandboxes.locks.hold(id):
            row = p.records.sandbox(id)
            if row is None or row.state != READY:
                return
            joined = self._sandboxes.attach_entries(self._sandboxes.endpoints(id))
            before = [_at(each, old) for each in joined]
            after = [_at(each, new) for each in joined]
            if [r for _, r in before] != [r for _, r in after]:
                self._sandboxes.reconfigure(row.opened, before, after, keep_default=True)
                return
            records = [r for _, r in joined if r.network == new.record.id]
            access = p.policies.applied(records)
            wanted, was = (
                p.desired_state.endpoints(row.opened.sandbox, _attached(entry, records), access)
                for entry in (new, old)
            )
            p.converger.converge(Change.of(wanted, was))

    def _back(self, error: BaseException, old: NetworkEntry, new: NetworkEntry) -> None:
        """As it was before; where the kernel refuses that too, the guards go on."""
        try:
            with self._p.database.transaction():
                kept = {s.gateway for s in old.config.subnets}
                for s in new.config.subnets:
                    if s.gateway is not None and s.gateway not in kept:
                        self._p.addresses.give_back(old.record.id, s.gateway)
                for s in old.config.subnets:
                    if s.gateway is not None:
                        self._p.addresses.reserve(
                            old.record.id, s.gateway, "gateway", old.record.id
                        )
                self._p.registry.store(old)
            self._converge(new, old)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not undo the change of network {old.name}: {bad}")


def _has_host(entry: NetworkEntry) -> bool:
    """Whether the host has an address on the network."""
    policy = entry.policy
    return policy is not None and policy.mode not in HOSTLESS and entry.driver.uses_ipam


def _at(each: AttachedEndpoint, entry: NetworkEntry) -> AttachedEndpoint:
    """An endpoint as it is if its network is as `entry` has it: with that one's gateway."""
    if each.record.network != entry.record.id:
        return each
    gateway = reached_gateway(entry, map(ip_interface, each.record.addresses))
    return AttachedEndpoint(entry, msgspec.structs.replace(each.record, gateway=gateway))


def _attached(entry: NetworkEntry, records: Iterable[EndpointRecord]) -> list[AttachedEndpoint]:
    return [AttachedEndpoint(entry, r) for r in records]


def _with_options(entry: NetworkEntry, options: Mapping[str, str]) -> NetworkSpec:
    spec, changeable = entry.record.spec, traits_of(entry.driver).changeable
    new = {k for k, v in options.items() if spec.options.get(k) != v}
    fixed = sorted(new - changeable)
    if fixed:
        can = f": of this driver {', '.join(sorted(changeable))} can be" if changeable else ""
        raise InvalidSpec(f"option {fixed[0]} of network {entry.name} cannot be changed{can}")
    return replace(spec, options={**spec.options, **options})
