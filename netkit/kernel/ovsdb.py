"""A thread that owns the connection to one host's ovsdb-server: a live copy, and transactions.

    callers --> jobs --> the thread: poll, take updates in, run one job after the other

A transaction is asked for as a function from the copy to what should change.  It must change
nothing where all is as it should be: OVSDB is at-least-once, so after a broken connection or a
race with another client it runs again, on a fresh copy.  Sources: RFC 7047; python-ovs, idl.py.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ovs.db.idl
import ovs.poller
import ovs.timeval

from netkit.errors import KernelError, Unreachable

DEFAULT = "unix:/run/openvswitch/db.sock"
CONNECT = 3.0  # seconds that a server gets to come back, and to answer
CONTENTS = 0.5  # seconds more for one that has begun to send its contents
ACKNOWLEDGE = 10.0  # seconds until ovs-vswitchd must have done what was asked for
AGAIN = 0.2  # seconds between attempts to connect; python-ovs itself waits 1 to 8
TRIES = 20  # transactions that met somebody else's
KEPT = frozenset({"ovsbridge", "ovsport", "ovsflows"})  # flows: their ports have names here
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Open_vSwitch": ("bridges", "next_cfg", "cur_cfg", "ovs_version"),
    "Bridge": ("name", "ports", "datapath_type", "fail_mode", "other_config", "external_ids"),
    "Port": ("name", "interfaces", "tag", "protected", "external_ids"),
    "Interface": (
        *("name", "type", "options", "mtu_request", "bfd", "external_ids"),
        *("ofport", "error", "bfd_status"),
    ),
}

# python-ovs has no types: an Idl with its tables, a Transaction, a Row.
Copy = Any
T = TypeVar("T")
Transaction = Any
Row = Any
Write = Callable[[Copy, Transaction], None]


@dataclass(slots=True)
class _Job:
    act: Callable[[], object]
    outcome: Future[Any] = field(default_factory=Future)


class Ovsdb:
    """Connects when first asked for anything, and again whenever the server comes back."""

    def __init__(self, remote: str = DEFAULT) -> None:
        self.remote = remote
        self.changed: list[Callable[[], None]] = []  # called in the thread, at every update
        self._jobs: deque[_Job] = deque()
        self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._idl: Copy = None
        self._tried = 0.0
        self._lost = 0.0  # since when there is no connection; 0 while there is one
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def folder(self) -> str:
        """Where the other sockets of this Open vSwitch are."""
        return os.path.dirname(self.remote.partition(":")[2])

    @property
    def in_use(self) -> bool:
        """Has anything been asked yet?"""
        return self._thread is not None

    def view(self, read: Callable[[Copy], T]) -> T:
        """What `read` makes of the live copy.  KernelError if the server does not answer."""
        return self._ask(lambda: read(self._connected()))

    def change(self, write: Write, *, wait: bool = True) -> None:
        """One transaction, all or nothing; returns when ovs-vswitchd has acted on it.

        KernelError if the server refuses it or somebody does not answer in time.
        """
        self._ask(lambda: self._change(write, wait))

    def start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="netkit-ovsdb", daemon=True)
                self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._ring()
        if self._thread is not None:
            self._thread.join()
        os.close(self._bell)
        os.close(self._rope)

    def _ask(self, act: Callable[[], T]) -> T:
        self.start()
        job = _Job(act)
        with self._lock:
            if self._closed:
                raise KernelError("netkit is shutting down: Open vSwitch was not asked")
            self._jobs.append(job)
        self._ring()
        result: T = job.outcome.result()
        return result

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b"x")

    # -- in the thread -------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            self._attempt()
            while self._jobs:
                job = self._jobs.popleft()
                try:
                    job.outcome.set_result(job.act())
                except BaseException as e:  # noqa: BLE001  raised again where the job came from
                    job.outcome.set_exception(e)
            self._step(time.monotonic() + 1.0 if self._up else time.monotonic() + AGAIN)
        for job in self._jobs:
            job.outcome.set_exception(KernelError("netkit is shutting down"))
        if self._idl is not None:
            self._idl.close()

    @property
    def _up(self) -> bool:
        return self._idl is not None and bool(self._idl._session.is_connected())

    def _attempt(self) -> None:
        """A fresh copy where there is no connection; not more often than makes sense."""
        now = time.monotonic()
        if self._up or (self._idl is not None and now - self._tried < AGAIN):
            return
        self._tried = now
        if self._idl is not None:
            self._idl.close()
            self._idl = None
        with suppress(OSError, ValueError):
            schema = ovs.db.idl.SchemaHelper(schema_json=_schema(self.remote))
            for table, columns in COLUMNS.items():
                schema.register_columns(table, list(columns))
            self._idl = ovs.db.idl.Idl(self.remote, schema)
            self._idl.run()

    def _step(self, deadline: float, transaction: Transaction = None) -> None:
        """Wait for something to happen, at most until `deadline`, and take it in."""
        poller = _Poller()
        poller.register(self._bell)
        if self._idl is not None:
            self._idl.wait(poller)
        if transaction is not None:
            transaction.wait(poller)
        poller.block(max(0.0, deadline - time.monotonic()))
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)
        if self._idl is None:
            return
        before = self._idl.change_seqno
        self._idl.run()
        if self._idl.change_seqno != before:
            for told in self.changed:
                told()

    def _connected(self) -> Copy:
        begin = time.monotonic()
        self._lost = self._lost or begin
        while not (self._up and self._idl.has_ever_connected() and root(self._idl) is not None):
            deadline = max(self._lost + CONNECT, begin + (CONTENTS if self._up else 0.0))
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"Open vSwitch does not answer at {self.remote}: is ovsdb-server running? "
                    "(netkitd --ovs-db says where it listens)",
                    KEPT,
                )
            self._step(min(deadline, time.monotonic() + AGAIN))
            self._attempt()
        self._lost = 0.0
        return self._idl

    def _change(self, write: Write, wait: bool) -> None:
        for _ in range(TRIES):
            idl = self._connected()
            transaction = ovs.db.idl.Transaction(idl)
            try:
                write(idl, transaction)
                if wait:
                    root(idl).increment("next_cfg")
                status = self._commit(transaction)
            except BaseException:
                transaction.abort()
                raise
            if status in {"success", "unchanged"}:
                if wait and status == "success":
                    self._acknowledged(transaction.get_increment_new_value())
                return
            if status != "try again":
                raise KernelError(f"Open vSwitch refuses: {status}: {transaction.get_error()}")
        raise KernelError(f"Open vSwitch: {TRIES} transactions met with other clients' changes")

    def _commit(self, transaction: Transaction) -> str:
        deadline = time.monotonic() + CONNECT
        while (status := transaction.commit()) == transaction.INCOMPLETE:
            if time.monotonic() > deadline:
                transaction.abort()
                late = f"ovsdb-server at {self.remote} did not answer a transaction"
                raise Unreachable(late, KEPT)
            self._step(deadline, transaction)
            if not self._up:
                transaction.abort()
                return "try again"
        return str(status)

    def _acknowledged(self, number: int) -> None:
        deadline = time.monotonic() + ACKNOWLEDGE
        while root(self._connected()).cur_cfg < number:
            if time.monotonic() > deadline:
                raise KernelError(
                    f"ovs-vswitchd did not act within {ACKNOWLEDGE:g} s: is it running?"
                )
            self._step(deadline)


class _Poller:
    """What `wait` of python-ovs wants of a poller, without select(2) and its 1024 files."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._until: float | None = None  # ms, as ovs.timeval tells the time

    def register(self, fd: int) -> None:
        self._poll.register(fd, select.POLLIN)

    def fd_wait(self, fd: Any, events: int) -> None:
        self._poll.register(fd if isinstance(fd, int) else fd.fileno(), events)

    def timer_wait(self, ms: float) -> None:
        self.timer_wait_until(ovs.timeval.msec() + ms)

    def timer_wait_until(self, ms: float) -> None:
        self._until = ms if self._until is None else min(ms, self._until)

    def immediate_wake(self) -> None:
        self._until = 0.0

    def block(self, seconds: float) -> None:
        ms = seconds * 1000
        if self._until is not None:
            ms = min(ms, max(0.0, self._until - ovs.timeval.msec()))
        self._poll.poll(ms)


def root(idl: Copy) -> Row:
    """The one row of Open_vSwitch; None until somebody has initialised the database."""
    return next(iter(idl.tables["Open_vSwitch"].rows.values()), None)


def rows(idl: Copy, table: str) -> Iterator[Row]:
    yield from list(idl.tables[table].rows.values())


def _schema(remote: str) -> object:
    """As the server has it: columns we name may be missing in an old one."""
    kind, _, where = remote.partition(":")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(CONNECT)
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
