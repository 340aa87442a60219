"""The database of one host's Open vSwitch: changes are done when ovs-vswitchd has acted on them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar

from netkit.errors import KernelError, Unreachable
from netkit.kernel.ovs.bfd_sessions import BfdSessions
from netkit.kernel.ovs.idl import Connection, Copy, Row, Transaction, Write, python_ovs

DEFAULT = "unix:/run/openvswitch/db.sock"
ACKNOWLEDGE = 10.0  # seconds until ovs-vswitchd must have done what was asked for
KEPT = frozenset({"ovsbridge", "ovsport", "ovsflows"})  # flows: their ports have names here
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Open_vSwitch": ("bridges", "next_cfg", "cur_cfg", "ovs_version", "external_ids"),
    "Bridge": ("name", "ports", "datapath_type", "fail_mode", "other_config", "external_ids"),
    "Port": ("name", "interfaces", "tag", "protected", "external_ids"),
    "Interface": (
        *("name", "type", "options", "mac", "mtu_request", "bfd", "external_ids"),
        *("ofport", "error", "status", "bfd_status"),
    ),
}


class Ovsdb(Connection):
    subject: ClassVar[str] = "Open vSwitch"

    def __init__(self, remote: str = DEFAULT) -> None:
        super().__init__(remote)
        self.sessions = BfdSessions()

    @property
    def present(self) -> bool:
        """Whether there may be a server: its socket is there, if it has one."""
        kind, _, where = self.remote.partition(":")
        return kind != "unix" or os.path.exists(where)

    @property
    def folder(self) -> str:
        """The folder of the other sockets of this Open vSwitch."""
        return os.path.dirname(self.remote.partition(":")[2])

    def change(self, write: Write, *, wait: bool = True) -> None:
        """One transaction, all or nothing; returns when ovs-vswitchd has acted on it.

        KernelError if the server refuses it, or it or ovs-vswitchd does not answer in time.
        """

        def counted(idl: Copy, transaction: Transaction) -> None:
            write(idl, transaction)
            root(idl).increment("next_cfg")

        if wait:
            self._ask(lambda: self._acknowledged(self._change(counted)))
        else:
            self._ask(lambda: self._change(write))

    def _open(self) -> Copy:
        idl = python_ovs()
        schema = idl.SchemaHelper(schema_json=_schema(self.remote, self.connect))
        for table, columns in COLUMNS.items():
            schema.register_columns(table, list(columns))
        made = idl.Idl(self.remote, schema)
        self.sessions.forget()
        made.notify = self._noted  # it is called for each row that changes
        return made

    def _noted(self, event: str, row: Row, updates: Row | None = None) -> None:
        if row._table.name == "Interface":
            self.sessions.note(event, row)

    def _ready(self, idl: Copy) -> bool:
        return bool(idl.has_ever_connected()) and root(idl) is not None

    def _unanswered(self) -> str:
        return (
            f"Open vSwitch does not answer at {self.remote}: is ovsdb-server running? "
            "(set its address with netkitd --ovs-db)"
        )

    def _unreachable(self, message: str) -> KernelError:
        return Unreachable(message, KEPT)

    def _acknowledged(self, transaction: Transaction) -> None:
        if transaction is None:
            return
        number = transaction.get_increment_new_value()
        deadline = time.monotonic() + ACKNOWLEDGE
        while root(self._connected()).cur_cfg < number:
            if time.monotonic() > deadline:
                raise KernelError(
                    f"ovs-vswitchd did not act within {ACKNOWLEDGE:g} s: is it running?",
                    unsure=True,
                )
            self._step(deadline)


def root(idl: Copy) -> Row:
    """The one row of Open_vSwitch; None until the database is initialised (ovs-vsctl init)."""
    return next(iter(idl.tables["Open_vSwitch"].rows.values()), None)


def _schema(remote: str, patience: float) -> object:
    """As the server has it: columns we name may be missing in an old one."""
    kind, _, where = remote.partition(":")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(patience)
        if kind == "unix":
            s.connect(where)
        elif kind == "tcp":
            host, _, port = where.rpartition(":")
            s.connect((host, int(port)))
        else:
            raise ValueError(f"{remote}: use unix:PATH or tcp:HOST:PORT")
        s.sendall(b'{"id":0,"method":"get_schema","params":["Open_vSwitch"]}')
        raw = b""
        while chunk := s.recv(1 << 16):
            raw += chunk
            with suppress(ValueError):
                return json.loads(raw)["result"]
    raise ValueError(f"{remote}: the connection was closed")
