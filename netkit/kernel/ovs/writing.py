"""Steps on bridges and ports as changes of rows, for one transaction.

Sources: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netkit.errors import KernelError
from netkit.kernel.ovs import rows as ovsrows
from netkit.kernel.ovs.idl import Copy, Row, Transaction, rows
from netkit.kernel.ovs.ovsdb import root
from netkit.kernel.ovs.rows import MARK
from netkit.model.openvswitch import OvsBridge, OvsPort
from netkit.reconcile.plan import Op


class _Edit:
    """One transaction under construction: rows by name, those it makes included."""

    def __init__(self, idl: Copy, transaction: Transaction) -> None:
        self.idl, self.transaction = idl, transaction
        self.bridges: dict[str, Row] = {r.name: r for r in rows(idl, "Bridge")}
        self.ports: dict[str, tuple[Row, Row]] = {
            p.name: (p, b) for b in self.bridges.values() for p in b.ports
        }
        self._new: set[Row] = set()

    def insert(self, table: str, name: str) -> Row:
        row = self.transaction.insert(self.idl.tables[table])
        row.name = name
        self._new.add(row)
        return row

    def attach(self, bridge: Row, port: Row) -> None:
        # A mutation (`addvalue`) keeps ports that another client adds meanwhile.  A bridge that
        # this transaction inserts is not known to any other client yet.
        if bridge in self._new:
            bridge.ports = [*bridge.ports, port]
        else:
            bridge.addvalue("ports", port)
        self.ports[port.name] = port, bridge


def write(
    idl: Copy, transaction: Transaction, ops: Sequence[Op], indexes: Mapping[str, int]
) -> None:
    """Write the rows of the steps; equal values are not written again.

    `indexes`: of the links that ports are added for, by name.
    """
    edit = _Edit(idl, transaction)
    for op in ops:
        match op.before, op.after:
            case _, OvsBridge() as bridge:
                _put_bridge(edit, bridge)
            case _, OvsPort() as port:
                _put_port(edit, port, indexes.get(port.name))
            case OvsBridge(name=name), None:
                if (row := edit.bridges.pop(name, None)) is not None:
                    root(idl).delvalue("bridges", row)
            case OvsPort(name=name), None:
                row, bridge_row = edit.ports.pop(name, (None, None))
                if row is not None and bridge_row.name in edit.bridges:
                    bridge_row.delvalue("ports", row)


def count_renewal(idl: Copy, bridge: str) -> None:
    """Some change of the bridge's row: without one a transaction does nothing."""
    for row in rows(idl, "Bridge"):
        if row.name == bridge:
            count = str(ovsrows.renewals_of(row) + 1)
            row.external_ids = {**row.external_ids, ovsrows.RENEWALS: count}


def _put_bridge(edit: _Edit, want: OvsBridge) -> None:
    row = edit.bridges.get(want.name)
    if row is None:
        row = edit.insert("Bridge", want.name)
        local = edit.insert("Interface", want.name)
        local.type = "internal"
        port = edit.insert("Port", want.name)
        port.interfaces = [local]
        row.datapath_type = want.datapath
        row.ports = [port]
        edit.bridges[want.name] = row
        edit.ports[want.name] = port, row
        root(edit.idl).addvalue("bridges", row)
    port, _ = edit.ports[want.name]
    _set(row, "fail_mode", ["secure"] if want.secure else ["standalone"])
    _set(row, "external_ids", {**_now(row, "external_ids"), MARK: want.owner or ""})
    _set(port, "protected", want.protected)
    if want.mac:
        _set(row, "other_config", {**_now(row, "other_config"), "hwaddr": want.mac})
    if want.mtu:
        _set(port.interfaces[0], "mtu_request", [want.mtu])


def _put_port(edit: _Edit, want: OvsPort, index: int | None) -> None:
    if want.bridge not in edit.bridges:
        raise KernelError(f"port {want.name}: Open vSwitch has no bridge {want.bridge}")
    if want.name in edit.ports:
        row, bridge = edit.ports[want.name]
        if bridge.name != want.bridge:
            raise KernelError(f"port {want.name} is in bridge {bridge.name}, not {want.bridge}")
    else:
        row = edit.insert("Port", want.name)
        row.interfaces = [edit.insert("Interface", want.name)]
        if index is not None:
            row.external_ids = {ovsrows.INDEX: str(index)}
        edit.attach(edit.bridges[want.bridge], row)
    interface = row.interfaces[0]
    _set(interface, "type", want.kind)
    _set(interface, "options", dict(want.options))
    _set(interface, "external_ids", _with_iface_id(_now(interface, "external_ids"), want.iface_id))
    if want.mac:
        _set(interface, "mac", [want.mac])
    if want.mtu:
        _set(interface, "mtu_request", [want.mtu])
    _set(interface, "bfd", {**_now(interface, "bfd"), "enable": "true"} if want.bfd else {})
    _set(row, "tag", [want.tag] if want.tag is not None else [])
    _set(row, "protected", want.protected)
    _set(row, "external_ids", {**_now(row, "external_ids"), MARK: want.owner or ""})


def _with_iface_id(ids: Mapping[str, str], iface_id: str) -> dict[str, str]:
    rest = {k: v for k, v in ids.items() if k != ovsrows.IFACE_ID}
    return {**rest, ovsrows.IFACE_ID: iface_id} if iface_id else rest


def _set(row: Row, column: str, value: object) -> None:
    if getattr(row, column, None) != value:  # a row just inserted has no value yet
        setattr(row, column, value)


def _now(row: Row, column: str) -> dict[str, str]:
    return getattr(row, column, None) or {}
