"""Change the addresses of an endpoint while its container runs, in one change of the kernel.

Rows come first: an address is the container's before it is in its namespace, and until it has
left it.  Another part of `SandboxController`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Interface, ip_interface
from typing import cast

import msgspec

from netkit import threads
from netkit.errors import InvalidSpec, NetkitError, NotFound
from netkit.network.context import NetworkContext
from netkit.network.endpoint import (
    AttachedEndpoint,
    address_requests,
    explicit_addresses,
    validate_endpoint_spec,
)
from netkit.network.endpoint_store import READY
from netkit.network.entry import NetworkEntry
from netkit.network.requested_addresses import addresses_of, has_any_address, with_addresses
from netkit.network.teardown import Teardown
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, EndpointSpec


class Readdressing:
    def __init__(self, parts: NetworkContext, sandboxes: Teardown) -> None:
        self._p, self._s = parts, sandboxes

    def change(self, sandbox_id: str, want: EndpointSpec) -> EndpointRecord:
        """See `Sandboxes.readdress`, of a sandbox that is open."""
        p = self._p
        entry = p.registry.get(want.network)
        with self._s.locks.hold(sandbox_id):
            opened = self._s.must_be_open(sandbox_id)
            # First what is still to be undone of an earlier change.
            p.retries.run_now(sandbox_id, want.network)
            before = self._s.attach_entries(self._s.endpoints(sandbox_id))
            old = _on(before, entry, opened.sandbox.name)
            validate_endpoint_spec(entry, want, opened.sandbox)
            new: AttachedEndpoint | None = None
            try:
                with p.acquirer.requested.overlay_of(entry).holding(want.network, sandbox_id):
                    new = self._acquired(old, want)
                after = [new if j is old else j for j in before]
                records = self._s.reconfigure(opened, before, after)
            except BaseException as error:
                self._back(error, old.record, new)
                raise
            record = next(r for r in records if r.id == old.record.id)
            p.acquirer.announce(opened.sandbox, [record])
            threads.attempt("publishing names", partial(p.names.publish, records, ()))
        self._settle(record)
        return record

    def _acquired(self, old: AttachedEndpoint, want: EndpointSpec) -> AttachedEndpoint:
        p, (entry, record) = self._p, old
        requests, had = address_requests(entry, want), addresses_of(record)
        found = p.acquirer.requested.acquire(entry, record.sandbox, requests, had)
        with p.database.transaction():
            for address in found:
                p.addresses.reserve(entry.record.id, address.ip, "lease", record.sandbox)
            begun = msgspec.structs.replace(record, changing=tuple(map(str, found)))
            p.records.save([begun])
        changed = msgspec.structs.replace(record, spec=want)
        return AttachedEndpoint(entry, with_addresses(entry, changed, found))

    # undoing

    def _back(
        self, error: BaseException, old: EndpointRecord, new: AttachedEndpoint | None
    ) -> None:
        """Undo a failed change; an address that may still be in the namespace keeps its row."""
        try:
            self._undo(old, new)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not undo it for {old.owner_name}, will try again: {bad}")
            what = f"undoing a change of {old.owner_name}'s addresses"
            again = partial(self._undo_unless_busy, old, new)
            self._p.retries.add((old.sandbox, old.network), what, again, bad)

    def _undo_unless_busy(self, old: EndpointRecord, new: AttachedEndpoint | None) -> bool:
        with self._s.locks.try_hold(old.sandbox) as ours:
            if ours:
                self._undo(old, new)
            return ours

    def _undo(self, old: EndpointRecord, new: AttachedEndpoint | None) -> None:
        """Converge to what the rows have now; closing a sandbox releases all that it has."""
        p = self._p
        row = p.records.sandbox(old.sandbox)
        if row is None or row.state != READY:
            return
        now = self._s.attach_entries(self._s.endpoints(old.sandbox))
        if new is not None:
            access = p.policies.applied([r for _, r in [*now, new]])
            sandbox = row.opened.sandbox
            there = p.desired_state.possible_leftovers(sandbox, [*now, new], access)
            p.converger.converge(
                Change.of(p.desired_state.of_sandbox(sandbox, now, access), there)
            )
        for _, record in now:
            if record.id == old.id:
                self.settle_rows(record)

    def undo_cut_short(self, record: EndpointRecord) -> None:
        """Of a daemon that was killed meanwhile; release, too, what was allocated for it."""
        new: AttachedEndpoint | None = None
        if not record.changing and not has_any_address(self._p.registry.get(record.network)):
            return
        if record.changing:
            (now,) = self._s.attach_entries([record])
            found = [cast(IPv4Interface, ip_interface(a)) for a in record.changing]
            new = AttachedEndpoint(now.entry, with_addresses(now.entry, record, found))
        self._undo(record, new)

    # what is released

    def _settle(self, record: EndpointRecord) -> None:
        """Without the sandbox's lock, since it takes those of sandboxes with rules about it."""
        try:
            # Before what it has no more is allocated again: no rule names that any more.
            self._s.policy_sync.endpoints_changed([record])
            with self._s.locks.hold(record.sandbox):
                self._settle_now(record)
        except Exception as error:  # noqa: BLE001  the change itself is done
            what = f"releasing addresses that {record.owner_name} has no more"
            if not isinstance(error, NetkitError):
                threads.report(what, error)
            again = partial(self._settle_unless_busy, record)
            # Not under the names by which `change` and others ask for what is to be undone: they
            # have the sandbox's lock.
            self._p.retries.add((f"addresses of {record.id}",), what, again, error)

    def _settle_unless_busy(self, record: EndpointRecord) -> bool:
        with self._s.locks.try_hold(record.sandbox) as ours:
            if not ours:
                return False
        self._s.policy_sync.endpoints_changed([record])
        with self._s.locks.try_hold(record.sandbox) as ours:
            if ours:
                self._settle_now(record)
            return ours

    def _settle_now(self, record: EndpointRecord) -> None:
        for now in self._p.records.of_sandbox(
            sandbox=record.sandbox, network=record.network, ready=True
        ):
            self.settle_rows(now)

    def settle_rows(self, record: EndpointRecord) -> None:
        """Keep rows of this endpoint's addresses alone: those that were chosen until its container
        is removed, others until it ends."""
        p, entry = self._p, self._p.registry.get(record.network)
        if not has_any_address(entry):
            return
        chosen = {a.ip for a in explicit_addresses(entry, record.spec)}
        found = [ip_interface(a).ip for a in record.addresses]
        with p.database.transaction():
            if record.changing:
                p.records.save([msgspec.structs.replace(record, changing=())])
            p.addresses.release_others(record.network, record.sandbox, found)
            for address in found:
                kind = "static" if address in chosen else "lease"
                p.addresses.reserve(record.network, address, kind, record.sandbox)
        p.acquirer.notify_changed()


def _on(
    joined: Sequence[AttachedEndpoint], entry: NetworkEntry, container: str
) -> AttachedEndpoint:
    """The endpoint on that network.  NotFound; InvalidSpec if it can have one address only."""
    if not has_any_address(entry):
        raise InvalidSpec(
            f"network {entry.name} is of the {entry.record.spec.driver} driver, whose endpoints "
            "have one address, which stays: disconnect the container, and connect it anew"
        )
    found = next((j for j in joined if j.record.network == entry.record.id), None)
    if found is None:
        raise NotFound(f"container {container} is not connected to network {entry.name}")
    return found
