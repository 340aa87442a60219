"""Rows of an OVSDB by a condition, over a connection of its own: for what is not worth a copy.

Source: RFC 7047, 5.2.2 Select.
"""

from __future__ import annotations

import errno
import importlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from netkit.errors import KernelError
from netkit.kernel.ovs.idl_poller import Poller

Json = Any
Rows = list[dict[str, Json]]


class Selection:
    """A connection, to the first server of `remote` that takes it.  For one thread."""

    def __init__(self, connection: Json, database: str, until: float) -> None:
        self._connection, self._database, self._until = connection, database, until

    def select(self, *queries: tuple[str, Json, Sequence[str]]) -> list[Rows]:
        """The rows of each (table, where, columns), at one point in time.  KernelError."""
        ops = [
            {"op": "select", "table": table, "where": where, "columns": list(columns)}
            for table, where, columns in queries
        ]
        message = importlib.import_module("ovs.jsonrpc").Message
        request = message.create_request("transact", [self._database, *ops])
        self._connection.send(request)
        answer = self._answer(request.id)
        failed = next((r for r in answer if not isinstance(r, dict) or "rows" not in r), None)
        if failed is not None or len(answer) != len(ops):
            raise KernelError(f"{self._database} refuses a question: {failed}")
        return [r["rows"] for r in answer]

    def _answer(self, ident: Json) -> list[Json]:
        while True:
            self._connection.run()
            error, message = self._connection.recv()
            if message is not None and message.id == ident and message.result is not None:
                return list(message.result)
            if error and message is None and error != errno.EAGAIN:
                raise KernelError(f"{self._database}: the connection was lost")
            if message is not None and message.id == ident:
                raise KernelError(f"{self._database} refuses a question: {message.error}")
            left = self._until - time.monotonic()
            if left <= 0:
                raise KernelError(f"{self._database} did not answer a question in time")
            if message is None:
                poller = Poller()
                self._connection.wait(poller)
                self._connection.recv_wait(poller)
                poller.block(left)


@contextmanager
def selection(remote: str, database: str, seconds: float) -> Iterator[Selection]:
    """All of it within `seconds`.  KernelError if no server takes the connection."""
    jsonrpc = importlib.import_module("ovs.jsonrpc")
    until = time.monotonic() + seconds
    for server in remote.split(","):
        stream = _connected(server, until)
        if stream is None:
            continue
        connection = jsonrpc.Connection(stream)
        try:
            yield Selection(connection, database, until)
        finally:
            connection.close()
        return
    raise KernelError(f"{database} does not answer at {remote}")


def _connected(server: str, until: float) -> Json | None:
    error, stream = importlib.import_module("ovs.stream").Stream.open(server)
    if stream is None:
        return None
    while (error := stream.connect()) == errno.EAGAIN and time.monotonic() < until:
        stream.run()
        poller = Poller()
        stream.run_wait(poller)
        stream.connect_wait(poller)
        poller.block(max(0.0, until - time.monotonic()))
    if error:
        stream.close()
        return None
    return stream
