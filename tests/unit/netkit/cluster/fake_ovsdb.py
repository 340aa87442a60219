"""An OVSDB with our schema in memory: clients' copies become stale, commits detect that.

As strict as the real one: unique indexes, strong references, maxRows and verified columns.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from netkit.cluster.schema import SCHEMA

Write = Callable[[Any, Any], None]
TABLES = SCHEMA["tables"]
DEFAULTS = {"string": "", "integer": 0}


class Refused(Exception):
    """Another client's transaction was faster."""


def _reference(table: str, column: str) -> dict[str, Any] | None:
    kind = TABLES[table]["columns"][column]["type"]
    return kind if isinstance(kind, dict) and "refTable" in str(kind) else None


class Row:
    def __init__(self, idl: Idl, table: str, uuid: str, values: dict[str, Any]) -> None:
        self.__dict__.update(_idl=idl, _table=table, uuid=uuid, _values=values, _deleted=False)

    def __getattr__(self, column: str) -> Any:
        assert not self._deleted, "a deleted row was read"
        value = self._values[column]  # KeyError: not written yet, as with the real one
        kind = _reference(self._table, column)
        if kind is None:
            return value
        rows = self._idl.tables[kind["key"]["refTable"]].rows
        return rows[value] if kind["min"] else [rows[v] for v in value]

    def __setattr__(self, column: str, value: Any) -> None:
        assert column in TABLES[self._table]["columns"]
        if isinstance(value, Row):
            value = value.uuid
        elif isinstance(value, list):
            value = [v.uuid if isinstance(v, Row) else v for v in value]
        self._values[column] = value
        self._idl.changes.setdefault((self._table, self.uuid), {})[column] = value

    def verify(self, column: str) -> None:
        self._idl.verified[self._table, self.uuid, column] = self._values[column]

    def delete(self) -> None:
        self.__dict__["_gone"] = True
        del self._idl.tables[self._table].rows[self.uuid]
        self._idl.changes[self._table, self.uuid] = None


@dataclass
class Table:
    name: str
    rows: dict[str, Row] = field(default_factory=dict)


class Idl:
    """One client's copy of the rows and its pending changes; also its transaction."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.changes: dict[tuple[str, str], dict[str, Any] | None] = {}
        self.verified: dict[tuple[str, str, str], Any] = {}
        self.tables = {name: Table(name) for name in TABLES}
        for name, rows in copy.deepcopy(server.rows).items():
            self.tables[name].rows = {u: Row(self, name, u, v) for u, v in rows.items()}

    def insert(self, table: Table) -> Row:
        row = Row(self, table.name, f"u{next(self._server.numbers)}", {})
        self.changes[table.name, row.uuid] = {}
        return row


class Server:
    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.rows: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TABLES}
        self.writes = 0

    def copy(self) -> Idl:
        return Idl(self)

    def run(self, write: Write, idl: Idl | None = None) -> None:
        """Run a transaction as the client does: on `idl` if given, and again on fresh copies."""
        for _ in range(20):
            idl = idl or self.copy()
            write(idl, idl)
            try:
                return self._commit(idl)
            except Refused:
                idl = None
        raise AssertionError("it never succeeds")

    def _commit(self, idl: Idl) -> None:
        rows = copy.deepcopy(self.rows)
        for (table, uuid, column), value in idl.verified.items():
            if rows[table].get(uuid, {}).get(column) != value:
                raise Refused(f"{table}.{column} is another by now")
        for (table, uuid), values in idl.changes.items():
            if values is None:
                rows[table].pop(uuid, None)
            elif uuid in rows[table]:
                rows[table][uuid].update(values)
            else:
                rows[table][uuid] = {
                    c: values.get(c, _default(table, c)) for c in TABLES[table]["columns"]
                }
        _check(rows)
        self.writes += bool(idl.changes)
        self.rows = rows


def _default(table: str, column: str) -> Any:
    kind = TABLES[table]["columns"][column]["type"]
    return DEFAULTS[kind] if isinstance(kind, str) else []


def _check(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    for table, spec in TABLES.items():
        if len(rows[table]) > spec.get("maxRows", len(rows[table])):
            raise Refused(f"{table} is full")
        for index in spec.get("indexes", ()):
            keys = [tuple(str(row[c]) for c in index) for row in rows[table].values()]
            if len(keys) != len(set(keys)):
                raise Refused(f"{table}: constraint violation")
        for column in spec["columns"]:
            kind = _reference(table, column)
            if kind is None:
                continue
            for row in rows[table].values():
                targets = [row[column]] if kind["min"] else row[column]
                if not {*targets} <= rows[kind["key"]["refTable"]].keys():
                    raise Refused(f"{table}.{column}: referential integrity violation")
