"""Retry to undo operations on a sandbox that were cut short and could not be undone at once.

The other half of `SandboxController`: retries run while no operation on the sandbox is in progress.
"""

from __future__ import annotations

from functools import partial

from netkit.network.endpoint_store import READY, EndpointStore, SandboxRecord
from netkit.network.teardown import Teardown
from netkit.reconcile.retry import RetryQueue
from netkit.spec import EndpointRecord


class DeferredCleanup:
    def __init__(self, records: EndpointStore, retries: RetryQueue, sandboxes: Teardown) -> None:
        self._records = records
        self._retries = retries
        self._s = sandboxes

    def remove_endpoint(self, record: EndpointRecord) -> None:
        """Remove one endpoint whose joining or leaving was cut short.

        Raises NetkitError where that fails; it is tried again.
        """
        try:
            self._abandon(record)
        except Exception as error:
            self.abandon_later(record, error)
            raise

    def abandon_later(self, record: EndpointRecord, error: BaseException) -> None:
        about = (record.sandbox, record.network)
        what = f"taking {record.owner_name} from network {record.network[:12]}"
        self._retries.add(about, what, partial(self._abandon, record), error)

    def close_later(self, opened: SandboxRecord, error: BaseException) -> None:
        id = opened.sandbox.id
        about = (id, *(r.network for r in self._records.of_sandbox(sandbox=id)))
        what = f"closing the network of {opened.sandbox.name}"
        self._retries.add(about, what, partial(self._close, id), error)

    def _abandon(self, record: EndpointRecord) -> bool:
        """False while another operation on the sandbox is in progress."""
        s = self._s
        # Not `hold`: one retry follows the other, and an operation that holds this lock may wait
        # seconds for a DHCP server or the cluster.
        with s.locks.try_hold(record.sandbox) as ours:
            if ours and record.id in {r.id for r in self._records.unfinished()}:
                # To the set without this endpoint, in one change: the default route and ports
                # may have to move to another one.
                opened = s.must_be_open(record.sandbox)
                rest = s.attach_entries(s.endpoints(record.sandbox))
                s.reconfigure(opened, [*rest, *s.attach_entries([record])], rest)
                s.delete_endpoint(record)
            return ours

    def _close(self, id: str) -> bool:
        """As `_abandon`, for a sandbox; fine if it is open again."""
        s = self._s
        with s.locks.try_hold(id) as ours:
            row = self._records.sandbox(id) if ours else None
            # Closed meanwhile, or opened again: then the rows are of the new sandbox.
            if row is None or row.state == READY:
                return ours
            self._records.mark_sandbox_removing(id)
            gone = s.tear_down(row.opened, s.attach_entries(self._records.of_sandbox(sandbox=id)))
        # Without the lock: it takes those of other sandboxes, see Sandboxes.close.
        s.finish_close(id, gone)
        return True
