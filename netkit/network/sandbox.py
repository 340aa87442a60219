"""Open, connect, disconnect, close sandboxes: rows, then one change of the kernel, then rows.

What belongs to one sandbox is done under its own lock, and no lock is held for others while the
kernel works: the database arbitrates names and addresses, the sockets arbitrate ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from netkit import threads
from netkit.errors import Conflict, NotFound, nothing_applied
from netkit.locks import KeyedLocks
from netkit.model import HOST
from netkit.network.cleanup import DeferredCleanup
from netkit.network.context import NetworkContext
from netkit.network.endpoint import AttachedEndpoint, with_container_name
from netkit.network.endpoint_allocator import EndpointAllocator
from netkit.network.endpoint_store import LEAVING, PENDING, READY, SandboxRecord
from netkit.network.namespace_renewal import Renewing
from netkit.network.policy_sync import PolicySync, converge_with_networks
from netkit.network.published_ports import allocate_ports
from netkit.network.readdressing import Readdressing
from netkit.network.unreadable_rows import SHORT, left_by
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, EndpointSpec, PortSpec, Sandbox


class SandboxController:
    def __init__(self, parts: NetworkContext) -> None:
        self._p = p = parts
        self._give = EndpointAllocator(p.addresses, p.registry, p.acquirer, p.records, p.random)
        self.locks = KeyedLocks()
        self.policy_sync = PolicySync(p, self.locks, self.attach_entries)
        self.ending = DeferredCleanup(p.records, p.retries, self)
        self.renewing = Renewing(p, self)
        self.readdressing = Readdressing(p, self)
        self._prepared: set[str] = set()  # ids of sandboxes that have nothing but a namespace yet

    # opening and closing

    def prepare(self, sandbox: Sandbox) -> bool:
        p = self._p
        if sandbox.ns == HOST:
            return False
        with self.locks.hold(sandbox.id):
            if p.records.sandbox(sandbox.id) is not None:
                return False
            opened = SandboxRecord(sandbox=sandbox)
            p.records.save_sandbox(opened, PENDING)
            try:
                p.converger.converge(Change.of(p.desired_state.of_sandbox(sandbox, ())))
            except BaseException as error:
                self._rollback_open(error, opened, (), empty=nothing_applied(error))
                raise
            self._prepared.add(sandbox.id)
        return True

    def open(
        self,
        sandbox: Sandbox,
        wants: Sequence[EndpointSpec],
        ports: Sequence[PortSpec],
        *,
        shared: bool = False,
    ) -> list[EndpointRecord]:
        p = self._p
        # Before the lock: it may close the sandbox, which takes locks of other sandboxes.
        self.renewing.adapt(sandbox, wants, ports, shared=shared)
        with self.locks.hold(sandbox.id):
            row = p.records.sandbox(sandbox.id)
            if row and row.state == READY:
                self.renewing.begin(row.opened, shared=shared)
                records = self.endpoints(sandbox.id)
            else:
                prepared = sandbox.id in self._prepared
                self._prepared.discard(sandbox.id)
                if row and not prepared:
                    self._discard(row.opened)  # what an earlier failure left
                records = self._open(sandbox, wants, ports, prepared=prepared)
            self._publish(records)
        self._spread(records)
        return records

    def _open(
        self,
        sandbox: Sandbox,
        wants: Sequence[EndpointSpec],
        ports: Sequence[PortSpec],
        *,
        prepared: bool,
    ) -> list[EndpointRecord]:
        p = self._p
        # A rule that cannot be read may be the one that blocks traffic: no start without it.
        p.policies.must_be_readable(sandbox.id, sandbox.name)
        opened = SandboxRecord(sandbox=sandbox, wants=tuple(ports))
        entries = [p.registry.get(w.network) for w in wants]
        with p.database.transaction():
            p.records.save_sandbox(opened, PENDING)
            joined: list[AttachedEndpoint] = []
            for entry, want in zip(entries, wants, strict=True):
                joined.append(
                    AttachedEndpoint(entry, self._give.create_pending(sandbox, entry, want, joined))
                )
        try:
            # Outside the transaction: probes, DHCP and the cluster take seconds, and the daemon has
            # one connection to the database.
            joined = p.acquirer.acquire(joined)
            opened, joined = allocate_ports(p.ports, opened, joined)
            access = p.policies.resolve(joined)
            change = Change.of(p.desired_state.of_sandbox(sandbox, joined, access))
            converge_with_networks(p.converger, p.desired_state, change, entries)
            p.policies.set_applied(access)
            with p.database.transaction():
                p.records.save_sandbox(opened, READY)
                p.records.save([r for _, r in joined])
        except BaseException as error:
            empty = not prepared and nothing_applied(error)
            self._rollback_open(error, SandboxRecord(sandbox=sandbox), joined, empty=empty)
            raise
        records = [r for _, r in joined]
        p.acquirer.announce(sandbox, records)
        return records

    def _rollback_open(
        self,
        error: BaseException,
        opened: SandboxRecord,
        joined: Iterable[AttachedEndpoint],
        *,
        empty: bool,
    ) -> None:
        """Undo a failed open; where the kernel cannot be changed, rows stay for a retry.

        `empty`: nothing of it is in the kernel.
        """
        try:
            if empty:
                self._release(opened.sandbox.id)
            else:
                self._clear(opened, joined)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up {opened.sandbox.name}, will try again: {bad}")
            self.ending.close_later(opened, bad)

    def _clear(self, opened: SandboxRecord, joined: Iterable[AttachedEndpoint]) -> None:
        self.tear_down(opened, joined)
        self._release(opened.sandbox.id)

    def tear_down(
        self, opened: SandboxRecord, joined: Iterable[AttachedEndpoint]
    ) -> list[EndpointRecord]:
        """Delete these endpoints from the host; their rows stay."""
        p, joined = self._p, list(joined)
        records = [r for _, r in joined]
        gone = p.desired_state.of_ending(opened.sandbox, joined, p.policies.applied(records))
        # Without its driver an endpoint's resources cannot be computed: found by their mark.
        lost = [
            f"{e.config.owner}:{r.id[:SHORT]}" for e, r in joined if p.registry.is_driver_missing(e)
        ]
        gone = {**left_by(p.converger, p.desired_state.prefix, lost), **gone}
        p.converger.converge(Change.of({}, gone))
        p.policies.forget(records)
        return records

    def _release(self, id: str) -> None:
        """Delete its rows and release its addresses and ports, for others to allocate."""
        with self._p.database.transaction():
            self._p.records.drop_sandbox(id)
            self._p.addresses.release(id)
        # After the rows: if the database fails, the ports stay reserved for the retry.
        self._p.ports.release(id)
        self._p.acquirer.release_orphans()
        self.renewing.forget(id)

    def _discard(self, opened: SandboxRecord) -> None:
        self._clear(
            opened, self.attach_entries(self._p.records.of_sandbox(sandbox=opened.sandbox.id))
        )

    def close(self, sandbox_id: str) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None:
                return
            self._prepared.discard(sandbox_id)
            # Not open from here on: nothing joins it any more, and the resync leaves it alone.
            p.records.mark_sandbox_removing(sandbox_id)
            try:
                gone = self.tear_down(
                    row.opened, self.attach_entries(p.records.of_sandbox(sandbox=sandbox_id))
                )
            except Exception as error:
                self.ending.close_later(row.opened, error)
                raise
        try:
            # Without the lock, since it takes those of sandboxes with rules about this one: of two
            # that close at the same time each could wait for the other's.
            self.finish_close(sandbox_id, gone)
        except Exception as error:
            self.ending.close_later(row.opened, error)
            raise

    def finish_close(self, id: str, gone: list[EndpointRecord]) -> None:
        """After `tear_down`, without the sandbox's lock: delete rules, names and rows as well."""
        p = self._p
        self.policy_sync.endpoints_changed(gone, own=False)  # before they are allocated again
        with self.locks.hold(id):
            self._publish((), gone)  # first: without rows nothing remembers these names
            row = p.records.sandbox(id)
            if row is not None and row.state == LEAVING:  # it may have come back meanwhile
                self._release(id)

    def repair(self, opened: SandboxRecord) -> None:
        """Make the host match the rows again: this sandbox, and what its networks need."""
        records = self._p.records.of_sandbox(sandbox=opened.sandbox.id, ready=True)
        joined = self.attach_entries(records)
        access, before = self._p.policies.resolve(joined), self._p.policies.applied(records)
        change = Change.of(
            self._p.desired_state.of_sandbox(opened.sandbox, joined, access),
            self._p.desired_state.possible_leftovers(opened.sandbox, joined, before),
        )
        converge_with_networks(
            self._p.converger, self._p.desired_state, change, [e for e, _ in joined]
        )
        self._p.policies.set_applied(access)

    # changing

    def connect(self, sandbox: Sandbox, want: EndpointSpec) -> EndpointRecord:
        p = self._p
        with self.locks.hold(sandbox.id):
            opened = self.must_be_open(sandbox.id)
            entry = p.registry.get(want.network)
            # First what is still to be undone of a former endpoint there: its link is in the way.
            p.retries.run_now(sandbox.id, entry.record.id)
            before = self.attach_entries(p.records.of_sandbox(sandbox=sandbox.id, ready=True))
            with p.database.transaction():
                new = AttachedEndpoint(
                    entry, self._give.create_pending(opened.sandbox, entry, want, before)
                )
            try:
                (new,) = p.acquirer.acquire([new])
                records = self.reconfigure(opened, before, [*before, new])
            except BaseException as error:
                self._rollback_connect(error, opened, before, new)
                raise
            p.acquirer.announce(sandbox, [new.record])
            self._publish(records)
        self._spread(records)
        return next(r for r in records if r.id == new.record.id)

    def disconnect(self, sandbox_id: str, network_id: str) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            opened = self.must_be_open(sandbox_id)
            before = self.attach_entries(p.records.of_sandbox(sandbox=sandbox_id, ready=True))
            gone = next((r for _, r in before if r.network == network_id), None)
            if gone is None:
                raise NotFound(f"{opened.sandbox.title} is not connected to network {network_id}")
            # Intent first: a daemon killed from here on completes the removal when it starts.
            p.records.mark(gone.id, LEAVING)
            after = [j for j in before if j.record.id != gone.id]
            try:
                records = self.reconfigure(opened, before, after)
            except BaseException as error:
                self._stay(error, gone)
                raise
            p.policies.forget([gone])
        try:
            self.policy_sync.endpoints_changed([gone], own=False)  # before it is allocated again
            with self.locks.hold(sandbox_id):
                self._publish(records)
                self.delete_endpoint(gone)
        except Exception as error:
            self.ending.abandon_later(gone, error)
            raise
        self._spread(records)

    def _stay(self, error: BaseException, record: EndpointRecord) -> None:
        """Keep it on its network after a failed leave; if the database fails, remove it later."""
        try:
            self._p.records.mark(record.id, READY)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not keep endpoint {record.id[:12]}, will remove it: {bad}")
            self.ending.abandon_later(record, bad)

    def reconfigure(
        self,
        opened: SandboxRecord,
        before: list[AttachedEndpoint],
        after: list[AttachedEndpoint],
        *,
        keep_default: bool = False,
    ) -> list[EndpointRecord]:
        """Go from one set of endpoints to another in one change; the new records."""
        p = self._p
        kept = opened.held
        opened, joined = allocate_ports(p.ports, opened, after, keep_default=keep_default)
        access, had = p.policies.resolve(joined), p.policies.applied([r for _, r in before])
        try:
            change = Change.of(
                p.desired_state.of_sandbox(opened.sandbox, joined, access),
                p.desired_state.possible_leftovers(opened.sandbox, before, had),
            )
            converge_with_networks(p.converger, p.desired_state, change, [e for e, _ in joined])
            p.policies.set_applied(access)
        except BaseException:
            # Ports that were reserved before this change belong to the sandbox's former endpoints.
            if not kept:
                p.ports.release(opened.sandbox.id)
            raise
        with p.database.transaction():
            p.records.save_sandbox(opened, READY)
            p.records.save([r for _, r in joined])
        return [r for _, r in joined]

    def _rollback_connect(
        self,
        error: BaseException,
        opened: SandboxRecord,
        before: list[AttachedEndpoint],
        new: AttachedEndpoint,
    ) -> None:
        """Undo a failed joining."""
        p = self._p
        access = p.policies.applied([r for _, r in [*before, new]])
        wired = p.desired_state.of_sandbox(opened.sandbox, before, access)
        try:
            p.converger.converge(
                Change.of(
                    wired,
                    p.desired_state.possible_leftovers(opened.sandbox, [*before, new], access),
                )
            )
            self.delete_endpoint(new[1])
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up endpoint {new[1].id[:12]}, will try again: {bad}")
            self.ending.abandon_later(new[1], bad)

    def evict(self, endpoint: str) -> None:
        """Disconnect an endpoint whose lease has ended: its address may go to another host."""
        for record in self._p.records.of_sandbox(ready=True):
            if record.id == endpoint:
                self.disconnect(record.sandbox, record.network)

    def delete_endpoint(self, record: EndpointRecord) -> None:
        """Delete the row and release the address.  Its names go as well: if a daemon was killed in
        the middle of this, nothing else says so."""
        self._publish((), (record,))
        self._p.policies.forget([record])
        with self._p.database.transaction():
            self._p.records.delete(record.id)
            self._p.addresses.release(record.sandbox, network=record.network)
        self._p.acquirer.release_orphans()

    def rename(self, sandbox_id: str, name: str, names: Mapping[str, Sequence[str]]) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None:
                return
            opened = row.opened
            sandbox = replace(opened.sandbox, name=name)
            old = p.records.of_sandbox(sandbox=sandbox_id, ready=True)
            new = [with_container_name(r, name, names) for r in old]
            with p.database.transaction():
                p.records.save_sandbox(msgspec.structs.replace(opened, sandbox=sandbox), row.state)
                p.records.save(new)
            # After the commit: a rollback would not take back what was published.
            p.names.publish(new, old)

    # after what was asked for is done, and stays done

    def _publish(
        self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord] = ()
    ) -> None:
        threads.attempt("publishing names", partial(self._p.names.publish, joined, left))

    def _spread(self, records: Sequence[EndpointRecord]) -> None:
        """Rules about others that could not be changed are repaired by the next resync."""
        threads.attempt(
            "changing access rules", partial(self.policy_sync.endpoints_changed, records)
        )

    # common to all

    def endpoints(self, sandbox_id: str) -> list[EndpointRecord]:
        return self._p.records.of_sandbox(sandbox=sandbox_id, ready=True)

    def attach_entries(self, records: Iterable[EndpointRecord]) -> list[AttachedEndpoint]:
        return [AttachedEndpoint(self._p.registry.get(r.network), r) for r in records]

    def must_be_open(self, id: str) -> SandboxRecord:
        """Return its row; Conflict if it is not open."""
        row = self._p.records.sandbox(id)
        if row is None or row.state != READY:
            who = row.opened.sandbox.title if row else f"container {id[:12]}"
            raise Conflict(f"{who} is not running: its network is not there")
        return row.opened
