"""The two databases of an OVN deployment, and which ones this host's are.

Open vSwitch's row names them: external_ids:ovn-remote, which ovn-controller reads, is the
southbound database, and external_ids:ovn-nb the northbound one.  Of both only the tables and
columns that are used here are read.  Sources: ovn-nb(5), ovn-sb(5), ovn-controller(8).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from netkit.errors import KernelError
from netkit.kernel.ovs.idl import Connection, Copy, Row
from netkit.kernel.ovs.ovsdb import Ovsdb, root
from netkit.kernel.ovs.rows import MARK
from netkit.kernel.ovs.servers import Servers

NB_KEY, SB_KEY, ENCAP_KEY, NAME_KEY = "ovn-nb", "ovn-remote", "ovn-encap-ip", "system-id"
KINDS = frozenset({"logicalswitch", "logicalport", "logicalacl"})

_TEXT = {"type": "string"}
_TEXTS = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_NAME = {"type": {"key": "string", "min": 0, "max": 1}}


def _to(table: str) -> dict[str, Any]:
    key = {"type": "uuid", "refTable": table, "refType": "strong"}
    return {"type": {"key": key, "min": 0, "max": "unlimited"}}


NB_SCHEMA: dict[str, Any] = {
    "name": "OVN_Northbound",
    "version": "7.0.0",
    "tables": {
        "Logical_Switch": {
            "isRoot": True,
            "columns": {
                "name": _TEXT,
                "ports": _to("Logical_Switch_Port"),
                "acls": _to("ACL"),
                "external_ids": _MAP,
            },
        },
        "Logical_Switch_Port": {
            "columns": {
                "name": _TEXT,
                "type": _TEXT,
                "addresses": _TEXTS,
                "port_security": _TEXTS,
                "options": _MAP,
                "external_ids": _MAP,
            },
            "indexes": [["name"]],
        },
        "ACL": {
            "columns": {
                "name": _NAME,
                "direction": _TEXT,
                "priority": {"type": "integer"},
                "match": _TEXT,
                "action": _TEXT,
                "external_ids": _MAP,
            },
        },
    },
}
SB_SCHEMA: dict[str, Any] = {
    "name": "OVN_Southbound",
    "version": "20.0.0",
    "tables": {
        "Logical_Flow": {
            "isRoot": True,
            "columns": {
                "priority": {"type": "integer"},
                "match": _TEXT,
                "actions": _TEXT,
                "external_ids": _MAP,
            },
        },
        "Chassis": {"isRoot": True, "columns": {"name": _TEXT, "encaps": _to("Encap")}},
        "Encap": {"columns": {"type": _TEXT, "ip": _TEXT}},
    },
}
ACL_FLOWS = [["external_ids", "includes", ["map", [["stage-name", "ls_out_acl"]]]]]


def drops(actions: str) -> bool:
    """Whether the logical flow of an ACL drops: one without an action up to 23.03, then a verdict
    in a register.  Source: ovn-northd(8)."""
    return "reg8[17] = 1" in actions or "next" not in actions


class Northbound(Servers):
    subject: ClassVar[str] = "OVN's northbound database"
    schema: ClassVar[dict[str, Any]] = NB_SCHEMA
    kinds: ClassVar[frozenset[str]] = KINDS

    def __init__(self, remote: str, prefix: str) -> None:
        super().__init__(remote)
        self._prefix = prefix
        self.touched = False  # a row with our mark has changed

    def _open(self) -> Copy:
        idl = super()._open()
        idl.notify = self._notify
        return idl

    def _notify(self, _event: str, row: Row, _updates: object = None) -> None:
        marks = getattr(row, "external_ids", None) or {}
        if any(str(v).startswith(self._prefix) for k, v in marks.items() if k.startswith(MARK)):
            self.touched = True

    def _met_another(self, error: str) -> bool:
        return "duplicate uuid" in error or super()._met_another(error)

    def _unanswered(self) -> str:
        return (
            f"OVN's northbound database does not answer at {self.remote}: networks of driver ovn "
            "go on, and cannot be changed until it is back"
        )


class Southbound(Servers):
    """Logical flows that ACLs become, of all networks of the deployment, and its chassis."""

    subject: ClassVar[str] = "OVN's southbound database"
    schema: ClassVar[dict[str, Any]] = SB_SCHEMA
    kinds: ClassVar[frozenset[str]] = frozenset({"logicalacl"})

    def _open(self) -> Copy:
        idl = super()._open()
        idl.cond_change("Logical_Flow", ACL_FLOWS)
        return idl

    def _unanswered(self) -> str:
        return (
            f"OVN's southbound database does not answer at {self.remote}: whether rules are in "
            "force cannot be found out"
        )


class Databases:
    """Those of this host, as its Open vSwitch names them now.  Thread-safe.

    `engine`: of the owner marks here.  `changed` is called, in a thread of its own, when rows with
    such a mark have changed in the northbound database.
    """

    def __init__(self, local: Ovsdb, engine: str = "0") -> None:
        self.local = local
        self.engine = engine
        self.changed: Callable[[], None] = lambda: None
        self._open: dict[type[Connection], Connection] = {}
        self._lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """Begins the owner marks of this engine."""
        return f"netkit:{self.engine}:"

    def ids(self) -> Mapping[str, str]:
        """external_ids of Open vSwitch's row.  KernelError if it does not answer."""
        return self.local.view(lambda idl: dict(root(idl).external_ids))

    @property
    def chassis(self) -> str:
        """The name of this host's chassis; "" if it has none."""
        return self.ids().get(NAME_KEY, "")

    def northbound(self) -> Northbound | None:
        """None while no remote is set."""
        remote = self.ids().get(NB_KEY, "")
        found = self._connection(Northbound, remote, self._north) if remote else None
        assert found is None or isinstance(found, Northbound)
        return found

    def southbound(self) -> Southbound:
        remote = self.ids().get(SB_KEY, "")
        if not remote:
            raise KernelError(f"no chassis of OVN: Open vSwitch has no external_ids:{SB_KEY}")
        found = self._connection(Southbound, remote, Southbound)
        assert isinstance(found, Southbound)
        return found

    def _north(self, remote: str) -> Northbound:
        made = Northbound(remote, self.prefix)
        made.changed.append(lambda: self._notice(made))
        return made

    def _notice(self, connection: Northbound) -> None:
        if connection.touched:
            connection.touched = False
            self.changed()

    def _connection(
        self, kind: type[Connection], remote: str, make: Callable[[str], Connection]
    ) -> Connection:
        with self._lock:
            known = self._open.get(kind)
            if known is None or known.remote != remote:
                self._open[kind] = make(remote)
            found = self._open[kind]
        if known is not None and known is not found:
            known.close()
        return found

    def close(self) -> None:
        """End the connections; they are made again when needed."""
        with self._lock:
            found, self._open = list(self._open.values()), {}
        for each in found:
            each.close()
