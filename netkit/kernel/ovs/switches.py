"""Bridges and ports of the host's Open vSwitch: rows in its database, all steps in one transaction.

The local port of a bridge is an interface of the host: setting it up, and giving it the address
where userspace tunnels end, is done by netlink once ovs-vswitchd has made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from netkit.errors import InvalidSpec, KernelError
from netkit.kernel.netlink import rtnl
from netkit.kernel.ovs import local_port, writing
from netkit.kernel.ovs import rows as ovsrows
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.rows import INTERNAL, Plugged, Tunnel
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.kernel.session import Session
from netkit.model import HOST, Key, Resource
from netkit.model.openvswitch import OvsBridge, OvsPort
from netkit.reconcile.plan import Op


class Switches:
    def __init__(self, database: Ovsdb, daemon: Vswitchd) -> None:
        self._db = database
        self._daemon = daemon

    @property
    def present(self) -> bool:
        """Whether Open vSwitch may be there: without its socket no call waits for it."""
        return self._db.present

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        bridges = sorted(k[1] for k in keys if k[0] == "ovsbridge")
        ports = {k[1] for k in keys if k[0] == "ovsport"}

        indexes: dict[str, int] = {}
        internal: set[str] = set()

        def read(idl: Copy) -> list[OvsBridge | OvsPort]:
            seen: list[OvsBridge | OvsPort] = []
            for row in rows(idl, "Bridge"):
                if row.name in bridges:
                    seen.append(ovsrows.bridge_of(row))
                for port in row.ports:
                    if port.name in ports:
                        seen.append(plug := ovsrows.port_of(port, row.name))
                        internal.update({plug.name} if plug.kind == INTERNAL else ())
                        if (index := ovsrows.index_of(port)) is not None:
                            indexes[port.name] = index
            return seen

        found = self._db.view(read)
        if links := indexes.keys() | internal:  # in one send, not one request for each port below
            session.look(HOST, links)
        return {
            r.key: local_port.observed(session, r)
            if isinstance(r, OvsBridge)
            else _with_link(session, r, indexes.get(r.name))
            for r in found
        }

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        def read(idl: Copy) -> list[Key]:
            keys: list[Key] = []
            for row in rows(idl, "Bridge"):
                if ovsrows.is_owned(row, prefix):
                    keys.append(("ovsbridge", row.name))
                # The port with the bridge's name is its local one, which comes and goes with it.
                ports = (p for p in row.ports if p.name != row.name)
                keys += [("ovsport", p.name) for p in ports if ovsrows.is_owned(p, prefix)]
            return keys

        return self.observe(session, self._db.view(read))

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """All of `ops` in one transaction, or KernelError and none of them.

        InvalidSpec for a tunnel from an address that no interface has.
        """
        made = [op.after for op in ops if op.after is not None]
        _refuse_foreign_ends(session, made)
        # ovsdb-server takes rows without ovs-vswitchd, and the interfaces would never come.  One
        # that hangs is waited for in vain where something is made, and not where things go.
        alive = self._daemon.runs if len(made) == len(ops) else self._daemon.alive
        if made and not alive:
            raise KernelError("ovs-vswitchd is not running")
        for op in ops:
            if isinstance(op.before, OvsBridge) and op.after is not None:
                self._renew_local_port(session, op.before)
        # Without a daemon rows can still go: it will see that when it comes.
        self._change_in_turn(session, ops, wait=alive)
        try:
            # After the transaction: ovs-vswitchd reports what it could not do in the rows.
            self._must_work([r.name for r in made if isinstance(r, OvsPort)])
            for r in made:
                if isinstance(r, OvsBridge):
                    local_port.arrange(session, r)
                elif isinstance(r, OvsPort) and r.kind == INTERNAL:
                    local_port.raised(session, r.name, up=r.up)
        except BaseException as error:
            self._take_back(session, ops, error)
            raise

    def _renew_local_port(self, session: Session, bridge: OvsBridge) -> None:
        """Have ovs-vswitchd make the local port's link again, if it is not there.

        It holds on to its tap device when another tool deletes, renames or moves that, and reads
        from it in vain, as fast as it can.  A port of the bridge that is not in the userspace
        datapath it adds at the next change of its database; other ports and the flows stay.
        In the kernel's datapath such a link cannot be deleted.
        """
        session.forget_links()
        if bridge.datapath != "netdev" or session.link(HOST, bridge.name) is not None:
            return
        self._daemon.detach(bridge.name)
        self._db.change(lambda idl, _: writing.count_renewal(idl, bridge.name))

    def _change_in_turn(self, session: Session, ops: Sequence[Op], *, wait: bool) -> None:
        done: list[Op] = []
        for part in _in_turn(ops):
            try:
                self._change(session, part, wait=wait)
            except KernelError as error:
                if done:
                    self._take_back(session, done, error)
                raise
            done += part

    def _take_back(self, session: Session, ops: Sequence[Op], error: BaseException) -> None:
        """Undo because of `error`, which stays the error."""
        try:
            self._change(session, [op.inverse() for op in reversed(ops)], wait=True)
        except Exception as bad:  # noqa: BLE001  it is noted at the first
            error.add_note(f"could not undo {'; '.join(map(str, ops))}: {bad}")

    def _change(self, session: Session, ops: Sequence[Op], *, wait: bool) -> None:
        made = (op.after for op in ops)
        links = [r.name for r in made if isinstance(r, OvsPort) and not r.kind]
        indexes = _indexes(session, links)
        try:
            self._db.change(lambda idl, txn: writing.write(idl, txn, ops, indexes), wait=wait)
        except KernelError as error:
            try:
                self._clear(session, ops)
            except KernelError as bad:
                error.add_note(f"could not remove interfaces without a bridge: {bad}")
            raise
        try:
            self._clear(session, ops)
        except KernelError as error:
            error.unsure = True  # the transaction itself is done, and is to be undone
            raise

    def _clear(self, session: Session, ops: Sequence[Op]) -> None:
        """Remove the interfaces of removed bridges and ports that ovs-vswitchd left behind."""
        befores = [op.before for op in ops if op.after is None]
        gone = {b.name for b in befores if isinstance(b, OvsBridge)}
        gone |= {b.name for b in befores if isinstance(b, OvsPort) and b.kind == INTERNAL}
        if gone:
            there = self._db.view(lambda idl: {r.name for r in rows(idl, "Port")})
            for name in sorted(gone - there):
                local_port.clear(session, name)

    def _must_work(self, names: Sequence[str]) -> None:
        """Raise KernelError with the errors that ovs-vswitchd wrote into the database."""
        trouble = self._db.view(lambda idl: ovsrows.troubles(idl, set(names)))
        if trouble:
            raise KernelError(f"Open vSwitch: {'; '.join(trouble)}")

    def plugged(self) -> list[Plugged]:
        """List every port of every bridge that has a number."""
        may_come_up = self._db.sessions.may_come_up
        return self._db.view(lambda idl: ovsrows.plugged(idl, may_come_up))

    def tunnels(self, owner: str) -> list[Tunnel]:
        """List the tunnels of the network with this owner mark, with the BFD state of each."""
        return self._db.view(lambda idl: ovsrows.tunnels(idl, owner))


def _indexes(session: Session, links: Sequence[str]) -> dict[str, int]:
    """Of those links of the host that exist, by name."""
    if not links:
        return {}
    session.look(HOST, links)
    seen = {name: session.link(HOST, name) for name in links}
    return {name: link.index for name, link in seen.items() if link is not None}


def _with_link(session: Session, port: OvsPort, index: int | None) -> OvsPort:
    """`index`: of the link it was added with, if that is recorded."""
    if port.kind == INTERNAL:
        link = session.link(HOST, port.name)
        return replace(port, attached=link is not None, up=link is not None and link.up)
    link = session.link(HOST, port.name) if index is not None else None
    return replace(port, attached=index is None or (link is not None and link.index == index))


def _in_turn(ops: Sequence[Op]) -> Iterator[list[Op]]:
    """`ops` in as few transactions as will do.

    ovs-vswitchd knows ports by their names: one that is removed and added in one transaction is
    the same port to it, and keeps the link it has open.
    """
    part: list[Op] = []
    removed: set[str] = set()
    for op in ops:
        subject = op.subject
        if isinstance(subject, OvsPort):
            if op.after is None:
                removed.add(subject.name)
            elif subject.name in removed:
                yield part
                part, removed = [], set()
        part.append(op)
    yield part


def _refuse_foreign_ends(session: Session, made: Sequence[Resource]) -> None:
    """Refuse a local_ip that is not the host's: Open vSwitch would drop packets silently."""
    asked = {dict(r.options).get("local_ip") for r in made if isinstance(r, OvsPort)} - {None}
    if not asked:
        return
    seen = map(rtnl.seen_addr, session.netlink(HOST).dump(rtnl.addresses(0)))
    here = sorted({str(a.address.ip) for a in seen if a.address.version == 4})
    for local in sorted(filter(None, asked.difference(here))):
        raise InvalidSpec(
            f"option local: no interface of this host has address {local}, so Open vSwitch would "
            f"drop what is sent through the tunnels: use one of {', '.join(here)}, or leave it out"
        )
