"""Logical switches, ports and ACLs: rows of the northbound database, made once they are in force.

    a transaction --> ovn-northd --> southbound database --> ovn-controller --> this host's switch

A port counts as made when ovn-controller has connected its interface (external_ids:ovn-installed),
an ACL when a flow of this host's switch came from it: OVN takes a match that it cannot parse
without a word, and enforces nothing.  The cookie of a flow is the first 32 bits of the UUID of its
row of Logical_Flow, and that names the ACL it came from (external_ids:stage-hint).
Sources: ovn-nb(5), ovn-controller(8), ovn-architecture(7).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from netkit.errors import KernelError, NetkitError
from netkit.kernel.adapter import Adapter
from netkit.kernel.ovn import rows as ovnrows
from netkit.kernel.ovn.chassis import changes_of
from netkit.kernel.ovn.databases import KINDS, Databases, drops
from netkit.kernel.ovn.rows import ACL, Here, acl_name
from netkit.kernel.ovs import openflow
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.model.ovn import (
    INTEGRATION,
    LogicalAcl,
    LogicalPort,
    LogicalSwitch,
    identity,
)
from netkit.reconcile.plan import Op

IN_TURN = 1.5  # seconds that the database gets while other changes wait, see `LogicalRows.ready`
PATIENCE = 5.0  # seconds until what was written is in force
BRIEF = 1.0  # seconds, after something was not
PAUSE = 0.01  # seconds between looks at flows, which have no event
ABOVE = 1000  # what OVN adds to the priorities of ACLs: northd/northd.h, OVN_ACL_PRI_OFFSET
COOKIE = (1 << 64) - 1  # mask of a flow's cookie


@dataclass(frozen=True, slots=True)
class LogicalFlow:
    """What an ACL became."""

    cookie: int
    priority: int
    match: str
    allow: bool


class LogicalRows:
    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._late = False  # what was written last did not come into force

    def adapter(self) -> Adapter:
        return Adapter(
            types=(LogicalSwitch, LogicalPort, LogicalAcl),
            kinds=KINDS,
            observe=lambda _, keys: self.observe(keys),
            apply=self.apply,
            owned=lambda _, prefix: self.owned_if_it_answers(prefix),
            ready=self.ready,
        )

    def ready(self) -> None:
        """Wait until the northbound database answers; at once where none is set yet."""
        north = self._databases.northbound() if self._databases.local.present else None
        if north is not None:
            north.check()

    @property
    def here(self) -> Here:
        return Here(self._databases.engine, self._databases.chassis)

    def observe(self, keys: Collection[Key]) -> dict[Key, Resource]:
        """Nothing while this host has no northbound database."""
        north = self._databases.northbound()
        if north is None:
            return {}
        here = self.here
        found = north.view(lambda idl: ovnrows.observed(idl, here, keys), IN_TURN)
        acls = [r for r in found.values() if isinstance(r, LogicalAcl)]
        if acls:
            valid: frozenset[Key] = frozenset()
            with suppress(KernelError):  # where it cannot be found out they count as not in force
                valid = self._in_force(acls)
            found |= {r.key: replace(r, in_force=r.key in valid) for r in acls}
        return found

    def owned(self, prefix: str) -> dict[Key, Resource]:
        """All that is marked so.  KernelError if the database does not answer."""
        north = self._databases.northbound()
        if north is None:
            return {}
        here = self.here
        return self.observe(north.view(lambda idl: ovnrows.owned(idl, here, prefix)))

    def owned_if_it_answers(self, prefix: str) -> dict[Key, Resource]:
        """As `owned`; nothing where that cannot be found out, so that other things are swept."""
        if self._databases.local.present:
            with suppress(KernelError):
                return self.owned(prefix)
        return {}

    def apply(self, _session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one transaction, or NetkitError and none of them.

        Returns when what they make is in force on this host.
        """
        north = self._databases.northbound()
        if north is None:
            raise KernelError(
                "this host's northbound database of OVN is not known: give the network -o nb=..., "
                "start netkitd with --ovn-nb, or set external_ids:ovn-nb of Open vSwitch"
            )
        here = self.here
        north.transact(lambda idl, txn: ovnrows.write(idl, txn, here, ops), IN_TURN, IN_TURN)
        made = [op.after for op in ops if op.after is not None]
        try:
            self._await([r for r in made if isinstance(r, LogicalPort)])
            self._await_rules([r for r in made if isinstance(r, LogicalAcl)])
        except BaseException as error:
            back = [op.inverse() for op in reversed(ops)]
            try:
                north.transact(lambda idl, txn: ovnrows.write(idl, txn, here, back), IN_TURN)
            except NetkitError as bad:
                error.add_note(f"could not undo {'; '.join(map(str, ops))}: {bad}")
            raise

    def _patience(self) -> float:
        return BRIEF if self._late else PATIENCE

    def _await(self, ports: Sequence[LogicalPort]) -> None:
        """Wait until ovn-controller has connected them; those without an interface need not."""
        deadline = time.monotonic() + self._patience()
        with changes_of(self._databases.local) as changed:
            while missing := self._databases.local.view(lambda idl: _unconnected(idl, ports)):
                if time.monotonic() > deadline:
                    self._late = True
                    raise KernelError(
                        f"OVN does not connect {', '.join(missing)}: is ovn-controller running on "
                        "this host, and ovn-northd at the databases?"
                    )
                changed.wait(0.1)
                changed.clear()
        self._late = False if ports else self._late

    def _await_rules(self, acls: Sequence[LogicalAcl]) -> None:
        deadline = time.monotonic() + self._patience()
        while acls:
            valid = self._in_force(acls)
            acls = [a for a in acls if a.key not in valid]
            if acls and time.monotonic() > deadline:
                self._late = True
                names = ", ".join(a.name for a in acls)
                raise KernelError(
                    f"not in force: rule {names} of network switch {acls[0].switch}.  This host's "
                    "Open vSwitch has no flow of it: ovn-northd or ovn-controller does not act, or "
                    "cannot parse it"
                )
            if acls:
                time.sleep(PAUSE)

    def _in_force(self, acls: Iterable[LogicalAcl]) -> frozenset[Key]:
        """The keys of those that this host's switch has as they are here."""
        hints = {f"{identity(ACL, acl_name(a.switch, a.name)).hex[:8]}": a for a in acls}
        found = self._databases.southbound().view(lambda idl: _logical_flows(idl, hints))
        path = f"{self._databases.local.folder}/{INTEGRATION}.mgmt"
        return frozenset(
            acl.key
            for hint, acl in hints.items()
            if any(_renders(f, acl) and _installed(path, f.cookie) for f in found.get(hint, ()))
        )


def _unconnected(idl: Copy, ports: Iterable[LogicalPort]) -> list[str]:
    """The names of those whose interface is there and not connected."""
    ids = {row.name: row.external_ids for row in rows(idl, "Interface")}
    return [
        p.name for p in ports
        if p.port in ids and ids[p.port].get("ovn-installed") != "true"
    ]  # fmt: skip


def _logical_flows(idl: Copy, hints: Mapping[str, object]) -> dict[str, list[LogicalFlow]]:
    """By the first 32 bits of an ACL's UUID, in hexadecimal."""
    out: dict[str, list[LogicalFlow]] = {}
    for row in rows(idl, "Logical_Flow"):
        hint = row.external_ids.get("stage-hint", "")
        if hint in hints:
            cookie = int(row.uuid.hex[:8], 16)
            out.setdefault(hint, []).append(
                LogicalFlow(cookie, row.priority, row.match, not drops(row.actions))
            )
    return out


def _renders(flow: LogicalFlow, acl: LogicalAcl) -> bool:
    """Whether it says what the ACL says now, not what it said before."""
    same = flow.allow == acl.allow and flow.priority == acl.priority + ABOVE
    return same and acl.text in flow.match


def _installed(path: str, cookie: int) -> bool:
    """KernelError if the switch does not answer."""
    try:
        return bool(openflow.flows(path, cookie, COOKIE))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError as e:
        raise KernelError(f"cannot read the flows of {INTEGRATION}: {e}") from e
