"""A connection to any one of several OVSDB servers of one database: followers do as well."""

from __future__ import annotations

from typing import Any, ClassVar

from netkit.errors import KernelError, Unreachable
from netkit.kernel.ovs.idl import Connection, Copy, python_ovs

RETRY = (100, 1000)  # ms, shortest and longest pause between attempts to connect
PROBE = 5000  # ms of silence after which a server is asked if it is there


class Servers(Connection):
    """`remote`: tcp:IP:PORT, ssl:IP:PORT or unix:PATH, with commas between servers."""

    schema: ClassVar[dict[str, Any]]  # the tables and columns that are read and written
    connect: ClassVar[float] = 6.0  # an election takes one to four seconds
    roams: ClassVar[bool] = True  # and asks the next one only for what it missed
    kinds: ClassVar[frozenset[str]] = frozenset()  # of resources that are kept there

    def _open(self) -> Copy:
        ovs = python_ovs()
        schema = ovs.SchemaHelper(schema_json=self.schema)
        schema.register_all()
        idl = ovs.Idl(self.remote, schema, PROBE, leader_only=False)
        idl._session.reconnect.set_backoff(*RETRY)
        return idl

    def _ready(self, idl: Copy) -> bool:
        return bool(idl.state == idl.IDL_S_MONITORING)

    def _serves(self, idl: Copy) -> bool:
        session = idl._session
        if session.get_name() not in (remotes := self.remote.split(",")):
            return False
        session.remotes, session.next_remote = remotes, 0  # to reconnect to
        return True

    def _unreachable(self, message: str) -> KernelError:
        return Unreachable(message, self.kinds)

    def _met_another(self, error: str) -> bool:
        return any(word in error for word in ("constraint violation", "referential integrity"))
