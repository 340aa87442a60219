"""Use cases on sandboxes of other engines, whose requests come one by one: place, name, ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from netkit.driver import IFACE_PREFIX
from netkit.network.context import NetworkContext
from netkit.network.endpoint import PREFIX
from netkit.network.endpoint_store import NO_NAMESPACE, READY
from netkit.network.handover import FarEnd
from netkit.network.sandbox import SandboxController
from netkit.network.unreadable_rows import SHORT
from netkit.spec import PortSpec


class OtherEngines:
    def __init__(self, parts: NetworkContext, sandboxes: SandboxController) -> None:
        self._p, self._s = parts, sandboxes

    def hand_over(self, sandbox_id: str, ns: str) -> None:
        """Store the namespace that its engine moves the far end of the pair to (`handover`).

        From now on nothing of it is looked for in netkitd's own.  Conflict if it is not open.
        """
        p = self._p
        with self._s.locks.hold(sandbox_id):
            opened = self._s.must_be_open(sandbox_id)
            if opened.sandbox.ns != ns:
                placed = replace(opened.sandbox, ns=ns)
                p.records.save_sandbox(msgspec.structs.replace(opened, sandbox=placed), READY)

    def far_end(self, sandbox_id: str) -> FarEnd | None:
        """What is known of a far end whose name is not; None if it is, or has yet to be moved."""
        row = self._p.records.sandbox(sandbox_id)
        sandbox = row.opened.sandbox if row is not None and row.state == READY else None
        if sandbox is None or not sandbox.handover or sandbox.ns == NO_NAMESPACE:
            return None
        for entry, record in self._s.attach_entries(self._s.endpoints(sandbox_id)):
            if not record.ifname:
                beside = self._p.records.of_namespace(sandbox.ns)
                return FarEnd(
                    ns=sandbox.ns,
                    handover=sandbox.handover,
                    mark=f"{entry.config.owner}:{record.id[:SHORT]}",
                    prefix=entry.record.spec.options.get(PREFIX) or IFACE_PREFIX,
                    taken=frozenset(r.ifname for r in beside),
                    identified=bool(record.container),
                )
        return None

    def name_interface(self, sandbox_id: str, ifname: str) -> None:
        """Store what its engine calls the container's interface, of an open sandbox."""
        with self._s.locks.hold(sandbox_id):
            row = self._p.records.sandbox(sandbox_id)
            if row is not None and row.state == READY:
                self._p.records.save(
                    msgspec.structs.replace(r, ifname=ifname) for r in self._s.endpoints(sandbox_id)
                )

    def identify(
        self, sandbox_id: str, container: str, name: str, names: Mapping[str, Sequence[str]]
    ) -> None:
        """Store which container a sandbox is of, by the engine's id, and what it is called.

        `names`: its DNS names by network id.  Access rules on the container hold from then on.
        """
        p = self._p
        with self._s.locks.hold(sandbox_id):
            row = p.records.sandbox(sandbox_id)
            if row is None or row.state != READY:
                return
            placed = replace(row.opened.sandbox, container=container)
            with p.database.transaction():
                p.records.save_sandbox(msgspec.structs.replace(row.opened, sandbox=placed), READY)
                p.records.save(
                    msgspec.structs.replace(r, container=container)
                    for r in self._s.endpoints(sandbox_id)
                )
            self._s.rename(sandbox_id, name, names)
            records = self._s.endpoints(sandbox_id)
        self._s.policy_sync.sync_sandbox(sandbox_id)
        self._s.policy_sync.endpoints_changed(records)

    def publish(self, sandbox_id: str, ports: Sequence[PortSpec]) -> None:
        """Publish these ports of an open sandbox, and no others; none where that fails.

        InvalidSpec where its network publishes none, Conflict where one is taken, KernelError.
        """
        p, wants = self._p, tuple(ports)
        with self._s.locks.hold(sandbox_id):
            opened = self._s.must_be_open(sandbox_id)
            if opened.wants == wants:
                return
            joined = self._s.attach_entries(self._s.endpoints(sandbox_id))
            bare = msgspec.structs.replace(opened, wants=(), held=())
            if opened.wants:
                self._s.reconfigure(bare, joined, joined)
                p.ports.release(sandbox_id)
                joined = self._s.attach_entries(self._s.endpoints(sandbox_id))
            if wants:
                self._s.reconfigure(msgspec.structs.replace(bare, wants=wants), joined, joined)
