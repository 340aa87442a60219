"""Open, connect, disconnect, close sandboxes: rows, then one change of the kernel, then rows.

What belongs to one sandbox is done under its own lock, and no lock is held for others while the
kernel works: the database arbitrates names and addresses, the sockets arbitrate ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import msgspec

from netkit import threads
from netkit.errors import Conflict, NotFound, untouched
from netkit.locks import Locks
from netkit.network.cleanup import Ending
from netkit.network.context import Parts
from netkit.network.endpoint import Joined, renamed
from netkit.network.endpoint_allocator import Allocator
from netkit.network.endpoint_store import LEAVING, PENDING, READY, Opened
from netkit.network.namespace_renewal import Renewing
from netkit.network.policy_sync import Applying, converge
from netkit.network.published_ports import arrange
from netkit.network.unreadable_rows import SHORT, left_by
from netkit.reconcile.converge import Change
from netkit.spec import EndpointRecord, EndpointSpec, PortSpec, Sandbox


class Sandboxes:
    def __init__(self, parts: Parts) -> None:
        self._p = p = parts
        self._give = Allocator(p.addresses, p.catalog, p.claiming, p.records, p.random)
        self.locks = Locks()
        self.applying = Applying(p, self.locks, self.joined)
        self.ending = Ending(p.records, p.owing, self)
        self.renewing = Renewing(p, self)

    # opening and closing

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
                if row:
                    self._discard(row.opened)  # what an earlier failure left
                records = self._open(sandbox, wants, ports)
            self._publish(records)
        self._spread(records)
        return records

    def _open(
        self, sandbox: Sandbox, wants: Sequence[EndpointSpec], ports: Sequence[PortSpec]
    ) -> list[EndpointRecord]:
        p = self._p
        # A rule that cannot be read may be the one that blocks traffic: no start without it.
        p.policies.must_be_readable(sandbox.id, sandbox.name)
        opened = Opened(sandbox=sandbox, wants=tuple(ports))
        entries = [p.catalog.get(w.network) for w in wants]
        with p.database.transaction():
            p.records.save_sandbox(opened, PENDING)
            joined: list[Joined] = []
            for entry, want in zip(entries, wants, strict=True):
                joined.append(Joined(entry, self._give.join(sandbox, entry, want, joined)))
        try:
            # Outside the transaction: probes, DHCP and the cluster take seconds, and the daemon has
            # one connection to the database.
            joined = p.claiming.settle(joined)
            opened, joined = arrange(p.ports, opened, joined)
            access = p.policies.wanted(joined)
            change = Change.of(p.wiring.sandbox(sandbox, joined, access))
            converge(p.converger, p.wiring, change, entries)
            p.policies.note(access)
            with p.database.transaction():
                p.records.save_sandbox(opened, READY)
                p.records.save([r for _, r in joined])
        except BaseException as error:
            self._give_up(error, Opened(sandbox=sandbox), joined)
            raise
        records = [r for _, r in joined]
        p.claiming.announce(sandbox, records)
        return records

    def _give_up(self, error: BaseException, opened: Opened, joined: Iterable[Joined]) -> None:
        """Undo a failed open; where the kernel cannot be changed, rows stay for a retry."""
        try:
            if untouched(error):
                self._release(opened.sandbox.id)
            else:
                self._clear(opened, joined)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up {opened.sandbox.name}, will try again: {bad}")
            self.ending.close_later(opened, bad)

    def _clear(self, opened: Opened, joined: Iterable[Joined]) -> None:
        self.take_down(opened, joined)
        self._release(opened.sandbox.id)

    def take_down(self, opened: Opened, joined: Iterable[Joined]) -> list[EndpointRecord]:
        """Delete these endpoints from the host; their rows stay."""
        p, joined = self._p, list(joined)
        records = [r for _, r in joined]
        gone = p.wiring.remains(opened.sandbox, joined, p.policies.noted(records))
        # Without its driver an endpoint's resources cannot be computed: found by their mark.
        lost = [f"{e.net.owner}:{r.id[:SHORT]}" for e, r in joined if p.catalog.degraded(e)]
        gone = {**left_by(p.converger, p.wiring.prefix, lost), **gone}
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
        self._p.claiming.let_go()
        self.renewing.forget(id)

    def _discard(self, opened: Opened) -> None:
        self._clear(opened, self.joined(self._p.records.of(sandbox=opened.sandbox.id)))

    def close(self, sandbox_id: str) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None:
                return
            # Not open from here on: nothing joins it any more, and the resync leaves it alone.
            p.records.leave_sandbox(sandbox_id)
            try:
                gone = self.take_down(row.opened, self.joined(p.records.of(sandbox=sandbox_id)))
            except Exception as error:
                self.ending.close_later(row.opened, error)
                raise
        try:
            # Without the lock, since it takes those of sandboxes with rules about this one: of two
            # that close at the same time each could wait for the other's.
            self.closed(sandbox_id, gone)
        except Exception as error:
            self.ending.close_later(row.opened, error)
            raise

    def closed(self, id: str, gone: list[EndpointRecord]) -> None:
        """After `take_down`, without the sandbox's lock: delete rules, names and rows as well."""
        p = self._p
        self.applying.spread(gone, own=False)  # before they are allocated again
        with self.locks.hold(id):
            self._publish((), gone)  # first: without rows nothing remembers these names
            row = p.records.sandbox(id)
            if row is not None and row.state == LEAVING:  # it may have come back meanwhile
                self._release(id)

    def repair(self, opened: Opened) -> None:
        """Make the host match the rows again: this sandbox, and what its networks need."""
        records = self._p.records.of(sandbox=opened.sandbox.id, ready=True)
        joined = self.joined(records)
        access, before = self._p.policies.wanted(joined), self._p.policies.noted(records)
        change = Change.of(
            self._p.wiring.sandbox(opened.sandbox, joined, access),
            self._p.wiring.remains(opened.sandbox, joined, before),
        )
        converge(self._p.converger, self._p.wiring, change, [e for e, _ in joined])
        self._p.policies.note(access)

    # changing

    def connect(self, sandbox: Sandbox, want: EndpointSpec) -> EndpointRecord:
        p = self._p
        with self.locks.hold(sandbox.id):
            opened = self.must_be_open(sandbox.id)
            entry = p.catalog.get(want.network)
            # First what is still to be undone of a former endpoint there: its link is in the way.
            p.owing.press(sandbox.id, entry.record.id)
            before = self.joined(p.records.of(sandbox=sandbox.id, ready=True))
            with p.database.transaction():
                new = Joined(entry, self._give.join(opened.sandbox, entry, want, before))
            try:
                (new,) = p.claiming.settle([new])
                records = self.rearrange(opened, before, [*before, new])
            except BaseException as error:
                self._leave(error, opened, before, new)
                raise
            p.claiming.announce(sandbox, [new.record])
            self._publish(records)
        self._spread(records)
        return next(r for r in records if r.id == new.record.id)

    def disconnect(self, sandbox_id: str, network_id: str) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            opened = self.must_be_open(sandbox_id)
            before = self.joined(p.records.of(sandbox=sandbox_id, ready=True))
            gone = next((r for _, r in before if r.network == network_id), None)
            if gone is None:
                raise NotFound(
                    f"container {opened.sandbox.name} is not connected to network {network_id}"
                )
            # Intent first: a daemon killed from here on completes the removal when it starts.
            p.records.mark(gone.id, LEAVING)
            after = [j for j in before if j.record.id != gone.id]
            try:
                records = self.rearrange(opened, before, after)
            except BaseException as error:
                self._stay(error, gone)
                raise
            p.policies.forget([gone])
        try:
            self.applying.spread([gone], own=False)  # before it is allocated again
            with self.locks.hold(sandbox_id):
                self._publish(records, (gone,))
                self.forget(gone)
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

    def rearrange(
        self, opened: Opened, before: list[Joined], after: list[Joined]
    ) -> list[EndpointRecord]:
        """Go from one set of endpoints to another in one change; the new records."""
        p = self._p
        kept = opened.held
        opened, joined = arrange(p.ports, opened, after)
        access, had = p.policies.wanted(joined), p.policies.noted([r for _, r in before])
        try:
            change = Change.of(
                p.wiring.sandbox(opened.sandbox, joined, access),
                p.wiring.remains(opened.sandbox, before, had),
            )
            converge(p.converger, p.wiring, change, [e for e, _ in joined])
            p.policies.note(access)
        except BaseException:
            # Ports that were reserved before this change belong to the sandbox's former endpoints.
            if not kept:
                p.ports.release(opened.sandbox.id)
            raise
        with p.database.transaction():
            p.records.save_sandbox(opened, READY)
            p.records.save([r for _, r in joined])
        return [r for _, r in joined]

    def _leave(
        self, error: BaseException, opened: Opened, before: list[Joined], new: Joined
    ) -> None:
        """Undo a failed joining."""
        p = self._p
        access = p.policies.noted([r for _, r in [*before, new]])
        wired = p.wiring.sandbox(opened.sandbox, before, access)
        try:
            p.converger.converge(
                Change.of(wired, p.wiring.remains(opened.sandbox, [*before, new], access))
            )
            self.forget(new[1])
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up endpoint {new[1].id[:12]}, will try again: {bad}")
            self.ending.abandon_later(new[1], bad)

    def lose(self, endpoint: str) -> None:
        """Disconnect an endpoint whose lease has ended: its address may go to another host."""
        for record in self._p.records.of(ready=True):
            if record.id == endpoint:
                self.disconnect(record.sandbox, record.network)

    def forget(self, record: EndpointRecord) -> None:
        """Delete the row and release the address."""
        self._p.policies.forget([record])
        with self._p.database.transaction():
            self._p.records.drop(record.id)
            self._p.addresses.release(record.sandbox, network=record.network)
        self._p.claiming.let_go()

    def rename(self, sandbox_id: str, name: str, names: Mapping[str, Sequence[str]]) -> None:
        p = self._p
        with self.locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None:
                return
            opened = row.opened
            sandbox = Sandbox(id=sandbox_id, name=name, ns=opened.sandbox.ns)
            old = p.records.of(sandbox=sandbox_id, ready=True)
            new = [renamed(r, name, names) for r in old]
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
        threads.attempt("changing access rules", partial(self.applying.spread, records))

    # common to all

    def endpoints(self, sandbox_id: str) -> list[EndpointRecord]:
        return self._p.records.of(sandbox=sandbox_id, ready=True)

    def joined(self, records: Iterable[EndpointRecord]) -> list[Joined]:
        return [Joined(self._p.catalog.get(r.network), r) for r in records]

    def must_be_open(self, id: str) -> Opened:
        """Return its row; Conflict if it is not open."""
        row = self._p.records.sandbox(id)
        if row is None or row.state != READY:
            name = row.opened.sandbox.name if row else id[:12]
            raise Conflict(f"container {name} is not running: its network is not there")
        return row.opened
