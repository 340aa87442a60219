"""A thread that owns the connection to an OVSDB: a live copy, and transactions.

    callers --> jobs --> the thread: poll, take updates in, run one job after the other

A transaction is asked for as a function from the copy to what should change.  It must change
nothing where all is as it should be: OVSDB is at-least-once, so after a broken connection or a
race with another client it runs again, on a fresh copy.  Sources: RFC 7047; python-ovs, idl.py.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from netkit import threads
from netkit.errors import KernelError, NetkitError, unexpected
from netkit.kernel.ovs.idl_poller import Poller

CONTENTS = 0.5  # seconds more for a server that has begun to send its contents
AGAIN = 0.2  # seconds between attempts to connect; python-ovs itself waits 1 to 8
ECHO = "echo"  # the id of python-ovs's own, whose answer every copy ignores
TRIES = 20  # of a transaction that conflicts with another client's
BRIEF = 1.0  # seconds for a transaction after one that was not answered

# python-ovs has no types: an Idl with its tables, a Transaction, a Row.
Copy = Any
T = TypeVar("T")
Transaction = Any
Row = Any
Write = Callable[[Copy, Transaction], None]


def python_ovs() -> Any:
    """Return the module ovs.db.idl, imported when first needed: 23 modules, 1.4 MiB, 40 ms."""
    return importlib.import_module("ovs.db.idl")


@dataclass(slots=True)
class _Job:
    act: Callable[[], object]
    asked: float = field(default_factory=time.monotonic)
    outcome: Future[Any] = field(default_factory=Future)


@dataclass(slots=True)
class _Echo:
    """A question of a caller's whether the server is there; `over` by its answer."""

    until: float
    over: Future[None] = field(default_factory=Future)
    session: Any = None  # by which it was asked
    received: int = 0  # bytes, before


class Connection:
    """Connects when first asked for anything, and again whenever a server comes back.

    A subclass defines how to open a copy (`_open`), and the error messages.
    """

    subject: ClassVar[str]  # what does not answer, as people know it
    connect: ClassVar[float] = 3.0  # seconds that a server gets to come back, and to answer
    # Whether a copy connects to the next server by itself, before a caller waits for an answer.
    roams: ClassVar[bool] = False

    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.changed: list[Callable[[], None]] = []  # called in the thread, at every update
        self._jobs: deque[_Job] = deque()
        self._echoes: list[_Echo] = []
        self._bell = self._rope = -1  # until it is started
        self._idl: Copy = None
        self._tried = 0.0
        self._lost = 0.0  # since when there is no connection; 0 while there is one
        self._asked = 0.0  # when the job was that is being done
        self._silent = 0.0  # when a transaction was given up; 0 once one was answered
        self._mute = False  # the last echo was given up
        self._good = 0.0  # when the copy was last seen complete and live
        self._closed = False
        self._redirected = False  # `remote` is another than that of the copy
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def _open(self) -> Copy:
        """A new copy, about to be filled.  OSError or ValueError where there is no server."""
        raise NotImplementedError

    def _ready(self, idl: Copy) -> bool:
        """Whether the copy is complete and live."""
        raise NotImplementedError

    def _unanswered(self) -> str:
        """The error message where no server answers: why, and what to do."""
        raise NotImplementedError

    def _undecided(self) -> str:
        """The error message where a transaction is not answered in time."""
        return f"{self.subject} at {self.remote} did not answer a transaction"

    def _serves(self, idl: Copy) -> bool:
        """Whether the copy is one of `remote`, after a change of it."""
        return False

    def _unreachable(self, message: str) -> KernelError:
        """The error to raise where no server answers."""
        return KernelError(message)

    def _met_another(self, error: str) -> bool:
        """Whether a transaction was refused for a concurrent one of another client."""
        return False

    @property
    def in_use(self) -> bool:
        """Whether it has been used yet."""
        return self._thread is not None

    def view(self, read: Callable[[Copy], T], patience: float | None = None) -> T:
        """Return what `read` makes of the live copy.

        KernelError if the server does not answer, by default within `connect` seconds.
        """
        return self._ask(lambda: read(self._connected(patience=patience)))

    def transact(
        self, write: Write, patience: float | None = None, answer: float | None = None
    ) -> None:
        """Commit one transaction, all or nothing.

        KernelError if the server refuses it or does not answer in time; `patience` is for its
        coming back, `answer` for the answer, in seconds.
        """
        self._ask(lambda: self._change(write, patience, answer))

    def check(self, patience: float | None = None) -> None:
        """Wait until the server has answered an echo (RFC 7047, 4.1.11), by a live copy.

        KernelError after `patience` seconds, by default `connect`, and after BRIEF where that has
        been waited for in vain already.  The caller alone waits: other jobs of this connection are
        done meanwhile.
        """
        self.start()
        until = time.monotonic() + (self.connect if patience is None else patience)
        if self._mute:
            until = min(until, time.monotonic() + BRIEF)
        echo = _Echo(until)
        with self._lock:
            if self._closed:
                raise KernelError(f"netkit is shutting down: {self.subject} was not asked")
            self._echoes.append(echo)
            self._ring()
        echo.over.result()

    def start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                name = f"netkit-{self.subject}"
                self._thread = threads.looping(name, self._run, over=lambda: self._closed)
                self._thread.start()

    def redirect(self, remote: str) -> None:
        """Use this server from now on; what was asked for and not begun is asked there."""
        with self._lock:
            if remote == self.remote:
                return
            self.remote, self._redirected = remote, True
            if self._thread is not None and not self._closed:
                self._ring()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._thread is None:
            return
        self._ring()
        self._thread.join()
        self._refuse(KernelError("netkit is shutting down"))  # asked between two runs of the thread
        os.close(self._bell)
        os.close(self._rope)

    def _ask(self, act: Callable[[], T]) -> T:
        self.start()
        job = _Job(act)
        with self._lock:
            if self._closed:
                raise KernelError(f"netkit is shutting down: {self.subject} was not asked")
            self._jobs.append(job)
            self._ring()
        result: T = job.outcome.result()
        return result

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b"x")

    # -- in the thread -------------------------------------------------------

    def _run(self) -> None:
        """Serve jobs; called again, with a new copy, after an exception, which callers get."""
        why: KernelError = KernelError("netkit is shutting down")
        try:
            while not self._closed:
                self._attempt()
                while self._jobs:
                    self._do(self._jobs.popleft())
                    if self._redirected:
                        self._attempt()
                pause = AGAIN if self._echoing() or not self._up else 1.0
                self._step(time.monotonic() + pause)
        except BaseException as error:
            why = unexpected(error)
            raise
        finally:
            self._refuse(why)
            self._drop_copy()

    def _refuse(self, why: KernelError) -> None:
        with self._lock:
            echoes, self._echoes = self._echoes, []
        for echo in echoes:
            echo.over.set_exception(why)
        with suppress(IndexError):
            while True:
                self._jobs.popleft().outcome.set_exception(why)

    def _echoing(self) -> bool:
        """Ask what is to be asked, and finish what was answered or is late; is any left?"""
        with self._lock:
            echoes = self._echoes
        live = self._up and self._ready(self._idl)
        for echo in list(echoes):
            if live and self._is_answered(echo):
                self._mute = False
                echo.over.set_result(None)
            elif time.monotonic() >= echo.until:
                self._mute = True
                echo.over.set_exception(self._unreachable(self._unanswered()))
        with self._lock:
            self._echoes = [e for e in self._echoes if not e.over.done()]
            return bool(self._echoes)

    def _is_answered(self, echo: _Echo) -> bool:
        session = self._idl._session
        received = session.rpc.get_received_bytes()
        if echo.session is not session.rpc:
            echo.session, echo.received = session.rpc, received
            request = importlib.import_module("ovs.jsonrpc").Message.create_request("echo", [])
            request.id = ECHO
            session.send(request)
        return bool(received > echo.received)

    def _do(self, job: _Job) -> None:
        self._asked = job.asked
        try:
            job.outcome.set_result(job.act())
        except NetkitError as e:
            job.outcome.set_exception(e)
        except BaseException as e:  # noqa: BLE001  raised again where the job came from
            job.outcome.set_exception(unexpected(e))
            self._drop_copy()  # its state is unknown

    def _drop_copy(self) -> None:
        idl, self._idl = self._idl, None
        if idl is not None:
            threads.attempt(f"closing the connection to {self.subject}", idl.close)

    @property
    def _up(self) -> bool:
        return self._idl is not None and bool(self._idl._session.is_connected())

    def _attempt(self) -> None:
        """A fresh copy where there is no connection; not more often than makes sense."""
        now = time.monotonic()
        if self._redirected:
            self._redirected = False
            if self._idl is not None and not self._serves(self._idl):
                self._drop_copy()
        if self.roams:
            self._lost = self._lost or now
        if self._idl is not None:
            if self._up and self._ready(self._idl):
                self._good = now
                self._lost = 0.0
                return
            patience = self.connect if self._up or self.roams else AGAIN
            if now - max(self._good, self._tried) < patience:
                return
            self._idl.close()
            self._idl = None
        self._tried = now
        with suppress(OSError, ValueError):
            self._idl = self._open()
            self._idl.run()

    def _step(self, deadline: float, transaction: Transaction = None) -> None:
        """Wait for something to happen, at most until `deadline`, and take it in."""
        poller = Poller()
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
            # An exception of a notice must not end this thread, on which all callers wait.
            for notice in self.changed:
                threads.attempt(f"a notice of a change in {self.subject}", notice)

    def _connected(self, begin: float = 0.0, patience: float | None = None) -> Copy:
        """A live copy, for a job that began then, or begins now."""
        begin = begin or time.monotonic()
        patience = self.connect if patience is None else patience
        self._lost = min(self._lost or begin, begin)
        while not (self._up and self._ready(self._idl)):
            deadline = max(self._lost + patience, begin + (CONTENTS if self._up else 0.0))
            if time.monotonic() >= deadline or self._closed:
                raise self._unreachable(self._unanswered())
            self._step(min(deadline, time.monotonic() + AGAIN))
            self._attempt()
        self._lost = 0.0
        return self._idl

    def _change(
        self, write: Write, patience: float | None = None, answer: float | None = None
    ) -> Transaction:
        """The transaction, done; None if there was nothing to do."""
        # Several callers queue for this thread: where the answer to one is missing, the next ones
        # would each wait the whole time limit again.
        if self._asked < self._silent:  # it waited for another, which was not answered
            raise self._unreachable(self._unanswered())
        begin = time.monotonic()
        for _ in range(TRIES):
            idl = self._connected(begin, patience)
            transaction = python_ovs().Transaction(idl)
            seqno = idl.change_seqno
            try:
                write(idl, transaction)
                status = self._commit(transaction, begin, answer)
            except BaseException:
                transaction.abort()
                raise
            if status in {"success", "unchanged"}:
                return transaction if status == "success" else None
            error = str(transaction.get_error() or "")
            if status != "try again" and not self._met_another(error):
                raise KernelError(f"{self.subject} refuses: {status}: {error}")
            if idl.change_seqno == seqno:  # what it met is still on its way to us
                self._step(time.monotonic() + AGAIN)
        raise KernelError(f"{self.subject}: {TRIES} transactions conflicted with other clients")

    def _commit(self, transaction: Transaction, begin: float, answer: float | None) -> str:
        now = time.monotonic()
        deadline = max(begin + self.connect, now + self.connect / 2)
        deadline = now + answer if answer is not None else deadline
        deadline = now + BRIEF if self._silent else deadline
        while (status := transaction.commit()) == transaction.INCOMPLETE:
            if self._closed:
                raise KernelError(f"{self.subject} did not answer until it was no longer asked")
            if time.monotonic() > deadline:
                self._silent = time.monotonic()
                if self.roams:
                    self._idl.force_reconnect()
                silent = self._unreachable(self._undecided())
                silent.unsure = True  # sent, and without a reply: it may be done all the same
                raise silent
            self._step(deadline, transaction)
            if not self._up:
                transaction.abort()
                return "try again"
        if status in {transaction.SUCCESS, transaction.ERROR}:
            self._silent = 0.0
        return str(status)


def rows(idl: Copy, table: str) -> Iterator[Row]:
    yield from list(idl.tables[table].rows.values())
