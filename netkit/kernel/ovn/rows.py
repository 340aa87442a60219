"""Rows of the northbound database as resources, and resources as changes of rows.

    Logical_Switch   external_ids:netkit-network=NAME, netkit-user-ENGINE=OWNER for each host on it
    its gateway      a port of type localport, without a mark: it goes with the switch
    a container's    external_ids:netkit=OWNER, options:requested-chassis=ITS HOST
    ACL              external_ids:netkit=OWNER

A row is known by its UUID (netkit.model.ovn.identity), so that the database itself refuses the
second of two.  Source: ovn-nb(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from netkit.errors import Conflict, InUse, KernelError
from netkit.kernel.ovs.idl import Copy, Row, Transaction, rows
from netkit.kernel.ovs.rows import MARK
from netkit.model import Key, Resource
from netkit.model.ovn import (
    LogicalAcl,
    LogicalPort,
    LogicalSwitch,
    chassis_name,
    gateway_port,
    identity,
)
from netkit.reconcile.plan import Op

SWITCH, PORT, ACL = "Logical_Switch", "Logical_Switch_Port", "ACL"
NETWORK, USER = f"{MARK}-network", f"{MARK}-user-"  # keys in external_ids of a switch
REQUESTED = "requested-chassis"  # key in options of a port
LOCALPORT = "localport"
INBOUND = "to-lport"
ALLOW, DROP = "allow-stateless", "drop"


@dataclass(frozen=True, slots=True)
class Here:
    """Whose rows are meant."""

    engine: str
    chassis: str

    @property
    def user(self) -> str:
        return f"{USER}{self.engine}"


def find(idl: Copy, table: str, name: str) -> Row | None:
    return idl.tables[table].rows.get(identity(table, name))


def acl_name(switch: str, name: str) -> str:
    """What the identity of an ACL is made of."""
    return f"{switch} {name}"


# -- from rows -----------------------------------------------------------------


def observed(idl: Copy, here: Here, keys: Iterable[Key]) -> dict[Key, Resource]:
    """Those of `keys` that exist; whether an ACL is in force is not known here."""
    found = (_one(idl, here, key) for key in keys)
    return {r.key: r for r in found if r is not None}


def _one(idl: Copy, here: Here, key: Key) -> Resource | None:
    match key:
        case ("logicalswitch", name):
            row = find(idl, SWITCH, name)
            return switch_of(row, here) if row is not None else None
        case ("logicalport", name):
            row = find(idl, PORT, name)
            at = _holder(idl, "ports", row)
            return port_of(row, at, here) if row is not None and at is not None else None
        case ("logicalacl", switch, name):
            row = find(idl, ACL, acl_name(switch, name))
            return acl_of(row, switch) if row is not None else None
    return None


def _holder(idl: Copy, column: str, row: Row | None) -> Row | None:
    """The switch that a port or ACL is of: one of ours."""
    switches = (s for s in rows(idl, SWITCH) if NETWORK in s.external_ids)
    return next((s for s in switches if row is not None and row in getattr(s, column)), None)


def switch_of(row: Row, here: Here) -> LogicalSwitch | None:
    """None while this host is not on it."""
    if here.user not in row.external_ids:
        return None
    gateway = _gateway(row)
    return LogicalSwitch(
        name=row.name,
        network=row.external_ids.get(NETWORK, ""),
        gateway=" ".join(gateway.addresses) if gateway is not None else "",
        owner=row.external_ids[here.user],
    )


def port_of(row: Row, switch: Row, here: Here) -> LogicalPort:
    return LogicalPort(
        name=row.name,
        switch=switch.name,
        addresses="; ".join(sorted(row.addresses)),
        secured=sorted(row.port_security) == sorted(row.addresses),
        here=row.options.get(REQUESTED) == here.chassis,
        owner=row.external_ids.get(MARK),
    )


def acl_of(row: Row, switch: str) -> LogicalAcl:
    inbound = row.direction == INBOUND and row.action in {ALLOW, DROP}
    return LogicalAcl(
        name=(row.name or [""])[0],
        switch=switch,
        priority=row.priority if inbound else -1,  # of another direction or action: none of ours
        allow=row.action == ALLOW,
        text=row.match,
        owner=row.external_ids.get(MARK),
    )


def owned(idl: Copy, here: Here, prefix: str) -> list[Key]:
    """The keys of what is marked so."""
    keys: list[Key] = []
    for switch in rows(idl, SWITCH):
        if switch.external_ids.get(here.user, "").startswith(prefix):
            keys.append(("logicalswitch", switch.name))
        if NETWORK not in switch.external_ids:
            continue
        keys += [("logicalport", p.name) for p in switch.ports if _marked(p, prefix)]
        keys += [
            ("logicalacl", switch.name, (a.name or [""])[0])
            for a in switch.acls if _marked(a, prefix)
        ]  # fmt: skip
    return keys


def users(idl: Copy, here: Here, owner: str) -> frozenset[str]:
    """The other hosts on the network that this host marks so: names that their chassis may have.

    Hosts without a container there are known by their engine alone.
    """
    for switch in rows(idl, SWITCH):
        if switch.external_ids.get(here.user) != owner:
            continue
        engines = {k.removeprefix(USER) for k in switch.external_ids if k.startswith(USER)}
        chassis = {p.options[REQUESTED] for p in switch.ports if REQUESTED in p.options}
        others = {chassis_name(engine) for engine in engines - {here.engine}}
        return frozenset((chassis | others) - {here.chassis})
    return frozenset()


def _marked(row: Row, prefix: str) -> bool:
    return bool(row.external_ids.get(MARK, "").startswith(prefix))


def _gateway(switch: Row) -> Row | None:
    name = gateway_port(switch.name)
    return next((p for p in switch.ports if p.name == name), None)


# -- to rows -------------------------------------------------------------------


def write(idl: Copy, transaction: Transaction, here: Here, ops: Sequence[Op]) -> None:
    """The steps as one transaction; running again on another copy comes to the same."""
    edit = _Edit(idl, transaction, here)
    steps = net(ops)
    for op in steps:
        match op.after:
            case LogicalSwitch() as switch:
                edit.put_switch(switch)
            case LogicalPort() as port:
                edit.put_port(port)
            case LogicalAcl() as acl:
                edit.put_acl(acl)
    for op in (op for op in steps if op.after is None):
        match op.before:
            case LogicalAcl(switch=at, name=name):
                edit.drop("acls", at, find(idl, ACL, acl_name(at, name)))
            case LogicalPort(switch=at, name=name):
                edit.drop("ports", at, find(idl, PORT, name))
            case LogicalSwitch(name=name):
                edit.leave(name)


def net(ops: Sequence[Op]) -> list[Op]:
    """One step for each resource: a row that is deleted cannot come again in its transaction."""
    out: dict[Key, Op] = {}
    for op in ops:
        key = op.subject.key
        out[key] = Op(out[key].before if key in out else op.before, op.after)
    return [op for op in out.values() if op.before is not None or op.after is not None]


class _Edit:
    """One transaction under construction."""

    def __init__(self, idl: Copy, transaction: Transaction, here: Here) -> None:
        self._idl, self._transaction, self._here = idl, transaction, here
        self._new: dict[object, Row] = {}

    def put_switch(self, want: LogicalSwitch) -> None:
        row, new = self._row(SWITCH, want.name)
        ids = {NETWORK: want.network, self._here.user: want.owner or ""}
        if new:
            row.name, row.external_ids = want.name, ids
        else:
            for key, value in ids.items():
                # Others on the same switch write keys of their own: a mutation, not the column.
                if row.external_ids.get(key) != value:
                    row.setkey("external_ids", key, value)
        gateway = None if new else _gateway(row)
        if not want.gateway:
            if gateway is not None:
                row.delvalue("ports", gateway)
            return
        others = [] if new else others_on(row, self._here)
        if gateway is not None and gateway.addresses != [want.gateway] and others:
            raise Conflict(
                f"network {want.network} has the gateway {' '.join(gateway.addresses)} on "
                f"{len(others)} other hosts, not {want.gateway}: give it the same subnet, gateway "
                "and name everywhere"
            )
        port, made = self._row(PORT, gateway_port(want.name))
        if made:
            port.name = gateway_port(want.name)
            self._attach(row, "ports", port)
        _set(port, "type", LOCALPORT)
        _set(port, "addresses", [want.gateway])

    def put_port(self, want: LogicalPort) -> None:
        switch = self._switch(want.switch, want)
        port, made = self._row(PORT, want.name)
        _refuse_twins(switch, want, port)
        if made:
            port.name = want.name
        if made or port not in switch.ports:
            self._attach(switch, "ports", port)
        _set(port, "addresses", [want.addresses])
        _set(port, "port_security", [want.addresses])
        _set(port, "options", {**_now(port, "options"), REQUESTED: self._here.chassis})
        _set(port, "external_ids", {**_now(port, "external_ids"), MARK: want.owner or ""})

    def put_acl(self, want: LogicalAcl) -> None:
        switch = self._switch(want.switch, want)
        acl, made = self._row(ACL, acl_name(want.switch, want.name))
        if made or acl not in switch.acls:
            self._attach(switch, "acls", acl)
        _set(acl, "name", [want.name])
        _set(acl, "direction", INBOUND)
        _set(acl, "priority", want.priority)
        _set(acl, "match", want.text)
        _set(acl, "action", ALLOW if want.allow else DROP)
        _set(acl, "external_ids", {**_now(acl, "external_ids"), MARK: want.owner or ""})

    def drop(self, column: str, switch: str, row: Row | None) -> None:
        at = find(self._idl, SWITCH, switch)
        if row is not None and at is not None and row in getattr(at, column):
            at.delvalue(column, row)

    def leave(self, name: str) -> None:
        """Take this host from a switch; the last one removes it, unless others have ports there."""
        row = find(self._idl, SWITCH, name)
        if row is None:
            return
        row.verify("external_ids")  # of two that go at once one sees the other gone
        if others_on(row, self._here) or any(foreign(p) for p in row.ports):
            row.delkey("external_ids", self._here.user)
        else:
            row.verify("ports")
            row.delete()

    def _switch(self, name: str, what: Resource) -> Row:
        row = self._new.get(identity(SWITCH, name)) or find(self._idl, SWITCH, name)
        if row is None:
            raise KernelError(f"{what}: OVN has no logical switch {name}")
        return row

    def _row(self, table: str, name: str) -> tuple[Row, bool]:
        """And whether this transaction makes it."""
        id = identity(table, name)
        row = self._idl.tables[table].rows.get(id)
        if row is not None:
            return row, id in self._new
        row = self._transaction.insert(self._idl.tables[table], new_uuid=id, persist_uuid=True)
        self._new[id] = row
        return row, True

    def _attach(self, switch: Row, column: str, row: Row) -> None:
        # A mutation (`addvalue`) keeps what another client adds meanwhile.
        if switch in self._new.values():
            setattr(switch, column, [*_list(switch, column), row])
        else:
            switch.addvalue(column, row)


def others_on(switch: Row, here: Here) -> list[str]:
    """The owner marks of other hosts on it."""
    ids: Mapping[str, str] = switch.external_ids
    return [v for k, v in ids.items() if k.startswith(USER) and k != here.user]


def foreign(port: Row) -> bool:
    """Whether no netkit owns a port."""
    return port.type != LOCALPORT and MARK not in port.external_ids


def _refuse_twins(switch: Row, want: LogicalPort, mine: Row) -> None:
    """Refuse an address that another port of the switch has: hosts may not know of each other."""
    addresses = set(_ips([want.addresses]))
    for port in _list(switch, "ports"):
        taken = addresses.intersection(_ips(_list(port, "addresses"))) if port != mine else set()
        if taken:
            at = (_now(port, "options")).get(REQUESTED, "")
            where = f" of chassis {at}" if at else ""
            raise InUse(
                f"Address already in use: {min(taken)} is that of port {port.name}{where}: give "
                "each host a part of the subnet (--ip-range), or use a cluster (--scope global)"
            )


def _ips(addresses: Iterable[str]) -> Iterator[str]:
    for word in " ".join(addresses).split():
        try:
            yield str(ip_address(word))
        except ValueError:
            continue


def _set(row: Row, column: str, value: object) -> None:
    if getattr(row, column, None) != value:  # a row just inserted has no value yet
        setattr(row, column, value)


def _now(row: Row, column: str) -> dict[str, str]:
    return getattr(row, column, None) or {}


def _list(row: Row, column: str) -> list[Row]:
    return getattr(row, column, None) or []
