"""A caller that waits for a thread of ours gets a result, an error, or that the thread ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from netkit import threads
from netkit.errors import KernelError, NetkitError
from netkit.ipam.dhcp_leases import DhcpLeases, NoWire
from netkit.kernel.ovs.idl import Connection
from netkit.kernel.segment import announce
from netkit.kernel.segment.announce import Announcer
from netkit.reconcile.converge import Change, ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.reconcile.resync import ResyncLoop
from netkit.store import Database
from netkit.testing.kernel import FakeKernel
from runtime.lifecycle.supervisor import Supervisor
from runtime.network import name_publisher
from runtime.network.name_publisher import DnsPublisher

PATIENCE = 20.0  # seconds; nothing here takes a tenth of one
FAULTS = [OSError(5, "Input/output error"), RuntimeError("defect"), KeyError("x")]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(threads, "LOOK", 0.001)
    monkeypatch.setattr(name_publisher, "AGAIN", 0.001)
    monkeypatch.setattr(announce, "AFTER", (0.0, 0.001))


def _answer(act: Callable[[], object]) -> object:
    """Return what it returns or raises, on another thread: a hang fails the test."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(act).result(PATIENCE)
    except TimeoutError:
        pytest.fail("it hangs")
    except Exception as error:
        return error
    finally:
        pool.shutdown(wait=False)


# -- OVSDB ------------------------------------------------------------------------


class Copy:
    """Stands in for an IDL of python-ovs; raises `fault` when it is run."""

    def __init__(self, fault: Exception | None) -> None:
        self.fault, self.change_seqno = fault, 0
        self._session = SimpleNamespace(is_connected=lambda: True)

    def run(self) -> None:
        if self.fault:
            raise self.fault
        self.change_seqno += 1

    def wait(self, poller: Any) -> None:
        poller.immediate_wake()

    def close(self) -> None:
        return None


class Server(Connection):
    """A server whose first IDL is broken."""

    subject = "a test database"

    def __init__(self, fault: Exception | None) -> None:
        super().__init__("unix:/nosuch")
        self.fault = fault
        self.copies = 0

    def _open(self) -> Any:
        self.copies += 1
        return Copy(self.fault if self.copies == 1 else None)

    def _ready(self, idl: Any) -> bool:
        return True

    def _unanswered(self) -> str:
        return "no answer"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_defect_in_the_databases_thread_reaches_who_waits_and_a_new_copy_serves(
    fault: Exception,
) -> None:
    server = Server(fault)
    answers = [_answer(lambda: server.view(lambda idl: "seen")) for _ in range(3)]
    assert answers[-1] == "seen"
    assert all(a == "seen" or isinstance(a, NetkitError) for a in answers)
    server.close()
    assert server.copies == 2


def test_a_defect_in_a_callback_does_not_end_the_databases_thread() -> None:
    server = Server(None)
    server.changed.append([].pop)
    fault = RuntimeError("defect")

    def broken(idl: Any) -> None:
        raise fault

    answer = _answer(lambda: server.view(broken))
    assert isinstance(answer, KernelError)
    assert answer.__cause__ is fault
    assert _answer(lambda: server.view(lambda idl: "seen")) == "seen"
    server.close()
    assert isinstance(_answer(lambda: server.view(lambda idl: "seen")), KernelError)


def test_who_asks_the_database_between_two_runs_of_its_thread_is_answered_at_its_end() -> None:
    """After a defect the thread pauses; it does not run again once the connection is closed."""
    server = Server(None)
    server._bell, server._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    server._thread = threading.Thread(target=int)
    server._thread.start()
    server._thread.join()
    found: list[object] = []

    def ask() -> None:
        try:
            found.append(server.view(lambda idl: "seen"))
        except KernelError as error:
            found.append(str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while not server._jobs:
        time.sleep(0.001)
    server.close()
    asking.join(10)
    assert found == ["netkit is shutting down"]


# -- the kernel's worker -------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_defect_in_the_workers_own_loop_reaches_who_waits(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tasks: object) -> None:
        monkeypatch.undo()
        raise fault

    monkeypatch.setattr("netkit.reconcile.queue._groups", broken)
    with ReconcileQueue(FakeKernel(), ownership("0", "/run")) as worker:
        first = _answer(lambda: worker.converge(Change.of({})))
        assert isinstance(first, KernelError)
        assert first.__cause__ is fault
        assert _answer(lambda: worker.converge(Change.of({}))) == ()


# -- names ------------------------------------------------------------------------


class Names(DnsPublisher):
    """A publisher whose resolver raises `faults`, one after the other, then accepts messages."""

    def __init__(self, *faults: BaseException) -> None:
        super().__init__(SimpleNamespace(dns=Path("/nosuch")))  # type: ignore[arg-type]
        self.faults = list(faults)
        self.taken: list[set[str]] = []
        self.done = threading.Event()
        networks = SimpleNamespace(find=lambda ref: SimpleNamespace(builtin=False))
        self.connect(networks, None, None)  # type: ignore[arg-type]

    def _update_resolver(self, changed: set[str], left: set[str]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        if changed:
            self.taken.append(changed)
            self.done.set()


def _endpoint(network: str) -> Any:
    return SimpleNamespace(network=network, sandbox="s", engine="")


def test_a_caller_that_waits_for_names_gets_the_error_and_they_are_tried_again() -> None:
    names = Names(RuntimeError("defect"))
    names.publish([_endpoint("n1")], [])
    answer = _answer(names.flush)
    assert answer is None or isinstance(answer, KernelError)  # it may have been tried again by now
    assert names.done.wait(PATIENCE)
    assert names.taken[0] == {"n1"}
    names.close()


def test_a_caller_that_waits_for_names_when_netkit_ends_gets_an_error() -> None:
    names = Names()
    names.close()
    names.publish([_endpoint("n1")], [])
    answer = _answer(names.flush)
    assert isinstance(answer, KernelError)
    assert "shutting down" in str(answer)


# -- what runs by itself ---------------------------------------------------------------


def test_one_announcement_that_fails_does_not_prevent_the_rest() -> None:
    sent: list[str] = []
    done = threading.Event()

    def send(ns: str, link: str, address: Any) -> None:
        if ns == "broken":
            raise RuntimeError("defect")
        sent.append(ns)
        if len(sent) == 2:
            done.set()

    announcer = Announcer(send)
    announcer.soon("broken", "eth0", None)  # type: ignore[arg-type]
    announcer.soon("good", "eth0", None)  # type: ignore[arg-type]
    assert done.wait(PATIENCE)


class FailingWatch:
    """A watch that receives no events."""

    def wait(self, seconds: float) -> bool:
        raise OSError(9, "Bad file descriptor")

    def wake(self) -> None:
        return None

    def close(self) -> None:
        return None


def test_a_guard_whose_watch_fails_looks_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netkit.reconcile.resync.LONGEST", 0.001)
    looks: list[int] = []
    done = threading.Event()

    class Repairs:
        def repair(self) -> tuple[tuple[()], bool]:
            looks.append(1)
            if len(looks) == 2:
                done.set()
            raise RuntimeError("defect")

    guard = ResyncLoop(Repairs(), FailingWatch())
    guard.start()
    assert done.wait(PATIENCE)
    assert _answer(guard.close) is None


def test_a_lease_that_cannot_be_renewed_does_not_hinder_other_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "db")
    leases = DhcpLeases(database, NoWire(), now=lambda: 0.0, random=lambda n: 0)
    lease = SimpleNamespace(address="10.0.0.2/24")
    held = [SimpleNamespace(endpoint=e, lease=lease) for e in ("broken", "good")]
    renewed: list[str] = []
    done = threading.Event()

    def renew(one: Any) -> None:
        if one.endpoint == "broken":
            raise RuntimeError("defect")
        renewed.append(one.endpoint)
        done.set()

    monkeypatch.setattr(leases, "_all", lambda: held)
    monkeypatch.setattr(leases, "_renewed", renew)
    leases.start()
    assert done.wait(PATIENCE)
    assert _answer(leases.close) is None
    database.close()


@pytest.mark.parametrize("limit", [None, 9.3e9, 9.3e18])
def test_an_end_is_waited_for_with_any_limit(limit: float | None) -> None:
    runs = Supervisor(Mock(), Mock(), Mock(), Mock(), Mock())
    c = Mock()
    c.state.alive, c.state.pid = True, 7

    def end() -> None:
        c.state.alive = False
        runs._tell_ended(c)

    timer = threading.Timer(0.02, end)
    timer.start()
    assert _answer(lambda: runs.wait_end(c, 7, limit)) is True
    timer.join()
